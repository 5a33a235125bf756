"""The smaller layers: numbers worked out by hand, and files that agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torrefy
from torrefy.errors import DefinitionError
from torrefy.graph import State
from torrefy.net.compile import diagnose
from torrefy.net.net import Net
from torrefy.schema import parse_text

NetOf = Callable[..., Net]
ErrorOf = Callable[..., str]


@pytest.mark.parametrize(
    ("order", "axes"),
    [
        ((0, 2, 3, 1), (0, 2, 3, 1)),
        ((3,), (3, 0, 1, 2)),
        ((1, 0), (1, 0, 2, 3)),
        ((), (0, 1, 2, 3)),
    ],
)
def test_permute_puts_the_axes_in_order_and_the_rest_behind(
    net_of: NetOf, order: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    shape = (2, 3, 4, 5)
    params = "permute_param { " + " ".join(f"order: {axis}" for axis in order) + " }"
    net = net_of("Permute", "2x3x4x5", params=params)
    assert net.outputs["top0"] == tuple(shape[axis] for axis in axes)
    x = torch.arange(120.0).reshape(shape).requires_grad_()
    top = net(a=x)["top0"]
    for place in [(0, 0, 0, 0), (1, 2, 1, 3), (1, 2, 3, 4)]:
        assert top[tuple(place[axis] for axis in axes)] == x[place]
    (top * torch.arange(120.0).reshape(top.shape)).sum().backward()
    assert x.grad is not None
    # The gradient comes back to where the number came from.
    assert torch.equal(x.grad.permute(axes).flatten(), torch.arange(120.0))


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ("order: 4", "axis 4 of a bottom that has 4 axes"),
        ("order: 1 order: 1", "axis 1 stands twice in the order"),
        ("order: -1", "order must be at least 0, found -1"),
    ],
)
def test_an_order_that_is_none_is_told(error_of: ErrorOf, order: str, message: str) -> None:
    found = error_of("Permute", "2x3x4x5", params=f"permute_param {{ {order} }}")
    assert found == f'order: layer "op": {message}'


def test_channels_are_dealt_out_from_the_groups(net_of: NetOf, error_of: ErrorOf) -> None:
    net = net_of("ShuffleChannel", "1x6x1x1", params="shuffle_channel_param { group: 2 }")
    x = torch.arange(6.0).reshape(1, 6, 1, 1).requires_grad_()
    top = net(a=x)["top0"]
    assert top.flatten().tolist() == [0, 3, 1, 4, 2, 5]
    (top.flatten() * torch.arange(6.0)).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [0, 2, 4, 1, 3, 5]
    found = error_of("ShuffleChannel", "1x6x1x1", params="shuffle_channel_param { group: 4 }")
    assert found == 'group: layer "op": group 4 must divide the bottom\'s 6 channels'


EACH_PLACE = "across_spatial: false channel_shared: false"


def test_normalize_brings_the_channels_of_each_place_to_one_length(net_of: NetOf) -> None:
    net = net_of("Normalize", "1x2x1x2", params=f"norm_param {{ {EACH_PLACE} }}")
    (scale,) = net.params["op"]
    assert scale.tolist() == [1.0, 1.0]
    with torch.no_grad():
        scale.copy_(torch.tensor([10.0, 20.0]))
    # Places (3, 4), of length 5, and (0, 2), of length 2.
    x = torch.tensor([[[[3.0, 0.0]], [[4.0, 2.0]]]], requires_grad=True)
    top = net(a=x)["top0"]
    torch.testing.assert_close(top, torch.tensor([[[[6.0, 0.0]], [[16.0, 20.0]]]]))
    top[0, 0, 0, 0].backward()
    # d/dx of 10 · x / n: 10 · (1 / 5 − 3 · 3 / 125) = 1.28; d/dy: 10 · (−3 · 4 / 125) = −0.96.
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor([[[[1.28, 0.0]], [[-0.96, 0.0]]]]))
    assert scale.grad is not None
    torch.testing.assert_close(scale.grad, torch.tensor([0.6, 0.0]))  # 3 / 5


def test_normalize_brings_whole_pictures_to_one_length(net_of: NetOf) -> None:
    params = 'norm_param { scale_filler { type: "constant" value: 12 } }'
    net = net_of("Normalize", "2x2x1x2", params=params)
    (scale,) = net.params["op"]
    assert scale.shape == ()
    # sqrt(1 + 1 + 9 + 25) = 6; the other picture has length 2.
    x = torch.tensor([[[[1.0, 1.0]], [[3.0, 5.0]]], [[[0.0, 0.0]], [[2.0, 0.0]]]])
    x.requires_grad_()
    top = net(a=x)["top0"]
    expected = torch.tensor([[[[2.0, 2.0]], [[6.0, 10.0]]], [[[0.0, 0.0]], [[12.0, 0.0]]]])
    torch.testing.assert_close(top, expected)
    top[0].sum().backward()
    # Upstream all ones: 12 · (1 / 6 − x · (1 + 1 + 3 + 5) / 216) = 2 − x · 5 / 9.
    assert x.grad is not None
    torch.testing.assert_close(x.grad[0], 2 - x.detach()[0] * 5 / 9)
    assert scale.grad is not None
    assert scale.grad.item() == pytest.approx(10 / 6)


def test_eps_is_added_to_the_squares_within_the_root(net_of: NetOf) -> None:
    net = net_of("Normalize", "1x1x1x1", params=f"norm_param {{ {EACH_PLACE} eps: 16 }}")
    assert net(a=torch.full((1, 1, 1, 1), 3.0))["top0"].item() == pytest.approx(0.6)
    zero = net_of("Normalize", "1x1x1x1")(a=torch.zeros(1, 1, 1, 1))["top0"]
    assert zero.item() == 0


def test_normalize_takes_channels(error_of: ErrorOf) -> None:
    found = error_of("Normalize", "3")
    assert found == 'bottom: layer "op": Normalize takes NxC and more axes, the bottom is 3'


def test_relu6_cuts_at_both_ends(net_of: NetOf) -> None:
    x = torch.tensor([-2.0, 3.0, 9.0], requires_grad=True)
    net_of("ReLU6", "3")(a=x)["top0"].sum().backward()
    assert net_of("ReLU6", "3")(a=x)["top0"].tolist() == [0.0, 3.0, 6.0]
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 0.0]
    leaky = net_of("ReLU6", "3", params="relu6_param { negative_slope: 0.25 }")
    assert leaky(a=x)["top0"].tolist() == [-0.5, 3.0, 6.0]


def test_smooth_l1_is_a_square_near_0_and_straight_beyond(net_of: NetOf) -> None:
    net = net_of("SmoothL1Loss", "1x2", "1x2", phase="train")
    a = torch.tensor([[1.5, -1.0]], requires_grad=True)
    b = torch.tensor([[1.0, 1.0]], requires_grad=True)
    loss = net(a=a, b=b)["top0"]
    assert loss.item() == pytest.approx(0.5 * 0.25 + (2 - 0.5))
    loss.backward()
    assert a.grad is not None
    assert b.grad is not None
    assert a.grad.tolist() == [[0.5, -1.0]]
    assert b.grad.tolist() == [[-0.5, 1.0]]
    assert net.loss(net(a=a, b=b)) == loss  # with a weight of 1, as losses have


def test_smooth_l1_multiplies_differences_by_weights_and_divides_by_the_batch(
    net_of: NetOf,
) -> None:
    net = net_of("SmoothL1Loss", "2x1", "2x1", "2x1", phase="train")
    a = torch.tensor([[0.25], [-2.0]], requires_grad=True)
    weights = torch.tensor([[2.0], [0.25]], requires_grad=True)
    # Weighted 0.5 and −0.5: twice 0.125, of two items.
    loss = net(a=a, b=torch.zeros(2, 1), c=weights)["top0"]
    assert loss.item() == pytest.approx(0.125)
    loss.backward()
    assert a.grad is not None
    # weight · 0.5 / 2 items
    assert a.grad.tolist() == [[0.5], [-0.0625]]
    assert weights.grad is None


def test_smooth_l1_of_rcnn_has_a_sigma_and_weights_of_the_losses(net_of: NetOf) -> None:
    params = "smooth_l1_loss_param { sigma: 2 }"
    net = net_of("SmoothL1Loss", *["1x2"] * 4, params=params, phase="train")
    a = torch.tensor([[0.2, -1.0]], requires_grad=True)
    ones, weights = torch.ones(1, 2), torch.tensor([[10.0, 4.0]])
    # 0.2 is below 1 / 2²: (2 · 0.2)² / 2 = 0.08; 1 is above: 1 − 1 / 8.
    loss = net(a=a, b=torch.zeros(1, 2), c=ones, d=weights)["top0"]
    assert loss.item() == pytest.approx(10 * 0.08 + 4 * 0.875)
    loss.backward()
    assert a.grad is not None
    torch.testing.assert_close(a.grad, torch.tensor([[10 * 0.8, -4.0]]))  # 2² · 0.2, and the sign


def test_smooth_l1_takes_equal_bottoms(error_of: ErrorOf) -> None:
    assert error_of("SmoothL1Loss", "2x3", "2x4") == (
        'bottom: layer "op": bottom 0 of 2x3 and bottom 1 of 2x4 must hold equally many numbers'
    )
    assert error_of("SmoothL1Loss", "2x3", "2x3", "2x4") == (
        'bottom: layer "op": bottom 0 of 2x3 and bottom 2 of 2x4 must hold equally many numbers'
    )


GEOMETRY = 'kernel_size: 3 pad: 1 stride: 2 weight_filler { type: "gaussian" }'


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("DepthwiseConvolution", "num_output: 4"),
        ("DepthwiseConvolution", "num_output: 4 group: 4"),
        ("ConvolutionDepthwise", "num_output: 4 group: 4"),
        ("ConvolutionDepthwise", "num_output: 8"),
        ("ConvolutionDepthwise", ""),
    ],
)
def test_a_depthwise_convolution_is_one_in_groups(net_of: NetOf, kind: str, params: str) -> None:
    net = net_of(kind, "2x4x6x6", params=f"convolution_param {{ {params} {GEOMETRY} }}")
    plain = f"convolution_param {{ num_output: 4 group: 4 {GEOMETRY} }}"
    same = net_of("Convolution", "2x4x6x6", params=plain)
    assert [tuple(p.shape) for p in net.params["op"]] == [(4, 1, 3, 3), (4,)]
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(net(a=x)["top0"], same(a=x)["top0"])  # filled from one seed


def test_a_group_that_is_not_depthwise_is_told(error_of: ErrorOf) -> None:
    params = f"convolution_param {{ num_output: 4 group: 2 {GEOMETRY} }}"
    assert error_of("DepthwiseConvolution", "2x4x6x6", params=params) == (
        'group: layer "op": group 2 of a depthwise convolution must be the bottom\'s 4 channels. '
        "Leave it out."
    )


def test_a_batchnorm_is_folded_into_a_depthwise_convolution(tmp_path: Path) -> None:
    text = f"""
