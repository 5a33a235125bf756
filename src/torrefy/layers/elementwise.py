"""Eltwise: several bottoms of one shape into one top."""

from __future__ import annotations

import torch
from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer, shape_text


@layer("Eltwise")
class Eltwise(Layer):
    """The product, weighted sum or maximum of two or more bottoms of one shape, which the top has.

    A sum weighs its bottoms by `coeff`, one for each or none. There is no broadcasting. Where
    the first two are equal the gradient of MAX goes to the second; torch would share it out.
    """

    param = "eltwise_param"
    example = "eltwise_param { operation: SUM coeff: 1 coeff: -1 }"
    bottoms = (2, None)
    fresh = True
    needs_tops = False
    overwrites = True

    def setup(self, *bottoms: Shape) -> None:
        """Check that the shapes agree and that coefficients fit."""
        for i, shape in enumerate(bottoms[1:], 1):
            if shape != bottoms[0]:
                raise self.error(
                    f"all bottoms must have one shape: bottom 0 is {shape_text(bottoms[0])}, "
                    f"bottom {i} is {shape_text(shape)}",
                    field="bottom",
                )
        self.operation: str = self.p.EltwiseOp.Name(self.p.operation)
        self.coefficients = list(self.p.coeff)
        if self.coefficients and self.operation != "SUM":
            raise self.error(f"coeff is for SUM, not for {self.operation}", field="coeff")
        if self.coefficients and len(self.coefficients) != len(bottoms):
            raise self.error(
                f"{len(self.coefficients)} coeff for {len(bottoms)} bottoms: give one for each",
                field="coeff",
            )

    def forward(self, *bottoms: Tensor, overwrite: int | None = None) -> Tensor:
        """Combine the bottoms from the first to the last."""
        if self.operation == "SUM" and self.coefficients:
            bottoms = tuple(
                x if c == 1 else x * c for x, c in zip(bottoms, self.coefficients, strict=True)
            )
        total = bottoms[0]
        for i, x in enumerate(bottoms[1:]):
            if self.operation == "SUM":
                if total.dtype != x.dtype:  # under autocast: the sum needs the wider one
                    total = total + x
                elif i > 0 or overwrite == 0:  # a sum of two is ours already
                    total = total.add_(x)
                else:
                    total = x.add_(total) if overwrite == 1 else total + x
            elif self.operation == "PROD":
                total = total * x
            else:
                # As Caffe: a tie of the first two goes to the second, later ones must be greater.
                total = torch.where(total > x if i == 0 else total >= x, total, x)
        return total
