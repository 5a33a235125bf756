"""What holds for every layer type, whatever its parameters and shapes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torrefy.errors import TorrefyError
from torrefy.graph import State
from torrefy.layers.base import Shape
from torrefy.layers.registry import layer_types
from torrefy.net.net import compile_net
from torrefy.schema import new_message, parse_text, write_text
from torrefy.testing import (
    Use,
    check_docs,
    check_example,
    check_gradients,
    check_shapes,
    check_text,
    check_weights,
)

Draw = Callable[..., Any]
Drawn = Callable[[str], Use]
"""A use of a type that is still to be named."""


def use(bottoms: list[Shape], params: str = "", **more: Any) -> Drawn:
    return partial(Use, bottoms=bottoms, params=params, **more)


def shape(draw: Draw, axes: int, most: int = 5) -> Shape:
    return tuple(draw(st.integers(1, most)) for _ in range(axes))


def plain(draw: Draw, params: str = "", **more: Any) -> Drawn:
    return use([shape(draw, draw(st.integers(1, 4)))], params, **more)


def number(draw: Draw, low: float = -2, high: float = 2) -> str:
    return f"{draw(st.floats(low, high)):.3f}"


def convolution(draw: Draw) -> Drawn:
    group = draw(st.sampled_from([1, 2]))
    kernel, stride, pad = (draw(st.integers(*r)) for r in ((1, 3), (1, 3), (0, 1)))
    dilation = draw(st.integers(1, 2))
    bottoms = [(draw(st.integers(1, 2)), 2 * group, *(draw(st.integers(5, 7)) for _ in range(2)))]
    bottoms *= draw(st.integers(1, 2))
    return use(
        bottoms,
        f"convolution_param {{ num_output: {2 * group} group: {group} kernel_size: {kernel} "
        f"stride: {stride} pad: {pad} dilation: {dilation} "
        f"bias_term: {draw(st.sampled_from(['true', 'false']))} "
        'weight_filler { type: "xavier" } }',
        tops=len(bottoms),
    )


def pooling(draw: Draw) -> Drawn:
    kernel = draw(st.integers(1, 4))
    pad, stride = draw(st.integers(0, kernel - 1)), draw(st.integers(1, kernel))
    pool = draw(st.sampled_from(["MAX", "AVE"]))
    mode = draw(st.sampled_from(["CEIL", "FLOOR"]))
    return use(
        [(*shape(draw, 2, 3), *(draw(st.integers(4, 8)) for _ in range(2)))],
        f"pooling_param {{ pool: {pool} kernel_size: {kernel} stride: {stride} pad: {pad} "
        f"round_mode: {mode} }}",
        tops=draw(st.integers(1, 2)) if pool == "MAX" else 1,
        smooth=pool == "AVE",
    )


def inner_product(draw: Draw) -> Drawn:
    bottom = shape(draw, draw(st.integers(2, 4)))
    axis = draw(st.integers(1, len(bottom) - 1))
    transpose = draw(st.sampled_from(["true", "false"]))
    return use(
        [bottom],
        f"inner_product_param {{ num_output: 3 axis: {axis} transpose: {transpose} "
        'weight_filler { type: "gaussian" } }',
    )


def same(draw: Draw, low: int = 2) -> list[Shape]:
    return [shape(draw, draw(st.integers(1, 4)))] * draw(st.integers(low, 3))


def eltwise(draw: Draw) -> Drawn:
    bottoms = same(draw)
    operation = draw(st.sampled_from(["SUM", "PROD", "MAX"]))
    coefficients = operation == "SUM" and draw(st.booleans())
    text = " ".join(f"coeff: {number(draw)}" for _ in bottoms) if coefficients else ""
    return use(
        bottoms, f"eltwise_param {{ operation: {operation} {text} }}", smooth=operation != "MAX"
    )


def concat(draw: Draw) -> Drawn:
    first = list(shape(draw, draw(st.integers(2, 4))))
    axis = draw(st.integers(0, len(first) - 1))
    bottoms = []
    for _ in range(draw(st.integers(1, 3))):
        first[axis] = draw(st.integers(1, 4))
        bottoms.append(tuple(first))
    return use(bottoms, f"concat_param {{ axis: {axis} }}")


def slicing(draw: Draw) -> Drawn:
    bottom = list(shape(draw, draw(st.integers(2, 4))))
    axis, tops = draw(st.integers(-len(bottom), len(bottom) - 1)), draw(st.integers(1, 3))
    bottom[axis] = tops * draw(st.integers(1, 3))
    return use([tuple(bottom)], f"slice_param {{ axis: {axis} }}", tops=tops)


def crop(draw: Draw) -> Drawn:
    small = shape(draw, 4, 4)
    offset = draw(st.integers(0, 2))
    large = (*small[:2], small[2] + offset, small[3] + offset + 1)
    return use([large, small], f"crop_param {{ offset: {offset} }}")


def padding(draw: Draw) -> Drawn:
    sides = " ".join(f"pad_{side}: {draw(st.integers(0, 3))}" for side in "lrtb")
    method = draw(st.sampled_from(["pad_method: REPEAT", "pad_method: CONSTANT pad_value: 0.5"]))
    return use([shape(draw, 4)], f"padding_param {{ {method} {sides} }}")


def reshape(draw: Draw) -> Drawn:
    bottom = shape(draw, 3)
    dims = draw(st.sampled_from(["dim: 0 dim: -1", "dim: -1", "dim: 0 dim: 0 dim: 1 dim: -1"]))
    return use([bottom], f"reshape_param {{ shape {{ {dims} }} }}")


def flatten(draw: Draw) -> Drawn:
    bottom = shape(draw, draw(st.integers(1, 4)))
    axis = draw(st.integers(0, len(bottom) - 1))
    end = draw(st.integers(axis, len(bottom) - 1))
    return use([bottom], f"flatten_param {{ axis: {axis} end_axis: {end} }}")


def scale(draw: Draw, kind: str = "scale_param") -> Drawn:
    bottom = shape(draw, draw(st.integers(2, 4)))
    axis = draw(st.integers(0, len(bottom) - 1))
    count = draw(st.integers(-1, len(bottom) - axis))
    bias = "bias_term: true" if kind == "scale_param" and draw(st.booleans()) else ""
    return use([bottom], f"{kind} {{ axis: {axis} num_axes: {count} {bias} }}")


def axis_of(draw: Draw, field_name: str, **more: Any) -> Drawn:
    bottom = shape(draw, draw(st.integers(2, 4)))
    axis = draw(st.integers(-len(bottom), len(bottom) - 1))
    return use([bottom], f"{field_name} {{ axis: {axis} }}", **more)


def lrn(draw: Draw) -> Drawn:
    region = draw(st.sampled_from(["ACROSS_CHANNELS", "WITHIN_CHANNEL"]))
    return use(
        [shape(draw, 4)],
        f"lrn_param {{ local_size: {draw(st.sampled_from([1, 3, 5]))} alpha: 0.3 "
        f"norm_region: {region} }}",
    )


def labelled(draw: Draw, params: str = "", **more: Any) -> Drawn:
    n, classes = shape(draw, 2, 4)
    return use([(n, classes + 1), (n,)], params, below={1: classes + 1}, **more)


def probabilities(bottoms: list[torch.Tensor]) -> list[torch.Tensor]:
    return [bottoms[0] / bottoms[0].sum(1, keepdim=True), *bottoms[1:]]


def softmax_loss(draw: Draw) -> Drawn:
    mode = draw(st.sampled_from(["FULL", "VALID", "BATCH_SIZE", "NONE"]))
    ignore = "ignore_label: 1" if draw(st.booleans()) else ""
    n, c, h = shape(draw, 3, 3)
    return use(
        [(n, c + 1, h), (n, 1, h)],
        f"loss_param {{ normalization: {mode} {ignore} }}",
        below={1: c + 1},
    )


def recurrent(draw: Draw) -> Drawn:
    t, n, inputs = shape(draw, 3, 3)
    return use(
        [(t, n, inputs), (t, n)],
        'recurrent_param { num_output: 2 weight_filler { type: "uniform" min: -0.5 max: 0.5 } }',
        below={1: 1},  # cont 0: no state is carried from call to call
    )


def reduction(draw: Draw) -> Drawn:
    bottom = shape(draw, 3)
    operation = draw(st.sampled_from(["SUM", "SUMSQ", "MEAN"]))
    return use(
        [bottom],
        f"reduction_param {{ operation: {operation} axis: {draw(st.integers(-3, 2))} coeff: 1.5 }}",
    )


USES: dict[str, Callable[[Draw], Drawn]] = {
    "AbsVal": lambda d: plain(d, smooth=False),
    "Accuracy": lambda d: labelled(d, smooth=False),
    "ArgMax": lambda d: use([shape(d, 3)], smooth=False),
    "BNLL": plain,
    "BatchNorm": lambda d: use([shape(d, 4)], "batch_norm_param { eps: 0.1 }"),
    "BatchReindex": lambda d: use([(3, 2), (d(st.integers(1, 5)),)], below={1: 3}),
    "Bias": lambda d: scale(d, "bias_param"),
    "Clip": lambda d: plain(d, "clip_param { min: -0.5 max: 0.7 }", smooth=False),
    "Concat": concat,
    "ContrastiveLoss": lambda d: use([(3, 2), (3, 2), (3,)], below={2: 2}, smooth=False),
    "Convolution": convolution,
    "Crop": crop,
    "Deconvolution": convolution,
    "Dropout": plain,
    "ELU": lambda d: plain(d, f"elu_param {{ alpha: {number(d, 0.1)} }}", smooth=False),
    "Eltwise": eltwise,
    "Embed": lambda d: use(
        [shape(d, d(st.integers(1, 2)))],
        "embed_param { num_output: 3 input_dim: 4 }",
        below={0: 4},
    ),
    "EuclideanLoss": lambda d: use([shape(d, 3)] * 2),
    "Exp": lambda d: plain(d, f"exp_param {{ base: 2 scale: {number(d)} }}"),
    "Filter": lambda d: use([(3, 2), (3, 1)], below={1: 2}, smooth=False, varying=True),
    "Flatten": flatten,
    "HingeLoss": lambda d: labelled(d, "hinge_loss_param { norm: L2 }", smooth=False),
    "Im2col": lambda d: use(
        [(*shape(d, 2), 4, 5)], "convolution_param { kernel_size: 2 stride: 2 pad: 1 }"
    ),
    "InnerProduct": inner_product,
    "LRN": lrn,
    "LSTM": recurrent,
    "LSTMUnit": lambda d: use([(1, 2, 3), (1, 2, 12), (1, 2)], tops=2, below={2: 2}),
    "Log": lambda d: plain(d, f"log_param {{ base: 3 shift: {number(d, 0)} }}", positive=True),
    "MVN": lambda d: use([(*shape(d, 2, 3), 2, 3)]),
    "MultinomialLogisticLoss": lambda d: labelled(d, positive=True, feed=probabilities),
    "PReLU": lambda d: use([shape(d, 4)], smooth=False),
    "AngularMargin": lambda d: labelled(
        d, f"angular_margin_param {{ kind: {d(st.sampled_from(['COSINE', 'ARC']))} scale: 2 }}"
    ),
    "CosineProduct": lambda d: use(
        [shape(d, d(st.integers(2, 4)))],
        'cosine_product_param { num_output: 3 weight_filler { type: "xavier" } }',
    ),
    "Padding": padding,
    "RMSNorm": lambda d: use([shape(d, d(st.integers(2, 4)))]),
    "Pooling": pooling,
    "Power": lambda d: plain(d, "power_param { power: 2 scale: 0.5 shift: 1 }"),
    "RNN": recurrent,
    "ReLU": lambda d: plain(d, f"relu_param {{ negative_slope: {number(d)} }}", smooth=False),
    "Reduction": reduction,
    "Reshape": reshape,
    "SPP": lambda d: use([(*shape(d, 2, 3), 7, 6)], "spp_param { pyramid_height: 2 pool: AVE }"),
    "Scale": scale,
    "Sigmoid": plain,
    "SigmoidCrossEntropyLoss": lambda d: use([shape(d, 3)] * 2, below={1: 2}),
    "Silence": lambda d: use([shape(d, 2)], tops=0, smooth=False),
    "Slice": slicing,
    "Softmax": lambda d: axis_of(d, "softmax_param"),
    "SoftmaxWithLoss": softmax_loss,
    "Split": lambda d: use([shape(d, 3)], tops=d(st.integers(1, 3))),
    "Swish": lambda d: plain(d, f"swish_param {{ beta: {number(d)} }}"),
    "TanH": plain,
    "Threshold": lambda d: plain(d, "threshold_param { threshold: 0.2 }", smooth=False),
    "Tile": lambda d: use([shape(d, 3)], "tile_param { axis: 1 tiles: 3 }"),
}
WITHOUT_BOTTOMS = {
    "Data", "DummyData", "HDF5Data", "HDF5Output", "ImageData", "InfogainLoss", "Input",
    "MemoryData", "Parameter", "Python", "WindowData",
}  # fmt: skip
"""Types that take nothing, or files: they have tests of their own."""
KINDS = sorted(USES)
BUILT_IN = sorted(n for n, claims in layer_types().claims.items() if claims[0].plugin.built_in)
SMOOTH_LOSS = """
import caffe