layer {{ name: "a" type: "Input" top: "a"
  input_param {{ shape {{ dim: 1 dim: 4 dim: 6 dim: 6 }} }} }}
layer {{ name: "op" type: "ConvolutionDepthwise" bottom: "a" top: "op"
  convolution_param {{ {GEOMETRY} bias_term: false }} }}
layer {{ name: "bn" type: "BatchNorm" bottom: "op" top: "op" }}
layer {{ name: "relu" type: "ReLU6" bottom: "op" top: "op" }}
"""
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    net = torrefy.load_net(path)
    with torch.no_grad():
        for blob in net.params["bn"]:
            blob.copy_(torch.rand(blob.shape) + 0.5)
    report = torrefy.export_onnx(net, tmp_path / "m.onnx")
    assert (report.layers, report.folded) == (3, 1)
    assert report.difference < 1e-5


@pytest.mark.parametrize(
    ("kind", "shape", "params"),
    [
        ("Permute", "1x3x4x5", "permute_param { order: 0 order: 2 order: 3 order: 1 }"),
        ("ShuffleChannel", "1x6x4x5", "shuffle_channel_param { group: 3 }"),
        ("Normalize", "1x3x4x5", ""),
        ("Normalize", "1x3x4x5", f"norm_param {{ {EACH_PLACE} }}"),
        ("ReLU6", "1x3", "relu6_param { negative_slope: 0.1 }"),
        ("DepthwiseConvolution", "1x4x6x6", f"convolution_param {{ num_output: 4 {GEOMETRY} }}"),
    ],
)
def test_onnx_agrees_for_any_batch(
    net_of: NetOf, tmp_path: Path, kind: str, shape: str, params: str
) -> None:
    report = torrefy.export_onnx(net_of(kind, shape, params=params), tmp_path / "m.onnx")
    assert report.inputs["a"][0] == "batch"
    assert report.difference < 1e-6


def test_a_scale_is_kept_by_a_caffemodel(net_of: NetOf, tmp_path: Path) -> None:
    for params in ("", f"norm_param {{ {EACH_PLACE} }}"):
        net = net_of("Normalize", "1x3x1x1", params=params)
        with torch.no_grad():
            net.params["op"][0].fill_(7)
        net.save(tmp_path / "w.caffemodel")
        path = tmp_path / "net.prototxt"
        path.write_text(net.to_prototxt())
        loaded = torrefy.load_net(path, weights=tmp_path / "w.caffemodel")
        assert torch.equal(loaded.params["op"][0], net.params["op"][0])


ANNOTATED = """
layer {{ name: "data" type: "AnnotatedData" top: "data" top: "label"
  data_param {{ source: "lmdb" batch_size: 2 }}
  annotated_data_param {{
    batch_sampler {{
      sampler {{ min_scale: 0.3 }} sample_constraint {{ min_jaccard_overlap: 0.1 }} }}
    label_map_file: "labelmap.prototxt" anno_type: BBOX }}
  transform_param {{ mean_value: 104 mean_value: 117 mean_value: 123 mirror: true {} }} }}
