"""The layers, a class a type."""

from __future__ import annotations

import torch
from torch import Tensor

from torrefy.layers import Layer, field, layer


@layer("Snake")
class Snake(Layer):
    """x + sin²(a x) / a, for signals that repeat (Ziyin et al. 2020, arXiv:2006.08195, eq. 2).

    Bottom: any shape. Top: the bottom's.
    """

    a: float = field(1.0, doc="frequency of the sine, in radians per unit of x", above=0)
    example = "snake_param { a: 2 }"

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Compute."""
        (x,) = bottoms
        return x + torch.sin(self.a * x).square() / self.a
