"""Activations: ReLU, PReLU, Power."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer


@layer("ReLU")
class ReLU(Layer):
    """max(x, 0) + negative_slope · min(x, 0)."""

    param = "relu_param"
    fresh = True
    overwrites = True

    def setup(self, *bottoms: Shape) -> None:
        """Read the slope."""
        self.negative_slope: float = self.p.negative_slope

    def forward(self, *bottoms: Tensor, overwrite: int | None = None) -> Tensor:
        """Rectify; leaky where `negative_slope` is set."""
        (x,) = bottoms
        own = overwrite is not None and not torch.is_grad_enabled()
        if self.negative_slope:
            return F.leaky_relu(x, self.negative_slope, own)
        return F.relu(x, own)


@layer("PReLU")
class PReLU(Layer):
    """max(x, 0) + a · min(x, 0), a learned for each channel (He et al. 2015, arXiv:1502.01852).

    Params: slope, of C numbers, or of no axes with `channel_shared`. It starts as 0.25.
    """

    param = "prelu_param"

    def setup(self, *bottoms: Shape) -> None:
        """Make the slope."""
        (shape,) = bottoms
        if len(shape) < 2:
            raise self.error("PReLU takes at least 2 axes (N, C)", field="bottom")
        filler = self.p.filler if self.p.HasField("filler") else 0.25
        self.add_param("slope", () if self.p.channel_shared else (shape[1],), filler)

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Rectify with the learned slope."""
        (x,) = bottoms
        slope: Tensor = self.slope  # type: ignore[assignment]
        return F.prelu(x, slope.reshape(1) if slope.dim() == 0 else slope)


@layer("Power")
class Power(Layer):
    """(shift + scale · x) ^ power.

    When scale · power is 0 the result is a constant (1 for power 0, else shift ^ power), with
    no gradient.
    """

    param = "power_param"

    def setup(self, *bottoms: Shape) -> None:
        """Read the three numbers."""
        self.power: float = self.p.power
        self.scale: float = self.p.scale
        self.shift: float = self.p.shift

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Scale, shift, raise."""
        (x,) = bottoms
        if self.power * self.scale == 0:
            return torch.full_like(x, 1.0 if self.power == 0 else self.shift**self.power)
        y = x if self.scale == 1 else x * self.scale
        if self.shift:
            y = y + self.shift
        if self.power == 1:
            return y
        return y * y if self.power == 2 else y.pow(self.power)
