"""`torrefy time`: each layer's milliseconds, what it computes and keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.cli.conftest import Run

import torrefy
from torrefy.train.timing import made_up, time_net

NET = """name: "n" layer { name: "d" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "l" type: "Input" top: "label" input_param { shape { dim: 2 } } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "ip" type: "InnerProduct" bottom: "c" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    return path


def test_each_layer_is_timed_and_counted(net: Path) -> None:
    timing = time_net(torrefy.load_net(net, phase="train"), iterations=2)
    by_name = {one.name: one for one in timing.layers}
    assert list(by_name) == ["d", "l", "c", "r", "ip", "loss"]
    conv = by_name["c"]
    assert (conv.shapes, conv.multiply_adds) == (((2, 4, 6, 6),), 2 * 4 * 36 * 27)
    assert (conv.parameters, conv.bytes) == (4 * 27 + 4, 4 * 2 * 4 * 36)
    assert by_name["r"].bytes == 0  # in place
    assert conv.forward > 0
    assert all(by_name[name].backward for name in ("c", "r", "ip", "loss"))
    assert by_name["d"].backward is None
    assert timing.forward > 0
    assert timing.backward is not None
    assert timing.inputs == {"data": (2, 3, 8, 8), "label": (2,)}
    alone = time_net(torrefy.load_net(net, phase="train"), iterations=1, backward=False)
    assert alone.backward is None
    assert all(one.backward is None for one in alone.layers)


def test_made_up_labels_are_classes_of_the_net(net: Path) -> None:
    labels = made_up(torrefy.load_net(net, shapes={"label": (2,)}))["label"]
    assert ((labels >= 0) & (labels < 5) & (labels == labels.round())).all()


def test_timing_leaves_params_and_gradients_alone(net: Path) -> None:
    built = torrefy.load_net(net, phase="train", seed=1)
    before = {name: p.detach().clone() for name, p in built.named_parameters()}
    time_net(built, iterations=1)
    for name, param in built.named_parameters():
        assert torch.equal(param, before[name])
        assert param.grad is None


def test_the_command_prints_a_table_and_json(run: Run, net: Path) -> None:
    result = run("time", str(net), "--iterations", "1", "--batch", "4", "--phase", "train")
    assert result.exit_code == 0
    head, *rows = result.stdout.splitlines()
    assert head.split() == [
        "layer", "type", "output", "forward", "backward", "share", "multiply-adds", "parameters",
        "memory",
    ]  # fmt: skip
    assert [row.split()[0] for row in rows[:6]] == ["d", "l", "c", "r", "ip", "loss"]
    assert "4x4x6x6" in rows[2]
    assert [row.split("  ")[0] for row in rows[7:]] == [
        "the layers", "the whole net", "inputs", "multiply-adds", "memory", "iterations",
    ]  # fmt: skip
    told = json.loads(run("time", str(net), "--iterations", "1", "--json", "--forward-only").stdout)
    assert (told["ok"], told["phase"], told["backward"]) == (True, "test", None)
    assert told["layers"][2]["multiply_adds"] == 2 * 4 * 36 * 27


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--iterations", "0"), 2, "--iterations"),
        (("--device", "cdua"), 1, 'there is no device "cdua" here'),
        (("--weights", "gone.caffemodel"), 1, "gone.caffemodel: no such file"),
        (("--shape", "dta=2x7"), 1, "dta"),
    ],
)
def test_slips_are_told(
    run: Run, net: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    result = run("time", str(net), *arguments)
    assert result.exit_code == code
    assert told in result.stderr
