"""InnerProduct: the fully connected layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer, shape_text

MANY_WEIGHTS = 2_000_000
"""From so many on an ONNX file has a convolution: more than a core's own cache holds."""

BLOCK = 16
"""ONNX Runtime computes convolutions of channels in blocks of so many (of 8 without AVX-512)."""


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
        self.check(x)
        weight: Any = self.weight
        if self.start == x.dim() - 1:
            flat = x
        elif self.start == 0:
            flat = x.flatten()
        else:
            flat = x.flatten(self.start)
        return F.linear(flat, weight.t() if self.transpose else weight, self.bias)

    def exported(self, *bottoms: Tensor) -> Tensor:
        """Large products as a 1x1 convolution over the rows as if they lay side by side.

        ONNX Runtime's blocked convolution reads each weight once and fast, which is what such a
        layer's time goes by in: on a CPU with AVX-512, 9216x4096 takes 4.2 ms instead of 5.8 for
        a row, 5.8 instead of 9.1 for 8, 13 instead of 18 for 32, and as long from 128 on.
        """
        (x,) = bottoms
        few = self.length * self.p.num_output < MANY_WEIGHTS
        if few or self.start != 1 or self.transpose or self.length % BLOCK:
            return self.forward(x)
        self.check(x)
        weight: Any = self.weight
        rows = x.flatten(1).t().unsqueeze(0).unsqueeze(2)  # 1xKx1xN
        y = F.conv2d(rows, weight.unsqueeze(2).unsqueeze(3), self.bias)
        return y.squeeze(2).squeeze(0).t().clone()  # the tops are no view of anything

    def check(self, x: Tensor) -> None:
        """Refuse a bottom that is of another size than the weights."""
        if x.shape[self.start :].numel() != self.length:
            raise self.error(
                f"the weights are made for {self.length} inputs, the bottom of "
                f"{shape_text(x.shape)} gives {x.shape[self.start :].numel()}",
                field="bottom",
            )
