"""Few numbers from many: ArgMax, Reduction."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer


@layer("Reduction")
class Reduction(Layer):
    """coeff times the SUM, ASUM (of magnitudes), SUMSQ (of squares) or MEAN over some axes.

    These are `axis` and all behind it; the top has the axes before. The default of 0 makes a
    scalar of everything.
    """

    param = "reduction_param"
    example = "reduction_param { operation: MEAN axis: 1 }"

    def setup(self, *bottoms: Shape) -> None:
        """Read the operation."""
        (shape,) = bottoms
        self.start = self.axis(self.p.axis, len(shape))
        self.operation: str = self.p.ReductionOp.Name(self.p.operation)
        self.coeff: float = self.p.coeff

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Reduce."""
        (x,) = bottoms
        axes = tuple(range(self.start, x.dim()))
        if self.operation == "MEAN":
            y = x.mean(axes)
        elif self.operation == "ASUM":
            y = x.abs().sum(axes)
        elif self.operation == "SUMSQ":
            y = x.square().sum(axes)
        else:
            y = x.sum(axes)
        return y if self.coeff == 1 else y * self.coeff


@layer("ArgMax")
class ArgMax(Layer):
    """The indices of the `top_k` largest numbers, the largest first, as floats.

    With `axis`: along it; with `out_max_val` the numbers themselves instead. Without `axis`: of
    all axes after the first as one, N×1×top_k, or N×2×top_k with the numbers behind the indices
    for `out_max_val` (and axes of 1 behind these where the bottom has more than 3). As in Caffe,
    and other than in torch, the larger index comes first where numbers are equal. There is no
    gradient.
    """

    param = "argmax_param"
    example = "argmax_param { axis: 1 }"
    fresh = True

    def setup(self, *bottoms: Shape) -> None:
        """Check axis and top_k."""
        (shape,) = bottoms
        self.along = self.axis(self.p.axis, len(shape)) if self.p.HasField("axis") else None
        self.top_k: int = self.p.top_k
        self.out_max_val: bool = self.p.out_max_val
        count = math.prod(shape[1:]) if self.along is None else shape[self.along]
        if not 1 <= self.top_k <= count:
            raise self.error(
                f"top_k must be 1 to {count}, the numbers to choose from; found {self.top_k}",
                field="top_k",
            )

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Find the largest."""
        x = bottoms[0].detach()
        if self.along is not None:
            values, indices = self.largest(x, self.along)
            return values if self.out_max_val else indices
        values, indices = self.largest(x.flatten(1), 1)
        found = torch.stack((indices, values), 1) if self.out_max_val else indices.unsqueeze(1)
        return found.reshape(*found.shape, *[1] * (x.dim() - 3))

    def largest(self, x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Numbers and indices along an axis, found from behind: torch keeps the first of equals."""
        behind = x.flip(axis)
        if self.top_k == 1:
            values, indices = behind.max(axis, keepdim=True)
        else:
            # ONNX's TopK keeps the order of equals, but the exporter knows no stable sort.
            stable = {} if torch.compiler.is_exporting() else {"stable": True}
            values, indices = behind.sort(dim=axis, descending=True, **stable)
            values, indices = (t.narrow(axis, 0, self.top_k) for t in (values, indices))
        return values, (x.shape[axis] - 1 - indices).to(x.dtype)
