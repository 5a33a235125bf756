"""Whole nets as ONNX: those that real Caffe computed, and every one in the zoo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.export.test_onnx import judged
from tests.golden.replay import Case
from tests.golden.test_nets import cases

from torrefy.export.onnx import TOLERANCE, export_onnx
from torrefy.export.parity import compare_layers
from torrefy.graph import State
from torrefy.net.net import compile_net
from torrefy.runtime.session import OnnxModel
from torrefy.schema import parse_text, read_text, upgrade

ZOO = Path(__file__).parents[2] / "zoo"


@pytest.mark.parametrize("folder", cases(), ids=lambda p: p.name)
def test_a_net_exports_with_the_numbers_of_caffe(folder: Path, tmp_path: Path) -> None:
    """Those that Caffe trained agree with PyTorch, as every export does; it has no others."""
    case = Case(folder)
    net = compile_net(upgrade(read_text(folder / "net.prototxt")), State("test"))
    case.set_params(net)
    blobs = judged(net)
    report = export_onnx(net, tmp_path / "m.onnx", blobs=blobs)
    assert report.difference <= TOLERANCE
    assert report.notes == ()
    if case.meta["phase"] == "TEST":
        model = OnnxModel(tmp_path / "m.onnx")
        found = model.run({n: v for n, v in case.group("in") if n in model.inputs})
        for name in blobs:
            expected = case.arrays[f"out:{name}"]
            np.testing.assert_allclose(found[name], expected, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("name", [p.parent.name for p in sorted(ZOO.glob("*/net.prototxt"))])
def test_a_net_of_the_zoo_exports_for_any_batch(name: str, tmp_path: Path) -> None:
    definition = upgrade(read_text(ZOO / name / "net.prototxt"))
    net = compile_net(definition, State("test"), seed=0)
    report = export_onnx(net, tmp_path / "m.onnx")
    assert report.difference <= TOLERANCE
    assert report.notes == ()
    for shapes in (report.inputs, report.outputs):
        assert {shape[0] for shape in shapes.values()} == {"batch"}
    x = {
        blob: np.random.default_rng(0).standard_normal((3, *shape[1:])).astype(np.float32)
        for blob, shape in net.inputs.items()
    }
    expected = net(**x)
    for blob, value in OnnxModel(tmp_path / "m.onnx").run(x).items():
        np.testing.assert_allclose(value, expected[blob].detach(), atol=TOLERANCE, err_msg=blob)


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_a_recurrent_net_takes_any_number_of_streams(kind: str, tmp_path: Path) -> None:
    text = (
        'layer { name: "in" type: "Input" top: "x" top: "cont" '
        "input_param { shape { dim: 4 dim: 2 dim: 3 } shape { dim: 4 dim: 2 } } }"
        f'layer {{ name: "h" type: "{kind}" bottom: "x" bottom: "cont" top: "h" recurrent_param {{ '
        'num_output: 5 weight_filler { type: "xavier" } } }'
    )
    net = compile_net(parse_text(text), State("test"), seed=0)
    report = export_onnx(net, tmp_path / "m.onnx")
    assert report.inputs == {"x": (4, "batch", 3), "cont": (4, "batch")}
    assert report.outputs == {"h": (4, "batch", 5)}
    random = np.random.default_rng(0)
    x = {
        "x": random.standard_normal((4, 7, 3)).astype(np.float32),
        "cont": random.integers(0, 2, (4, 7)).astype(np.float32),
    }
    found = OnnxModel(tmp_path / "m.onnx").run(x)["h"]
    np.testing.assert_allclose(found, net(**x)["h"].detach(), atol=1e-6)


def test_layers_whose_strides_were_moved_are_compared_as_far_as_they_can_be() -> None:
    def conv(name: str, bottom: str, given: str) -> str:
        return (
            f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" '
            f"convolution_param {{ num_output: 2 {given} "
            'weight_filler { type: "xavier" } } }'
        )

    text = (
        'layer { name: "in" type: "Input" top: "x" '
        "input_param { shape { dim: 1 dim: 2 dim: 9 dim: 9 } } }"
        + conv("a", "x", "kernel_size: 3 pad: 1")
        + conv("b", "a", "kernel_size: 1 stride: 2")
    )
    net = compile_net(parse_text(text), State("test"), seed=0)
    (only,) = compare_layers(net)
    assert (only.layer, only.departs()) == ("b", False)
