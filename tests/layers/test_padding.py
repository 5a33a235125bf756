"""Padding: its margins, its place before a convolution, in ONNX, and errors."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
import torch.nn.functional as F

from torrefy.errors import DefinitionError
from torrefy.export.onnx import export_onnx
from torrefy.graph import State
from torrefy.net.net import Net, compile_net
from torrefy.schema import parse_text

X = 'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {} }} }} }}\n'


def net_of(params: str, shape: str = "1 2 3 4", more: str = "") -> Net:
    dims = " ".join(f"dim: {dim}" for dim in shape.split())
    text = X.format(dims) + f'layer {{ name: "op" type: "Padding" bottom: "x" top: "y" {params} }}'
    return compile_net(parse_text(text + more, file="net.prototxt"), State("test"), seed=0)


def test_each_side_gets_its_own_margin() -> None:
    net = net_of("padding_param { pad_method: CONSTANT pad_l: 1 pad_r: 2 pad_t: 3 pad_value: 7 }")
    x = torch.rand(1, 2, 3, 4)
    y = net(x=x)["y"]
    assert net.shapes["y"] == y.shape == (1, 2, 6, 7)
    assert torch.equal(y[:, :, 3:, 1:5], x)
    assert (y[:, :, :3] == 7).all()
    assert (y[..., 0] == 7).all()
    assert (y[..., 5:] == 7).all()


def test_repeat_goes_on_with_the_edge() -> None:
    net = net_of("padding_param { pad_method: REPEAT pad_l: 2 pad_b: 1 }", "1 1 2 2")
    y = net(x=torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))["y"]
    assert y.tolist() == [[[[1, 1, 1, 2], [3, 3, 3, 4], [3, 3, 3, 4]]]]


def test_without_margins_the_top_is_memory_of_its_own() -> None:
    x = torch.rand(1, 2, 3, 4)
    for method in ("CONSTANT", "REPEAT"):
        y = net_of(f"padding_param {{ pad_method: {method} }}")(x=x)["y"]
        assert torch.equal(y, x)
        assert y.data_ptr() != x.data_ptr()


@pytest.mark.parametrize(("kernel", "before", "after"), [(3, 0, 1), (5, 1, 2)])
def test_before_a_convolution_it_is_tensorflows_same_and_exports_as_the_convolutions_own(
    kernel: int, before: int, after: int, tmp_path: Path
) -> None:
    net = net_of(
        f"padding_param {{ pad_method: CONSTANT pad_l: {before} pad_t: {before} pad_r: {after} "
        f"pad_b: {after} }}",
        "1 2 8 6",
        'layer { name: "conv" type: "Convolution" bottom: "y" top: "conv" convolution_param { '
        f'num_output: 3 kernel_size: {kernel} stride: 2 weight_filler {{ type: "xavier" }} }} }}',
    )
    x = torch.rand(2, 2, 8, 6)
    weight, bias = net.params["conv"]
    whole = F.conv2d(F.pad(x, (before, after) * 2), weight, bias)
    assert torch.allclose(net(x=x)["conv"], whole[..., ::2, ::2], atol=1e-6)
    assert net.shapes["conv"] == (1, 3, 4, 3)
    report = export_onnx(net, tmp_path / "m.onnx")
    assert report.difference <= 1e-6
    (node,) = onnx.load(tmp_path / "m.onnx").graph.node
    pads = next(a.ints for a in node.attribute if a.name == "pads")
    assert (node.op_type, list(pads)) == ("Conv", [before, before, after, after])


@pytest.mark.parametrize("method", ["CONSTANT pad_value: 2", "REPEAT"])
def test_it_exports_alone(method: str, tmp_path: Path) -> None:
    net = net_of(f"padding_param {{ pad_method: {method} pad_l: 1 pad_b: 2 }}")
    assert export_onnx(net, tmp_path / "m.onnx").difference == 0


@pytest.mark.parametrize(
    ("params", "shape", "message"),
    [
        ("", "1 2 3 4", 'net.prototxt:2:1: layer "op": pad_method is missing. '
         "Give padding_param { pad_method: CONSTANT }, or REPEAT."),
        ("padding_param { pad_method: REPEAT pad_value: 1 }", "1 2 3 4",
         'net.prototxt:2:103: layer "op": REPEAT takes no pad_value'),
        ("padding_param { pad_method: REPEAT }", "1 2",
         'net.prototxt:2:44: layer "op": Padding takes 4 axes (N, C, H, W), the bottom is 1x2'),
        ("padding_param { pad_method: REFLECT }", "1 2 3 4",
         'net.prototxt:2:85: layer "op": "pad_method" takes one of CONSTANT, REPEAT; '
         "found REFLECT"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_told(params: str, shape: str, message: str) -> None:
    with pytest.raises(DefinitionError) as error:
        net_of(params, shape)
    assert str(error.value) == message
