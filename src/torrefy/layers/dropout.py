"""Dropout."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer


@layer("Dropout")
class Dropout(Layer):
    """Drop each unit with probability `dropout_ratio` and scale the rest by 1 / (1 − ratio).

    The top has the bottom's shape. In TEST nothing happens, and nothing needs rescaling (Srivastava
    et al. 2014). As torch's.
    """

    param = "dropout_param"
    example = "dropout_param { dropout_ratio: 0.5 }"

    def setup(self, *bottoms: Shape) -> None:
        """Check the ratio."""
        ratio = self.p.dropout_ratio
        if not 0 < ratio < 1:
            raise self.error(
                f"dropout_ratio must be above 0 and below 1, found {ratio:g}",
                field="dropout_ratio",
            )
        self.ratio: float = ratio

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Drop in TRAIN, pass in TEST."""
        (x,) = bottoms
        return F.dropout(x, self.ratio, self.training)
