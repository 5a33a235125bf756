"""Normalize: vectors of channels brought to one length."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torrefy.layers.base import Layer, Shape, layer, shape_text
from torrefy.schema import schema

from torrefy_ssd.schema import PLUGIN, NormalizeParameter


@layer("Normalize")
class Normalize(Layer):
    """scale · x / sqrt(Σ x² + eps), by the length of a picture or of each place's channels.

    The sum is over C×H×W, or with `across_spatial: false` over C; N×C×… of any rank above 1. One
    blob, the scale: a scalar, or C numbers with `channel_shared: false`; filled by
    `scale_filler`, else with 1 (Liu et al. 2015, arXiv:1506.04579). eps stands within the root,
    where torch's `normalize` has a least length.
    """

    param = "norm_param"
    fields = NormalizeParameter
    example = (
        "norm_param {\n"
        "  across_spatial: false channel_shared: false\n"
        '  scale_filler { type: "constant" value: 20 }\n'
        "}"
    )
    across_spatial: bool
    channel_shared: bool
    scale_filler: Any
    eps: float

    @classmethod
    def claims(cls, spec: Any) -> bool:
        """Another dialect's Normalize has no norm_param."""
        own = schema().own_name(spec.DESCRIPTOR.full_name, cls.param, PLUGIN)
        return bool(spec.HasField(own))

    def setup(self, *bottoms: Shape) -> None:
        """Make the scale."""
        (shape,) = bottoms
        if len(shape) < 2:
            raise self.error(
                f"Normalize takes NxC and more axes, the bottom is {shape_text(shape)}",
                field="bottom",
            )
        filler: Any = 1.0 if self.scale_filler is None else self.scale_filler
        self.add_param("scale", () if self.channel_shared else shape[1:2], filler, "scale_filler")

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Divide by the norm, and scale."""
        (x,) = bottoms
        over = tuple(range(1, x.dim())) if self.across_spatial else (1,)
        norm = (x.square().sum(over, keepdim=True) + self.eps).sqrt()
        scale: Any = self.scale
        if not self.channel_shared:
            scale = scale.view(-1, *[1] * (x.dim() - 2))
        scaled: Tensor = x / norm * scale
        return scaled