"""


@pytest.mark.parametrize(
    ("transform", "size"),
    [
        ("resize_param { resize_mode: WARP height: 300 width: 400 interp_mode: AREA }", (300, 400)),
        ("resize_param { height: 300 width: 400 } crop_size: 200", (200, 200)),
        ("crop_h: 20 crop_w: 30", (20, 30)),
        ("resize_param { height: 9 width: 8 } resize_param { height: 9 width: 8 }", (9, 8)),
    ],
)
def test_annotated_data_tells_the_pictures_size(transform: str, size: tuple[int, int]) -> None:
    text = ANNOTATED.format(transform)
    graph, built = diagnose(parse_text(text), State("train"))
    assert not built.problems
    assert built.shapes[graph.inputs["data"]] == (2, 3, *size)
    (missing,) = built.missing
    assert "label" in missing.message


def test_annotated_data_is_fed(net_of: NetOf, tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(ANNOTATED.format("resize_param { height: 30 width: 40 }"))
    net = torrefy.load_net(path, phase="train", shapes={"label": (1, 1, 5, 8)})
    assert net.inputs == {"data": (2, 3, 30, 40), "label": (1, 1, 5, 8)}
    for transform in (
        "",
        "resize_param { resize_mode: FIT_SMALL_SIZE height: 30 width: 40 }",
        "resize_param { height: 30 width: 40 } resize_param { height: 40 width: 40 }",
    ):
        path.write_text(ANNOTATED.format(transform))
        with pytest.raises(DefinitionError, match="H"):
            torrefy.load_net(path, phase="train", shapes={"label": (1, 1, 5, 8)})
