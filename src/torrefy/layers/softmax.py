"""Softmax."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer


@layer("Softmax")
class Softmax(Layer):
    """exp(x) / Σ exp(x) along `axis` (default 1); the top has the bottom's shape. As torch's."""

    param = "softmax_param"
    example = "softmax_param { axis: 1 }"

    def setup(self, *bottoms: Shape) -> None:
        """Check the axis."""
        (shape,) = bottoms
        self.along = self.axis(self.p.axis, len(shape))

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Normalise along the axis."""
        (x,) = bottoms
        return F.softmax(x, self.along)
