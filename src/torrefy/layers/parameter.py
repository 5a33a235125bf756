"""Parameter: a learned blob as a top."""

from __future__ import annotations

from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer


@layer("Parameter")
class Parameter(Layer):
    """A learned blob of the given shape; the top is the blob itself. It starts as zeros."""

    param = "parameter_param"
    example = "parameter_param { shape { dim: 1 dim: 64 } }"
    bottoms = (0, 0)

    def setup(self, *bottoms: Shape) -> None:
        """Make the blob."""
        if not self.p.HasField("shape"):
            raise self.error(
                "the parameter has no shape",
                field="shape",
                hint="Give parameter_param { shape { dim: … } }.",
            )
        shape = tuple(self.p.shape.dim)
        if any(dim < 0 for dim in shape):
            raise self.error(f"a shape can't have the dim {min(shape)}", field="shape")
        self.add_param("value", shape)

    def forward(self, *bottoms: Tensor) -> Tensor:
        """The blob."""
        value: Tensor = self.value  # type: ignore[assignment]
        return value
