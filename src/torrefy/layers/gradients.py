"""Gradients that are Caffe's where Caffe's differs from the derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torrefy.layers.base import Layer


def works_in_place(layer: Layer) -> bool:
    """Whether the layer's top overwrites its bottom.

    Caffe's backward then finds the result where it looks for the bottom, and writes the bottom's
    diff over the top's.
    """
    return list(layer.spec.bottom[:1]) == list(layer.spec.top[:1])


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, gradient: Tensor, lost: bool) -> Tensor:
        ctx.lost = lost
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient if ctx.lost else grad * gradient, None, None, None


class _Clamped(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor, low: float | None, high: float | None) -> Tensor:
        return x.clamp(low, high)

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0], None, None


def clamped(x: Tensor, low: float | None, high: float | None) -> Tensor:
    """A tensor within bounds, whose gradient passes outside them too. None is no bound."""
    result: Tensor = _Clamped.apply(x, low, high)  # type: ignore[no-untyped-call]
    return result


def with_gradient(
    x: Tensor, value: Tensor, gradient: Callable[[], Tensor], lost: bool = False
) -> Tensor:
    """A value, with a gradient of our own towards x.

    Args:
        x: what the gradient goes to.
        value: of x's shape or a scalar, computed from `x.detach()`.
        gradient: makes a tensor of x's shape; it is called only where a gradient is recorded.
            The value's diff is multiplied by it.
        lost: whether the value's diff is lost, and `gradient` is all that x gets.
    """
    if not (torch.is_grad_enabled() and x.requires_grad):
        return value
    with torch.no_grad():
        made = gradient()
    result: Tensor = _WithGradient.apply(x, value, made, lost)  # type: ignore[no-untyped-call]
    return result
