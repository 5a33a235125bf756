"""Activations and arithmetic: what reference cases can't say: errors, and gradients in place."""

from __future__ import annotations

import pytest
import torch

from torrefy.errors import DefinitionError
from torrefy.graph import State
from torrefy.net.net import Net, compile_net
from torrefy.schema import parse_text

X = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'


def net_of(kind: str, params: str = "", top: str = "y") -> Net:
    text = X + f'layer {{ name: "op" type: "{kind}" bottom: "x" top: "{top}" {params} }}'
    return compile_net(parse_text(text, file="net.prototxt"), State("train"))


@pytest.mark.parametrize(
    ("kind", "params", "message"),
    [
        ("Exp", "exp_param { base: 0 }", "base must be above 0, or -1 for e; found 0"),
        ("Log", "log_param { base: -2 }", "base must be above 0, or -1 for e; found -2"),
        ("Log", "log_param { base: 1 }", "there is no logarithm to base 1"),
        ("Clip", "", "min is missing. Give clip_param { min: … max: … }."),
        (
            "ArgMax",
            "argmax_param { top_k: 4 axis: 1 }",
            "top_k must be 1 to 3, the numbers to choose from; found 4",
        ),
    ],
)
def test_a_parameter_that_can_not_be_is_told(kind: str, params: str, message: str) -> None:
    with pytest.raises(DefinitionError) as error:
        net_of(kind, params)
    assert str(error.value).split(": ", 1)[1] == f'layer "op": {message}'


def test_absval_can_not_work_in_place() -> None:
    with pytest.raises(DefinitionError, match="AbsVal can't work in place"):
        net_of("AbsVal", top="x")


def gradient(kind: str, params: str, top: str, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    net_of(kind, params, top)(x=x)[top].sum().mul(3).backward()
    assert x.grad is not None
    return x.grad


def test_gradients_in_place_are_caffes_of_the_overwritten_bottom() -> None:
    x = torch.rand(2, 3) + 0.5
    y = torch.log1p(x.exp())
    torch.testing.assert_close(gradient("BNLL", "", "x", x), 3 * y.sigmoid())
    torch.testing.assert_close(gradient("BNLL", "", "y", x), 3 * x.sigmoid())
    clip = "clip_param { min: 0.7 max: 0.9 }"
    torch.testing.assert_close(gradient("Clip", clip, "x", x), torch.full_like(x, 3))


@pytest.mark.parametrize(
    ("kind", "params", "derivative"),
    [
        ("Power", "power_param { scale: 0.5 shift: 1 }", lambda y: torch.full_like(y, 0.5)),
        ("Power", "power_param { power: 2 scale: 3 shift: 1 }", lambda y: 6 * (3 * y + 1)),
        ("Power", "power_param { power: 3 }", lambda y: torch.full_like(y, 3)),
        ("Power", "power_param { power: 3 shift: 1 }", lambda y: 3 * y / (y + 1)),
        ("Log", "log_param { scale: 2 shift: 9 }", lambda y: 2 / (2 * y + 9)),
    ],
)
def test_power_and_log_in_place_lose_the_diff_from_above(
    kind: str, params: str, derivative: object
) -> None:
    """As Caffe, which multiplies the derivative by itself: it has written it over the diff."""
    x = torch.rand(2, 3)
    y = net_of(kind, params)(x=x)["y"]
    expected = derivative(y).square()  # type: ignore[operator]
    torch.testing.assert_close(gradient(kind, params, "x", x), expected)


def test_layers_in_place_are_the_same_compiled() -> None:
    x = torch.rand(2, 3, requires_grad=True)
    for kind in ("BNLL", "Log", "Power"):
        net = net_of(kind, top="x")
        (expected,) = torch.autograd.grad(net(x=x)["x"].sum(), x)
        compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(torch.autograd.grad(compiled(x=x)["x"].sum(), x)[0], expected)
