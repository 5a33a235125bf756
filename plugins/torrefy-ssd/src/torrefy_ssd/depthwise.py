"""Convolutions of each channel by itself, under the names that two forks gave them."""

from __future__ import annotations

from torrefy.layers.base import Shape, layer
from torrefy.layers.convolution import Convolution


@layer("DepthwiseConvolution")
class DepthwiseConvolution(Convolution):
    """Convolution with as many groups as the bottom has channels (Sifre 2014; MobileNet).

    Bottoms, tops, params and `convolution_param` are Convolution's: weight num_output×1×k…, bias
    num_output. `group` may be left out; the fork's GPU code took it so, whatever was given.
    """

    example = (
        "convolution_param {\n"
        '  num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "msra" }\n'
        "}"
    )
    num_output_follows = False
    """Whether num_output is the bottom's channels, whatever is given."""

    def setup(self, *bottoms: Shape) -> None:
        """Set the groups; the rest is Convolution's."""
        shape = bottoms[0]
        channels = shape[self.axis(self.p.axis, len(shape))]
        group = self.p.group
        if group not in (1, channels):
            raise self.error(
                f"group {group} of a depthwise convolution must be the bottom's {channels} "
                "channels",
                field="group",
                hint="Leave it out.",
            )
        given = self.p
        self.p = type(given)()
        self.p.CopyFrom(given)
        self.p.group = channels
        if self.num_output_follows:
            self.p.num_output = channels
        super().setup(*bottoms)


@layer("ConvolutionDepthwise")
class ConvolutionDepthwise(DepthwiseConvolution):
    """DepthwiseConvolution of one bottom, with as many outputs as channels.

    Top: N×C×out…. Params: weight C×1×k…, bias C. `num_output` and `group` say nothing that the
    bottom doesn't, and may be left out.
    """

    bottoms = (1, 1)
    tops = (1, 1)
    num_output_follows = True
