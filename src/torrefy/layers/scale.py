"""Scale and Bias: factors and offsets along some axes, learned or from a second bottom."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer, shape_text


class _Along(Layer):
    """What Scale and Bias share: which axes of the bottom the factor spans."""

    bottoms = (1, 2)
    fresh = True
    needs_tops = False
    learned: bool
    """Whether the factor or offset is a param, not the second bottom."""
    start: int

    @property
    def per_channel(self) -> bool:
        """Whether it is one param for each channel (axis 1)."""
        return self.learned and self.start == 1 and self.blobs[0].dim() == 1

    def span(self, shapes: tuple[Shape, ...]) -> Shape:
        """The factor's shape, from the second bottom or from `axis` and `num_axes`."""
        shape = shapes[0]
        if len(shapes) == 2 and not shapes[1]:
            self.start = 0
            return ()
        self.start = self.axis(self.p.axis, max(len(shape), 1))
        if len(shapes) == 2:
            span = shapes[1]
            if shape[self.start : self.start + len(span)] != span:
                raise self.error(
                    f"bottom 1 of {shape_text(span)} does not match bottom 0 of "
                    f"{shape_text(shape)} from axis {self.start} on",
                    field="bottom",
                )
            return span
        count = self.p.num_axes
        if count == -1:
            return shape[self.start :]
        if count < -1 or self.start + count > len(shape):
            raise self.error(
                f"num_axes {count} from axis {self.start} of a bottom with {len(shape)} axes",
                field="num_axes",
            )
        return shape[self.start : self.start + count]

    def spread(self, factor: Tensor, x: Tensor) -> Tensor:
        """The factor with axes of 1 behind it, so that it broadcasts over the bottom."""
        return factor.reshape(*factor.shape, *([1] * (x.dim() - self.start - factor.dim())))


@layer("Scale")
class Scale(_Along):
    """x · γ (+ β) for an x of any shape, which the top has.

    γ is a param of `num_axes` axes' extents from `axis` on (default: one, the channels; −1: all
    behind it), which starts as 1; or the second bottom, of any shape that x has from `axis` on. β
    (`bias_term`, default false) has γ's shape. Params: γ and β; with two bottoms β alone.
    """

    param = "scale_param"
    example = "scale_param { bias_term: true }"

    def setup(self, *bottoms: Shape) -> None:
        """Make the params."""
        span = self.span(bottoms)
        self.learned = len(bottoms) == 1
        if self.learned:
            self.add_param("weight", span, self.p.filler if self.p.HasField("filler") else 1.0)
        self.bias: Any = None
        if self.p.bias_term:
            del self.bias
            self.add_param("bias", span, self.p.bias_filler)

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Multiply, and add the bias where there is one."""
        x = bottoms[0]
        factor: Any = self.weight if self.learned else bottoms[1]
        y = x * self.spread(factor, x)
        return y if self.bias is None else y + self.spread(self.bias, x)


@layer("Bias")
class Bias(_Along):
    """x + β for an x of any shape, which the top has.

    β is a param of `num_axes` axes' extents from `axis` on (−1: all behind it), which starts as 0;
    or the second bottom, of any shape that x has from `axis` on. torch would align it with the
    last axes.
    """

    param = "bias_param"

    def setup(self, *bottoms: Shape) -> None:
        """Make the param."""
        span = self.span(bottoms)
        self.learned = len(bottoms) == 1
        if self.learned:
            self.add_param("bias", span, self.p.filler)

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Add."""
        x = bottoms[0]
        offset: Any = self.bias if self.learned else bottoms[1]
        return x + self.spread(offset, x)
