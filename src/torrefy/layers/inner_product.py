"""InnerProduct: the fully connected layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer, shape_text


@layer("InnerProduct")
class InnerProduct(Layer):
    """x·Wᵀ + b over everything from `axis` on, flattened to K numbers; axes before it stay.

    Bottom: N×…, top: N×num_output. Params: weight num_output×K (K×num_output with `transpose`),
    bias num_output. torch's Linear takes the last axis alone.
    """

    param = "inner_product_param"
    example = 'inner_product_param { num_output: 1000 weight_filler { type: "xavier" } }'
    in_place = False
    fresh = True
    needs_tops = False

    def setup(self, *bottoms: Shape) -> None:
        """Make the weight and the bias."""
        (shape,) = bottoms
        p = self.p
        num_output = self.require("num_output")
        self.start = self.axis(p.axis, len(shape))
        self.length = math.prod(shape[self.start :])
        size = (self.length, num_output) if p.transpose else (num_output, self.length)
        self.add_param("weight", size, p.weight_filler)
        self.bias: Any = None
        if p.bias_term:
            del self.bias
            self.add_param("bias", (num_output,), p.bias_filler)
        self.transpose = p.transpose

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Each number of the top takes all K of its bottom's."""
        return math.prod(tops[0]) * self.length

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Flatten from `axis` on and multiply."""
        (x,) = bottoms
        if x.shape[self.start :].numel() != self.length:
            raise self.error(
                f"the weights are made for {self.length} inputs, the bottom of "
                f"{shape_text(x.shape)} gives {x.shape[self.start :].numel()}",
                field="bottom",
            )
        weight: Any = self.weight
        if self.start == x.dim() - 1:
            flat = x
        elif self.start == 0:
            flat = x.flatten()
        else:
            flat = x.flatten(self.start)
        return F.linear(flat, weight.t() if self.transpose else weight, self.bias)
