"""Filter, BatchReindex, Embed, Tile, Im2col, Parameter: what reference cases can't say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from torrefy.errors import DefinitionError, LayerError
from torrefy.export.onnx import export_onnx
from torrefy.graph import State
from torrefy.net.net import Net, compile_net
from torrefy.runtime.session import OnnxModel
from torrefy.schema import parse_text


def net_of(kind: str, params: str, *shapes: str, top: str = "y") -> Net:
    lines = [
        f'layer {{ name: "in{i}" type: "Input" top: "in{i}" input_param {{ shape {{ '
        + " ".join(f"dim: {dim}" for dim in shape.split()) + " } } }"
        for i, shape in enumerate(shapes)
    ]  # fmt: skip
    ends = [f'bottom: "in{i}"' for i in range(len(shapes))] + [f'top: "{t}"' for t in top.split()]
    lines.append(f'layer {{ name: "op" type: "{kind}" {" ".join(ends)} {params} }}')
    return compile_net(parse_text("\n".join(lines)), State("test"), seed=0)


def test_a_filters_batch_is_the_definitions_until_data_come() -> None:
    net = net_of("Filter", "", "4 2", "4 3 2", "4 1 1", top="a b")
    assert (net.shapes["a"], net.shapes["b"]) == ((4, 2), (4, 3, 2))
    x = torch.rand(4, 2)
    for chosen in ([0, 0, 0, 0], [0, 1, 0, -2], [1, 1, 1, 1]):
        selector = torch.tensor(chosen, dtype=torch.float32)
        tops = net(in0=x, in1=torch.rand(4, 3, 2), in2=selector.view(4, 1, 1))
        assert torch.equal(tops["a"], x[selector != 0])
        assert len(tops["b"]) == len(tops["a"])


def test_an_exported_filter_filters(tmp_path: Path) -> None:
    net = net_of("Filter", "", "4 2", "4")
    export_onnx(net, tmp_path / "m.onnx")
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    selector = np.array([0, 1, 0, 0, 3, 0], np.float32)
    found = OnnxModel(tmp_path / "m.onnx").run({"in0": x, "in1": selector})["y"]
    np.testing.assert_array_equal(found, x[[1, 4]])


@pytest.mark.parametrize(
    ("kind", "params", "shapes", "message"),
    [
        (
            "Filter", "", ("4 2", "3"),
            "the selector has 3 items, bottom 0 is 4x2",
        ),
        (
            "Filter", "", ("4 2", "4 2"),
            "the selector, the last bottom, must be N or Nx1x…; it is 4x2",
        ),
        (
            "Filter", "", ("4 2", "4 2", "4"),
            "Filter makes a top of each bottom but the last, the selector; found 3 bottoms and 1 "
            "tops",
        ),
        (
            "BatchReindex", "", ("4 2", "4 1"),
            "bottom 1, the indices, must have 1 axis; it is 4x1",
        ),
        (
            "Embed", "embed_param { num_output: 3 }", ("4",),
            "input_dim is missing. Give embed_param { input_dim: … }.",
        ),
        (
            "Tile", "", ("4 2",),
            "tiles is missing. Give tile_param { tiles: … }.",
        ),
        (
            "Tile", "tile_param { tiles: 2 axis: 2 }", ("4 2",),
            "axis 2 of a bottom that has 2 axes",
        ),
        (
            "Im2col", "convolution_param { kernel_size: 3 }", ("4 2",),
            "Im2col takes spatial axes behind axis 1, the bottom is 4x2",
        ),
        (
            "Im2col", "convolution_param { kernel_size: 3 dilation: 2 }", ("4 2 4 5",),
            "the kernel of 5x5 is larger than the padded bottom of 4x5",
        ),
        (
            "Parameter", "", (),
            "the parameter has no shape. Give parameter_param { shape { dim: … } }.",
        ),
        (
            "Parameter", "parameter_param { shape { dim: 2 dim: -1 } }", (),
            "a shape can't have the dim -1",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(
    kind: str, params: str, shapes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DefinitionError) as error:
        net_of(kind, params, *shapes)
    assert str(error.value).split('layer "op": ', 1)[1] == message


@pytest.mark.parametrize("stray", [-1, 7])
def test_an_index_that_is_none_is_told(stray: int) -> None:
    index = torch.tensor([0, 1, stray], dtype=torch.float32)
    embed = net_of("Embed", "embed_param { input_dim: 7 num_output: 3 }", "3")
    with pytest.raises(
        LayerError, match=f"an index is not from 0 to below 7, the input_dim: {stray}$"
    ):
        embed(in0=index)
    reindex = net_of("BatchReindex", "", "7 2", "3")
    with pytest.raises(
        LayerError, match=f"an index is not from 0 to below 7, the number of items: {stray}$"
    ):
        reindex(in0=torch.rand(7, 2), in1=index)


def test_a_parameter_is_learned_and_starts_as_zeros() -> None:
    net = net_of("Parameter", "parameter_param { shape { dim: 2 dim: 3 } }")
    (value,) = net.params["op"]
    y = net()["y"]
    assert torch.equal(y, torch.zeros(2, 3))
    y.backward(torch.ones(2, 3))
    assert value.grad is not None
    assert torch.equal(value.grad, torch.ones(2, 3))


def columns(x: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """Patch by patch, along one spatial axis."""
    patches = [x[..., i : i + kernel[0]] for i in range(x.shape[-1] - kernel[0] + 1)]
    return torch.stack([p.flatten(1) for p in patches], 2)


def test_im2col_takes_one_spatial_axis_and_axes_before_the_channels() -> None:
    x = torch.rand(2, 3, 6)
    net = net_of("Im2col", "convolution_param { kernel_size: 4 }", "2 3 6")
    assert torch.equal(net(in0=x)["y"], columns(x, (4,)))
    net = net_of("Im2col", "convolution_param { kernel_size: 4 axis: 2 }", "5 2 3 6")
    many = torch.rand(5, 2, 3, 6)
    expected = columns(many.flatten(0, 1), (4,)).view(5, 2, 12, 3)
    assert torch.equal(net(in0=many)["y"], expected)
