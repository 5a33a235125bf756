"""Layers that give numbers another order: Permute, ShuffleChannel."""

from __future__ import annotations

import torch
from torch import Tensor
from torrefy.layers.base import Layer, Shape, layer

from torrefy_ssd.schema import PermuteParameter, ShuffleChannelParameter


@layer("Permute")
class Permute(Layer):
    """The bottom's axes in another order: axis i of the top is axis order[i] of the bottom.

    Axes that `order` doesn't name follow in their own order. N×C×H×W with `order` 0, 2, 3, 1
    becomes N×H×W×C. It is torch's `permute`.
    """

    param = "permute_param"
    fields = PermuteParameter
    example = "permute_param { order: 0 order: 2 order: 3 order: 1 }"
    in_place = False
    order: tuple[int, ...]

    def setup(self, *bottoms: Shape) -> None:
        """Complete the order."""
        (shape,) = bottoms
        for i, axis in enumerate(self.order):
            self.axis(axis, len(shape), "order")
            if axis in self.order[:i]:
                raise self.error(f"axis {axis} stands twice in the order", field="order")
        rest = [axis for axis in range(len(shape)) if axis not in self.order]
        self.axes = (*self.order, *rest)

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Permute."""
        (x,) = bottoms
        return x.permute(self.axes)


@layer("ShuffleChannel")
class ShuffleChannel(Layer):
    """Channels dealt out from groups: 0, 1, 2, 3, 4, 5 in 2 groups become 0, 3, 1, 4, 2, 5.

    N×C×… of any rank; `group` divides C (Zhang et al. 2017, arXiv:1707.01083). It is torch's
    `channel_shuffle`.
    """

    param = "shuffle_channel_param"
    fields = ShuffleChannelParameter
    example = "shuffle_channel_param { group: 2 }"
    in_place = False
    group: int

    def setup(self, *bottoms: Shape) -> None:
        """Check the group."""
        (shape,) = bottoms
        if len(shape) < 2:
            raise self.error(
                f"ShuffleChannel takes NxC and more axes, the bottom has {len(shape)}",
                field="bottom",
            )
        if shape[1] % self.group:
            raise self.error(
                f"group {self.group} must divide the bottom's {shape[1]} channels", field="group"
            )

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Shuffle."""
        (x,) = bottoms
        grouped = torch.unflatten(x, 1, (self.group, -1))
        return grouped.transpose(1, 2).flatten(1, 2)
