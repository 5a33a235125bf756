"""The checks of a layer: a sound one passes, and each fault has its sentence."""

from __future__ import annotations

import re
import types
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from torrefy.layers import Fields, Filler, Layer, Shape, field, layer
from torrefy.layers.registry import layer_types
from torrefy.net.stored import StoredNet, read_weights
from torrefy.plugins import Lazy, hookimpl
from torrefy.testing import (
    Use,
    check_docs,
    check_example,
    check_gradients,
    check_layer,
    check_onnx,
    check_shapes,
    check_text,
    check_weights,
    isolated_plugin,
)
from torrefy.testing import layer as checks

pytest_plugins = ["torrefy.testing.fixtures"]


@layer("Snake")
class Snake(Layer):
    """x + sin²(a x) / a (Ziyin et al. 2020, arXiv:2006.08195)."""

    a: float = field(1.0, doc="frequency", above=0)
    example = "snake_param { a: 2 }"

    def forward(self, *bottoms: Tensor) -> Tensor:
        (x,) = bottoms
        return x + torch.sin(self.a * x).square() / self.a


class Range(Fields):
    """From where to where."""

    low: float = field(-1.0, doc="where it begins")
    high: float = field(1.0, doc="where it ends")


@layer("Whole")
class Whole(Layer):
    """A layer with a field of each kind and two params: (x · weight + bias), squashed."""

    mode: Literal["TANH", "SIGMOID"] = field("TANH", doc="what squashes")
    names: list[str] = field(doc="names that nothing depends on")
    range: Range = field(doc="what the squashed is stretched to")
    weight_filler: Filler = field(doc="of the weight")
    seed: int | None = field(None, doc="nothing depends on it")
    example = 'whole_param { mode: SIGMOID weight_filler { type: "xavier" } }'
    example_bottoms = ((2, 3),)

    def setup(self, *bottoms: Shape) -> None:
        ((_, channels),) = bottoms
        self.add_param("weight", (4, channels), self.weight_filler)
        self.add_param("bias", (4,))
        self.add_statistic("scale", (1,), 1.0)

    def forward(self, *bottoms: Tensor) -> Tensor:
        y = nn.functional.linear(bottoms[0], self.weight, self.bias) * self.scale
        y = y.tanh() if self.mode == "TANH" else y.sigmoid()
        return y * (self.range.high - self.range.low) + self.range.low


def test_a_sound_layer_passes() -> None:
    check_layer(Snake, bottoms=[(2, 3)], params="snake_param { a: 2 }")
    check_layer(Whole)
    assert "Snake" not in layer_types()


def test_a_type_by_its_name_and_a_layer_by_its_text_pass() -> None:
    check_layer("ReLU", [(2, 3)], smooth=False)
    check_layer("Dropout", [(2, 3)], phase="train")
    check_layer(
        'layer { name: "pool" type: "Pooling" bottom: "x" top: "y" top: "mask"\n'
        "  pooling_param { kernel_size: 2 } }",
        [(1, 2, 4, 4)],
        smooth=False,
    )
    check_layer('layer { type: "Sigmoid" bottom: "x" top: "x" }', [(2, 3)])


def made(body: dict[str, Any], **attributes: Any) -> type[Layer]:
    """Snake with something else in it."""
    return layer("Faulty")(
        type(
            "Faulty",
            (Layer,),
            {"__doc__": "A layer.", "__module__": __name__, **body, **attributes},
        )
    )


def straight(self: Layer, x: Tensor) -> Tensor:
    return x * 2


class HalfGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def two_shapes(self: Layer, x: Tensor) -> Tensor:
    return x if x.is_meta else torch.cat([x, x])


def not_finite(self: Layer, x: Tensor) -> Tensor:
    return x / 0 if not x.is_meta else x


def in_place(self: Layer, x: Tensor) -> Tensor:
    return x.add_(1.5)


def detached(self: Layer, x: Tensor) -> Tensor:
    return x.detach() * 2


def half(self: Layer, x: Tensor) -> Tensor:
    return HalfGradient.apply(x)  # type: ignore[no-any-return]


def failing(self: Layer, x: Tensor) -> Tensor:
    if x.is_meta:
        return x
    raise RuntimeError("no such\nkernel")


def scaled(self: Layer, x: Tensor) -> Tensor:
    return x * self.weight


def hidden_param(self: Layer, *bottoms: Shape) -> None:
    self.register_parameter("weight", nn.Parameter(torch.ones(1, device="meta")))


def counted(self: Layer, x: Tensor) -> Tensor:
    return x + (1 if torch.onnx.is_in_onnx_export() else 0)


def unexportable(self: Layer, x: Tensor) -> Tensor:
    return x if x.is_meta else torch.tensor(x.tolist(), dtype=x.dtype)


SHAPE = [(1, 2)]


