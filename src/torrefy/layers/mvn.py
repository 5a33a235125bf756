"""Mean-variance normalisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer, shape_text


class _Normalize(torch.autograd.Function):
    """(x − mean) / (deviation + eps) along the last axis."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        divisor = centred.square().mean(-1, keepdim=True).sqrt() + eps
        y = centred / divisor
        ctx.save_for_backward(y, divisor)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        # As Caffe's, which takes deviation + eps for the deviation where it differentiates that.
        y, divisor = ctx.saved_tensors
        along = y * (y * grad).mean(-1, keepdim=True)
        return (grad - grad.mean(-1, keepdim=True) - along) / divisor, None


@layer("MVN")
class MVN(Layer):
    """(x − mean) / (deviation + eps) over each plane, or over each item with `across_channels`.

    The deviation is the square root of the biased variance, and eps (1e-9) is added to it, not
    to the variance as torch's norms do. Without `normalize_variance` only the mean is taken off.
    The top always has four axes (N×C×H×W), as in Caffe.
    """

    param = "mvn_param"
    example = "mvn_param { across_channels: true }"

    def setup(self, *bottoms: Shape) -> None:
        """Read the parameters."""
        (shape,) = bottoms
        if len(shape) > 4:
            raise self.error(
                f"MVN takes up to 4 axes (N, C, H, W), the bottom is {shape_text(shape)}",
                field="bottom",
            )
        self.normalize_variance: bool = self.p.normalize_variance
        self.across_channels: bool = self.p.across_channels
        self.eps: float = self.p.eps

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Normalise."""
        (x,) = bottoms
        x = x.reshape(*x.shape, *[1] * (4 - x.dim()))
        flat = x.flatten(1 if self.across_channels else 2)
        if self.normalize_variance:
            y: Tensor = _Normalize.apply(flat, self.eps)  # type: ignore[no-untyped-call]
        else:
            y = flat - flat.mean(-1, keepdim=True)
        return y.reshape(x.shape)
