"""ReLU6."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torrefy.layers.base import Layer, layer

from torrefy_ssd.schema import ReLU6Parameter


@layer("ReLU6")
class ReLU6(Layer):
    """min(max(x, 0), 6) + negative_slope · min(x, 0), for each number; any shape.

    It is torch's `relu6` where the slope is 0 (Howard et al. 2017, arXiv:1704.04861).
    """

    param = "relu6_param"
    fields = ReLU6Parameter
    example = "relu6_param { negative_slope: 0.1 }"
    negative_slope: float

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Cut at both ends."""
        (x,) = bottoms
        if not self.negative_slope:
            return F.relu6(x)
        return F.leaky_relu(x, self.negative_slope).clamp(max=6)
