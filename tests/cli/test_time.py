"""`torrefy time`: the table, its JSON, what data layers are given, and slips."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from tests.cli.conftest import Run, Script

import torrefy

TRAIN_VAL = (
    'layer { name: "data" type: "Data" top: "data" top: "label"\n'
    '  data_param { source: "no_lmdb" batch_size: 4 backend: LMDB } }\n'
    'layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"\n'
    "  convolution_param { num_output: 4 kernel_size: 3 } }\n"
    'layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }\n'
    'layer { name: "scale1" type: "Scale" bottom: "conv1" top: "conv1" }\n'
    'layer { name: "ip" type: "InnerProduct" bottom: "conv1" top: "ip"\n'
    "  inner_product_param { num_output: 3 } }\n"
    'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }\n'
    'layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy"\n'
    "  include { phase: TEST } }\n"
)
SHAPE = ("--shape", "data=4x3x8x8")
FEW = ("--iterations", "2")


@pytest.fixture
def train_val(tmp_path: Path) -> Path:
    path = tmp_path / "train_val.prototxt"
    path.write_text(TRAIN_VAL)
    return path


@pytest.mark.usefixtures("train_val")
def test_json_has_every_number_of_a_training_net_whose_data_are_not_there(run: Run) -> None:
    result = run("time", "train_val.prototxt", *SHAPE, *FEW, "--phase", "train", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert {k: told[k] for k in ("ok", "model", "phase", "device", "gpu", "iterations")} == {
        "ok": True, "model": "train_val.prototxt", "phase": "train", "device": "cpu", "gpu": None,
        "iterations": 2,
    }  # fmt: skip
    assert told["inputs"] == {"data": [4, 3, 8, 8], "label": [4]}
    assert told["forward_backward_ms"] >= told["backward_ms"] > 0 < told["forward_ms"]
    assert told["total_ms"] > told["forward_backward_ms"]
    layers = {layer["name"]: layer for layer in told["layers"]}
    assert list(layers) == ["data", "conv1", "bn1", "scale1", "ip", "loss"]
    assert sum(layer["forward_ms"] or 0 for layer in told["layers"]) == pytest.approx(
        told["layers_forward_ms"]
    )
    assert sum(layer["share"] for layer in told["layers"]) == pytest.approx(1)
    assert told["slowest"] == max(layers, key=lambda name: layers[name]["share"])
    assert layers["scale1"] == {
        "name": "scale1", "type": "Scale", "shapes": [[4, 4, 6, 6]], "forward_ms": None,
        "backward_ms": None, "part_of": "bn1", "multiply_adds": 0, "parameters": 4,
        "activation_bytes": 0, "share": 0,
    }  # fmt: skip
    assert told["multiply_adds"] == 4 * 4 * 36 * 27 + 4 * 3 * 144
    assert told["parameters"] == 4 * 27 + 4 + 4 + 3 * 144 + 3


@pytest.mark.usefixtures("train_val")
def test_the_table_tells_what_is_fused_and_the_totals(run: Run) -> None:
    lines = run("time", "train_val.prototxt", *SHAPE, *FEW).stdout.splitlines()
    table = {line.split()[0]: line.split() for line in lines[1 : lines.index("")]}
    assert table["scale1"][:7] == ["scale1", "Scale", "4x4x6x6", "in", "bn1", "-", "-"]
    assert table["data"][:5] == ["data", "Data", "4x3x8x8,", "4", "-"]
    totals = {line[:17].strip(): line[18:] for line in lines[lines.index("") + 1 :]}
    assert list(totals) == [
        "inputs", "device", "slowest", "forward pass", "backward pass", "forward-backward",
        "total time", "multiply-adds", "parameters", "activations",
    ]  # fmt: skip
    assert totals["inputs"] == "data 4x3x8x8, label 4, in phase test"
    assert totals["slowest"].endswith("% of the time of all layers")
    assert totals["multiply-adds"] == "17,280 in a forward pass"
    assert totals["total time"].endswith(" s for 2 passes, 2 before")


@pytest.mark.usefixtures("lenet")
def test_without_backward_passes_none_are_told(run: Run) -> None:
    result = run("time", "lenet.prototxt", *FEW, "--forward-only")
    assert "backward pass" not in result.stdout
    told = json.loads(run("time", "lenet.prototxt", *FEW, "--forward-only", "--json").stdout)
    assert told["backward_ms"] is told["forward_backward_ms"] is None
    assert {layer["backward_ms"] for layer in told["layers"]} == {None}


@pytest.mark.usefixtures("lenet")
def test_sorted_the_slowest_is_first(run: Run) -> None:
    told = json.loads(run("time", "lenet.prototxt", *FEW, "--sort", "--json").stdout)
    shares = [layer["share"] for layer in told["layers"]]
    assert shares == sorted(shares, reverse=True)
    assert told["layers"][0]["name"] == told["slowest"]


@pytest.mark.usefixtures("lenet", "train_val")
def test_the_batch_is_that_of_every_input_that_has_the_first_ones(run: Run) -> None:
    def inputs(*arguments: str) -> dict[str, list[int]]:
        return json.loads(run("time", *arguments, "--iterations", "1", "--json").stdout)["inputs"]

    assert inputs("lenet.prototxt", "--batch", "5") == {"data": [5, 1, 28, 28]}
    assert inputs("train_val.prototxt", *SHAPE, "--batch", "6") == {
        "data": [6, 3, 8, 8], "label": [6],
    }  # fmt: skip
    Path("two.prototxt").write_text(
        'layer { name: "in" type: "Input" top: "data" top: "box" top: "info" input_param {\n'
        "  shape { dim: 2 dim: 3 } shape { dim: 2 dim: 4 } shape { dim: 1 dim: 3 } } }\n"
    )
    assert inputs("two.prototxt", "--batch", "7") == {
        "data": [7, 3], "box": [7, 4], "info": [1, 3],
    }  # fmt: skip


def test_weights_are_loaded_and_a_zoo_model_needs_its_definition_alone(run: Run) -> None:
    Path("lenet.prototxt").write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 } } }\n'
        'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"\n'
        "  inner_product_param { num_output: 2 } }\n"
    )
    torrefy.load_net("lenet.prototxt").save("w.safetensors")
    assert run("time", "lenet.prototxt", *FEW, "--weights", "w.safetensors").exit_code == 0
    wrong = run("time", "lenet.prototxt", *FEW, "--weights", "no.safetensors")
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    told = run("time", "squeezenet_v1.1", "--iterations", "1", "--forward-only", "--json",
               "--shape", "data=1x3x64x64")  # fmt: skip
    assert json.loads(told.stdout)["parameters"] == 1_235_496


@pytest.mark.usefixtures("train_val")
def test_a_shape_that_only_the_data_tell_must_be_given(run: Run) -> None:
    for more in ((), ("--batch", "8")):
        result = run("time", "train_val.prototxt", *more)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == (
            'train_val.prototxt:1:1: layer "data": the shape of "data" is known only from the data '
            "(batch 4). Give it as --shape data=4xCxHxW, or "
            'shapes={"data": (4, C, H, W)}.\n'
        )


@pytest.mark.usefixtures("lenet")
def test_slips_are_told(run: Run) -> None:
    none = run("time", "lenet.prototxt", "--iterations", "0")
    assert none.exit_code == 2
    assert "Invalid value for '--iterations': 0 is not in the range x>=1." in none.stderr
    device = run("time", "lenet.prototxt", "--device", "gpu0")
    assert device.exit_code == 1
    assert device.stderr.startswith('error: there is no device "gpu0" here: ')
    meta = run("time", "lenet.prototxt", "--device", "meta")
    assert meta.stderr == "error: times are measured on CPUs and CUDA devices, not on meta\n"
    zoo = run("time", "squeezenet")
    assert zoo.exit_code == 1
    assert 'Did you mean "squeezenet_v1.1"?' in zoo.stderr
    Path("solver.prototxt").write_text('net: "lenet.prototxt" base_lr: 1\n')
    assert run("time", "solver.prototxt").stderr == (
        "solver.prototxt: this is a solver's definition, not a net's. "
        'Load its net, "lenet.prototxt".\n'
    )


def test_a_layer_that_can_not_take_what_is_made_up_says_so(run: Run) -> None:
    Path("net.prototxt").write_text(
        'layer { name: "data" type: "Input" top: "x" top: "i" input_param {\n'
        "  shape { dim: 2 dim: 3 } shape { dim: 2 } } }\n"
        'layer { name: "same" type: "Power" bottom: "i" top: "j" power_param { shift: 9 } }\n'
        'layer { name: "b" type: "BatchReindex" bottom: "x" bottom: "j" top: "y" }\n'
    )
    result = run("time", "net.prototxt")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        'error: layer "b": an index is not from 0 to below 2, the number of items: 9\n'
    )


@pytest.mark.usefixtures("lenet")
def test_the_installed_command_does_the_same(script: Script) -> None:
    result = script("time", "lenet.prototxt", *FEW, COLUMNS="80")
    assert (result.returncode, result.stderr) == (0, "")
    assert math.isclose(
        sum(float(line.split("%")[0].split()[-1]) for line in result.stdout.splitlines()
            if "%" in line and not line.startswith("slowest")),
        100, abs_tol=1,
    )  # fmt: skip
