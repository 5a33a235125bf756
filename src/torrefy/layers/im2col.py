"""Im2col: what a convolution lays its kernel on, as channels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from torrefy.layers.base import Shape, layer, shape_text
from torrefy.layers.convolution import Windowed


@layer("Im2col")
class Im2col(Windowed):
    """The patch under a convolution's kernel at each of its places, as C·k… channels.

    N×C×… becomes N×(C·k…)×out…, out = floor((in + 2 pad − dilation (k − 1) − 1) / stride) + 1,
    over any number of spatial axes; C counts slowest. `convolution_param` gives the geometry;
    its num_output, group and fillers mean nothing here.
    """

    example = "convolution_param { kernel_size: 3 pad: 1 }"
    in_place = False
    fresh = True

    def setup(self, *bottoms: Shape) -> None:
        """Read the geometry."""
        (shape,) = bottoms
        p = self.p
        self.channel_axis = self.axis(p.axis, len(shape))
        sizes = shape[self.channel_axis + 1 :]
        axes = len(sizes)
        if not axes:
            raise self.error(
                f"Im2col takes spatial axes behind axis {self.channel_axis}, the bottom is "
                f"{shape_text(shape)}",
                field="axis",
            )
        self.read_geometry(axes)
        self.extent = tuple(
            d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True)
        )
        padded = [s + 2 * p for s, p in zip(sizes, self.pad, strict=True)]
        if any(e > s for e, s in zip(self.extent, padded, strict=True)):
            raise self.error(
                f"the kernel of {shape_text(self.extent)} is larger than the padded bottom of "
                f"{shape_text(padded)}",
                field="kernel_size",
            )

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Cut out the patches."""
        (x,) = bottoms
        first = self.channel_axis + 1
        padded = F.pad(x, [p for pad in reversed(self.pad) for p in (pad, pad)])
        for axis, (extent, stride, dilation) in enumerate(
            zip(self.extent, self.stride, self.dilation, strict=True)
        ):
            padded = padded.unfold(first + axis, extent, stride)[..., ::dilation]
        axes = len(self.kernel)
        order = [*range(first), *range(first + axes, first + 2 * axes), *range(first, first + axes)]
        return padded.permute(order).flatten(self.channel_axis, self.channel_axis + axes)