@pytest.mark.parametrize(
    ("check", "use", "sentence"),
    [
        (check_shapes, made({"forward": two_shapes}),
         'Faulty: top "out0" is inferred as 1x2 and computed as 2x2'),
        (check_shapes, made({"forward": not_finite}),
         r'Faulty: top "out0" holds -?inf at \(0, 0\)'),
        (check_shapes, made({"forward": in_place}),
         'Faulty: forward changes bottom "in0", by up to 1.5'),
        (check_shapes, made({"forward": failing}),
         "Faulty: it raises RuntimeError: no such kernel"),
        (check_gradients, made({"forward": detached}),
         "Faulty: no gradient goes through it; say smooth=False where there is none to go"),
        (check_gradients, made({"forward": half}),
         r'Faulty: the gradient of top "out0" at \(0, 0\) by bottom "in0" at \(0, 0\) is 1 where '
         "finite differences give 2"),
        (check_weights, made({"forward": scaled, "setup": hidden_param}),
         "Faulty: weight is in no file of weights; declare it by add_param or add_statistic"),
        (check_onnx, made({"forward": counted}),
         'Faulty: no ONNX file can be made of it: blob "out0": the file differs from the net by 1 '
         r"where the largest value is [\d.]+; allowed is 0.0001; mend that, or say why not in "
         "no_onnx"),
        (check_onnx, made({"forward": unexportable}),
         "Faulty: no ONNX file can be made of it: .*; "
         "mend that, or say why not in no_onnx"),
    ],
)  # fmt: skip
def test_a_fault_is_told_in_a_sentence(check: Any, use: type[Layer], sentence: str) -> None:
    with pytest.raises(AssertionError) as error:
        check(Use(use, SHAPE))
    assert re.fullmatch(sentence, str(error.value)), str(error.value)


def test_a_definition_that_is_refused_is_told() -> None:
    with pytest.raises(AssertionError) as error:
        check_shapes(Use(Snake, SHAPE, "snake_param { a: 0 }"))
    assert str(error.value) == "Snake: it is refused: a must be above 0, found 0"
    with pytest.raises(AssertionError, match=r"^Snak: there is no layer type of that name$"):
        check_layer("Snak", SHAPE)


def test_a_param_that_a_file_changes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(path: Path) -> StoredNet:
        net = read_weights(path)
        last = net.layers[-1]
        weight, bias, scale = last.blobs
        return replace(
            net, layers=(*net.layers[:-1], replace(last, blobs=(weight, bias + 0.5, scale)))
        )

    monkeypatch.setattr(checks, "read_weights", spoiled)
    with pytest.raises(AssertionError) as error:
        check_weights(Use(Whole, [(2, 3)], Whole.example))
    assert str(error.value) == "Whole: bias comes back from .caffemodel changed by up to 0.5"


def test_a_text_that_changes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    write = checks.write_text
    texts = iter(["a: 3.0"])
    monkeypatch.setattr(
        checks, "write_text", lambda m: write(m).replace("a: 2.0", next(texts, "a: 2.0"))
    )
    with pytest.raises(AssertionError) as error:
        check_text(Use(Snake, SHAPE, "snake_param { a: 2 }"))
    assert str(error.value) == (
        "Snake: written as text and read again, `snake_param { a: 2.0 }` has become "
        "`snake_param { a: 3.0 }`"
    )


def test_what_is_not_documented_is_told() -> None:
    bare = made({"forward": straight}, __doc__=None)
    with pytest.raises(AssertionError) as error:
        check_docs(bare)
    assert str(error.value) == (
        "Faulty: the class has no docstring; say what it computes, and the source"
    )

    class Inner(Fields):
        low: float = field(0.0)

    fields = {"__annotations__": {"range": Inner, "a": float}, "range": field(doc="r")}
    with pytest.raises(AssertionError) as error:
        check_docs(made({"forward": straight, **fields}))
    assert str(error.value) == (
        "Faulty: the field range.low has no doc; say what it is, and in which unit"
    )


def test_an_example_that_does_not_compile_is_told() -> None:
    with pytest.raises(AssertionError) as error:
        check_example(made({"forward": straight}, example="relu_param { slope: 1 }"))
    assert str(error.value).startswith("Faulty: its example doesn't compile with bottoms of ")
    with pytest.raises(AssertionError) as error:
        check_example("Whole" if "Whole" in layer_types() else Whole, [(2, 3), (1,)])
    assert str(error.value) == ("Whole: its example has 1 bottoms, and shapes are given for 2")


def test_a_reason_for_no_onnx_is_enough() -> None:
    check_onnx(Use(made({"forward": counted}, no_onnx="it is for training"), SHAPE))


def plugin(**body: Any) -> types.ModuleType:
    module = types.ModuleType("acme_layers")
    module.__dict__.update(body)
    return module


@hookimpl
def torrefy_layers() -> list[Any]:
    return [Snake, Lazy("Softer", "nowhere:Softer")]


def test_a_plugin_is_loaded_by_itself(load_plugin: Any) -> None:
    found = load_plugin(plugin(TORREFY_API=1, torrefy_layers=torrefy_layers), "acme")
    assert found.name == "acme"
    assert layer_types()["Snake"] is Snake
    others = {claims[0].plugin.name for claims in layer_types().claims.values()}
    assert others == {"torrefy.layers", "acme"}
    check_layer(Snake)


def test_a_plugin_that_can_not_be_used_is_refused() -> None:
    for module, reason in (
        (plugin(), "it must say TORREFY_API = 1 at its top; it isn't there"),
        (plugin(TORREFY_API=2), "it must say TORREFY_API = 1 at its top; found 2"),
    ):
        with pytest.raises(Exception, match=r"^plugin .* is not used: ") as error, \
                isolated_plugin(module):  # fmt: skip
            pass
        assert str(error.value) == f'plugin "acme_layers" (acme_layers) is not used: {reason}'
