"""Layers that pick items of a batch by another blob: Filter, BatchReindex."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer, shape_text


@layer("Filter")
class Filter(Layer):
    """The items of each bottom for which the last bottom, the selector, is not 0.

    Bottoms: any number of N×…, and the selector, N (or N×1×…). Tops: M×… of each but the
    selector. M is known only when the numbers are: the definition's shapes have all N, as Caffe's
    first reshape. No gradient goes to the selector.
    """

    bottoms = (2, None)
    tops = (1, None)
    in_place = False
    fresh = True
    example_bottoms = ((2, 4), (2,))

    def setup(self, *bottoms: Shape) -> None:
        """Check the counts and the batch sizes."""
        *items, selector = bottoms
        if self.num_tops != len(items):
            raise self.error(
                f"Filter makes a top of each bottom but the last, the selector; found "
                f"{len(bottoms)} bottoms and {self.num_tops} tops",
                field="top",
            )
        if not selector or any(dim != 1 for dim in selector[1:]):
            raise self.error(
                f"the selector, the last bottom, must be N or Nx1x…; it is {shape_text(selector)}",
                field="bottom",
            )
        self.check(bottoms)

    def check(self, bottoms: Sequence[Shape]) -> None:
        """Refuse bottoms of different batch sizes."""
        *items, selector = bottoms
        for i, shape in enumerate(items):
            if shape[:1] != selector[:1]:
                raise self.error(
                    f"the selector has {selector[0]} items, bottom {i} is {shape_text(shape)}",
                    field="bottom",
                )

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        """All items: how many will be selected the definition can't tell."""
        return list(bottoms[:-1])

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Pick the items."""
        self.check([x.shape for x in bottoms])
        *items, selector = bottoms
        index = selector.detach().flatten().nonzero().squeeze(1)
        tops = tuple(x.index_select(0, index) for x in items)
        return tops[0] if self.num_tops == 1 else tops


@layer("BatchReindex")
class BatchReindex(Layer):
    """The items of bottom 0 in the order of bottom 1's indices; some of them twice, some never.

    Bottoms: N×…, and M indices from 0 to below N (fractions are cut off). Top: M×…. The
    gradients of an item that is taken several times add up; none goes to the indices.
    """

    bottoms = (2, 2)
    in_place = False
    fresh = True
    example_bottoms = ((2, 4), (3,))

    def setup(self, *bottoms: Shape) -> None:
        """Check the axes."""
        shape, index = bottoms
        if not shape:
            raise self.error("bottom 0 has no axes", field="bottom")
        if len(index) != 1:
            raise self.error(
                f"bottom 1, the indices, must have 1 axis; it is {shape_text(index)}",
                field="bottom",
            )

    def index_limit(self, bottom: int, shapes: Sequence[Shape]) -> int | None:
        """Bottom 1 counts the items of bottom 0."""
        return shapes[0][0] if bottom == 1 else None

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Pick the items."""
        x, order = bottoms
        index = order.detach().long()
        try:
            return x.index_select(0, index)
        except IndexError:
            raise self.error(
                f"an index is not from 0 to below {len(x)}, the number of items: "
                f"{stray(index, len(x))}",
                field="bottom",
            ) from None


def stray(index: Tensor, limit: int) -> int:
    """The first of some indices that is not from 0 to below a limit."""
    return int(index[(index < 0) | (index >= limit)][0])
