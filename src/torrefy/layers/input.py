"""Input: where a net's data comes in."""

from __future__ import annotations

from torch import Tensor

from torrefy.layers.base import MOST_ELEMENTS, Layer, Shape, layer


@layer("Input")
class Input(Layer):
    """The net's inputs: one top a blob, shapes from `input_param`, one each or one for all.

    An array that is given may have any batch size; the net is compiled for the definition's.
    """

    feeds = True
    param = "input_param"
    example = "input_param { shape { dim: 1 dim: 3 dim: 224 dim: 224 } }"
    bottoms = (0, 0)
    tops = (1, None)

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        """The tops' shapes as the definition gives them.

        Raises:
            LayerError: no shape, too few of them, or one that holds too much.
        """
        shapes = [tuple(shape.dim) for shape in self.p.shape]
        if not shapes:
            raise self.error(
                "the input has no shape",
                field="shape",
                hint="Give input_param { shape { dim: 1 dim: 3 dim: 224 dim: 224 } }.",
            )
        if len(shapes) not in (1, self.num_tops):
            raise self.error(
                f"{self.num_tops} tops but {len(shapes)} shapes: give one for all or one for each",
                field="shape",
            )
        for shape in shapes:
            count = 1
            for dim in shape:
                if dim < 0:
                    raise self.error(f"a shape can't have the dim {dim}", field="shape")
                count *= dim
            if count >= MOST_ELEMENTS:
                raise self.error(
                    f"an input of {count:,} elements; a blob holds fewer than {MOST_ELEMENTS:,}",
                    field="shape",
                )
        return shapes * self.num_tops if len(shapes) == 1 else shapes

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """What is fed to the net comes out unchanged."""
        return bottoms
