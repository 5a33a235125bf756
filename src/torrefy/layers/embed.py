"""Embed: a learned vector for each of a number of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer
from torrefy.layers.selection import stray


@layer("Embed")
class Embed(Layer):
    """Row x of the weight, for every number x of the bottom, + b.

    The bottom holds indices from 0 to below `input_dim` (fractions are cut off), and gets no
    gradient; the top has an axis of `num_output` more. Params: weight input_dim×num_output, bias
    num_output (torch's Embedding has none; here `bias_term` is true by default).
    """

    param = "embed_param"
    example = "embed_param { input_dim: 10000 num_output: 300 }"
    in_place = False
    fresh = True

    def setup(self, *bottoms: Shape) -> None:
        """Make the weight and the bias."""
        num_output = self.require("num_output")
        self.input_dim = self.require("input_dim")
        self.add_param("weight", (self.input_dim, num_output), self.p.weight_filler)
        self.bias: Any = None
        if self.p.bias_term:
            del self.bias
            self.add_param("bias", (num_output,), self.p.bias_filler)

    def index_limit(self, bottom: int, shapes: Sequence[Shape]) -> int | None:
        """The rows of the weight."""
        return self.input_dim

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Look up."""
        (x,) = bottoms
        index = x.detach().long()
        try:
            y = F.embedding(index, self.weight)  # type: ignore[arg-type]
        except IndexError:
            raise self.error(
                f"an index is not from 0 to below {self.input_dim}, the input_dim: "
                f"{stray(index, self.input_dim)}",
                field="bottom",
            ) from None
        return y if self.bias is None else y + self.bias