class SmoothLoss(caffe.Layer):
    def setup(self, bottom, top):
        top[0].reshape(1)

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        pass
"""
"""The class that the example of a Python layer names."""
checked = settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))


def test_every_type_is_looked_at() -> None:
    assert set(USES) | WITHOUT_BOTTOMS >= set(BUILT_IN)


@pytest.mark.parametrize("kind", KINDS)
@checked
@given(data=st.data())
def test_shapes_that_are_inferred_are_computed(kind: str, data: st.DataObject) -> None:
    check_shapes(USES[kind](data.draw)(kind))


@pytest.mark.parametrize("kind", KINDS)
@checked
@given(data=st.data())
def test_text_and_binary_form_are_stable(kind: str, data: st.DataObject) -> None:
    check_text(USES[kind](data.draw)(kind))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_gradients_are_those_of_finite_differences(kind: str, data: st.DataObject) -> None:
    check_gradients(USES[kind](data.draw)(kind))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=1, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_params_come_back_from_files(kind: str, data: st.DataObject) -> None:
    check_weights(USES[kind](data.draw)(kind))


@pytest.mark.parametrize("kind", BUILT_IN)
def test_the_page_of_a_type_is_whole_and_its_example_compiles(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    matrix = new_message("caffe.BlobProto")
    matrix.shape.dim[:], matrix.data[:] = [4, 4], torch.eye(4).flatten().tolist()
    Path("infogain.binaryproto").write_bytes(matrix.SerializeToString())
    Path("losses.py").write_text(SMOOTH_LOSS)
    monkeypatch.syspath_prepend(tmp_path)
    check_docs(kind)
    check_example(kind, allow_python=["losses.SmoothLoss"])


@pytest.mark.parametrize("kind", BUILT_IN)
def test_a_layer_with_no_bottoms_and_nothing_given_is_refused_or_sound(kind: str) -> None:
    message = new_message("caffe.NetParameter")
    layer = message.layer.add()
    layer.name, layer.type = "op", kind
    try:
        compile_net(parse_text(write_text(message)), State())
    except TorrefyError as error:
        assert 'layer "op": ' in str(error)
