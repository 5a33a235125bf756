"""Convolution and its transpose, over any number of spatial axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer, shape_text


def spatial(
    owner: Layer, name: str, axes: int, default: int | None, pair: tuple[str, str] | None
) -> tuple[int, ...]:
    """One number for each spatial axis, from `name` (one or all) or from `name_h`, `name_w`."""
    values = list(getattr(owner.p, name))
    if pair and any(owner.p.HasField(field) for field in pair):
        if values:
            raise owner.error(
                f"both {name} and {pair[0]}/{pair[1]} are given; use one of them", field=pair[0]
            )
        if axes != 2:
            raise owner.error(
                f"{pair[0]}/{pair[1]} are for 2 spatial axes, the bottom has {axes}", field=pair[0]
            )
        both = [getattr(owner.p, field) for field in pair]
        if name == "kernel_size" and not all(owner.p.HasField(field) for field in pair):
            raise owner.error(f"{pair[0]} and {pair[1]} go together; one is missing", field=name)
        if name == "stride":
            both = [
                getattr(owner.p, field) if owner.p.HasField(field) else (default or 0)
                for field in pair
            ]
        return tuple(both)
    if not values:
        if default is None:
            raise owner.error(
                f"{name} is missing", field=name, hint=f"Give {owner.param} {{ {name}: … }}."
            )
        return (default,) * axes
    if len(values) not in (1, axes):
        raise owner.error(
            f"{len(values)} values of {name} for {axes} spatial axes: give 1 or {axes}", field=name
        )
    return tuple(values * axes) if len(values) == 1 else tuple(values)


class Windowed(Layer):
    """A layer whose `convolution_param` says where a kernel is laid."""

    param = "convolution_param"

    def read_geometry(self, axes: int) -> None:
        """Read kernel, stride, pad and dilation, a number of each for each spatial axis.

        Raises:
            LayerError: one is missing, below 1, or given for other axes.
        """
        self.kernel = spatial(self, "kernel_size", axes, None, ("kernel_h", "kernel_w"))
        self.stride = spatial(self, "stride", axes, 1, ("stride_h", "stride_w"))
        self.pad = spatial(self, "pad", axes, 0, ("pad_h", "pad_w"))
        self.dilation = spatial(self, "dilation", axes, 1, None)
        for name, values in (
            ("kernel_size", self.kernel),
            ("stride", self.stride),
            ("dilation", self.dilation),
        ):
            if any(value < 1 for value in values):
                raise self.error(f"{name} must be above 0, found {shape_text(values)}", field=name)


class _Convolving(Windowed):
    """What Convolution and Deconvolution share: parameters, checks and params."""

    bottoms: ClassVar[tuple[int, int | None]] = (1, None)
    tops: ClassVar[tuple[int, int | None]] = (1, None)
    pairs = True
    in_place = False
    fresh = True
    needs_tops = False
    transposed: ClassVar[bool]

    def setup(self, *bottoms: Shape) -> None:
        """Read the geometry and make the weight and the bias."""
        p = self.p
        shape = bottoms[0]
        self.channel_axis = self.axis(p.axis, len(shape))
        self.spatial_axes = len(shape) - self.channel_axis - 1
        self.read_geometry(self.spatial_axes)
        num_output = self.require("num_output")
        channels = shape[self.channel_axis]
        self.group = p.group
        if self.group < 1 or channels % self.group or num_output % self.group:
            raise self.error(
                f"group {self.group} must divide both the bottom's {channels} channels "
                f"and num_output {num_output}",
                field="group",
            )
        if self.spatial_axes > 3:
            raise self.error(
                f"{self.spatial_axes} spatial axes; at most 3 are supported", field="axis"
            )
        for i, other in enumerate(bottoms[1:], 1):
            if other != shape:
                raise self.error(
                    f"all bottoms share one kernel and must have one shape: bottom 0 is "
                    f"{shape_text(shape)}, bottom {i} is {shape_text(other)}",
                    field="bottom",
                )
        self.check_geometry(shape)
        if self.transposed:
            weight = (channels, num_output // self.group, *self.kernel)
        else:
            weight = (num_output, channels // self.group, *self.kernel)
        self.channels = channels
        self.num_output = num_output
        self.add_param("weight", weight, p.weight_filler)
        self.bias: Any = None
        if p.bias_term:
            del self.bias
            self.add_param("bias", (num_output,), p.bias_filler)

    def check_geometry(self, shape: Shape) -> None:
        """Refuse what has no output."""

    def one(self, x: Tensor) -> Tensor:
        """The top of one bottom whose axes before the channels are one batch axis."""
        raise NotImplementedError

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Convolve each bottom with the one kernel."""
        if len(bottoms) == 1:
            return self.top(bottoms[0])
        return tuple(self.top(x) for x in bottoms)

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """The kernel times each place that it is laid on: the top's, or a transpose's bottom's.

        Taps on the padding count too, as is usual.
        """
        shape, other = (bottoms, tops) if self.transposed else (tops, bottoms)
        per_number: int = other[0][self.channel_axis] // self.group * math.prod(self.kernel)
        return sum(map(math.prod, shape)) * per_number

    def top(self, x: Tensor) -> Tensor:
        """The top of one bottom, whatever its axes."""
        if self.channel_axis == 1 and self.spatial_axes:
            return self.one(x)
        lead = x.shape[: self.channel_axis]
        flat = x.reshape(-1, *x.shape[self.channel_axis :])
        if not self.spatial_axes:  # no spatial axes: a matrix product
            flat = self.one(flat.unsqueeze(-1)).squeeze(-1)
        else:
            flat = self.one(flat)
        return flat.reshape(*lead, *flat.shape[1:])


_CONVOLVE: tuple[Any, ...] = (F.conv1d, F.conv1d, F.conv2d, F.conv3d)
_DECONVOLVE: tuple[Any, ...] = (
    F.conv_transpose1d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d,
)  # fmt: skip


@layer("Convolution")
class Convolution(_Convolving):
    """Cross-correlation of N×C×… with num_output kernels of C/group×k….

    Bottoms: N×C and any number of spatial axes behind `axis` (default 1). Top: N×num_output×out…,
    out = floor((in + 2 pad − dilation (k − 1) − 1) / stride) + 1 (pooling rounds up, this rounds
    down). Several bottoms make as many tops with one kernel. Params: weight num_output×C/group×k…,
    bias num_output. It is torch's, except that the weight is filled with zeros unless a
    `weight_filler` says otherwise, and that 1-D and 3-D kernels take one number for each axis.
    """

    transposed = False

    example = (
        "convolution_param {\n"
        '  num_output: 64 kernel_size: 3 pad: 1 weight_filler { type: "msra" }\n'
        "}"
    )

    def check_geometry(self, shape: Shape) -> None:
        """Refuse a kernel that is larger than the padded bottom."""
        sizes = shape[self.channel_axis + 1 :]
        padded = [s + 2 * p for s, p in zip(sizes, self.pad, strict=True)]
        extent = [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
        if any(e > s for e, s in zip(extent, padded, strict=True)):
            dilated = " dilated" if extent != list(self.kernel) else ""
            raise self.error(
                f"the{dilated} kernel of {shape_text(extent)} is larger than the padded bottom "
                f"of {shape_text(padded)}",
                field="kernel_size",
            )

    def one(self, x: Tensor) -> Tensor:
        """Convolve N×C×…."""
        n = self.spatial_axes
        if not n:
            return F.conv1d(x, self.weight.unsqueeze(-1), self.bias, groups=self.group)  # type: ignore[operator]
        result: Tensor = _CONVOLVE[n](
            x, self.weight, self.bias, self.stride, self.pad, self.dilation, self.group
        )
        return result


@layer("Deconvolution")
class Deconvolution(_Convolving):
    """Convolution's transpose: upsampling by learned kernels.

    Bottoms: N×C×…; tops: N×num_output×out…, out = stride (in − 1) + dilation (k − 1) + 1 − 2 pad;
    there is no output padding. Params: weight C×num_output/group×k… (torch's order too), bias
    num_output.
    """

    transposed = True

    example = (
        "convolution_param {\n"
        '  num_output: 21 kernel_size: 4 stride: 2 weight_filler { type: "bilinear" }\n'
        "}"
    )

    def check_geometry(self, shape: Shape) -> None:
        """Refuse a padding that leaves nothing."""
        sizes = shape[self.channel_axis + 1 :]
        out = [
            s * (n - 1) + d * (k - 1) + 1 - 2 * p
            for n, k, s, p, d in zip(
                sizes, self.kernel, self.stride, self.pad, self.dilation, strict=True
            )
        ]
        if any(size < 1 for size in out):
            raise self.error(
                f"the output would be {shape_text(out)}: the pad {shape_text(self.pad)} "
                "takes away all of it",
                field="pad",
            )

    def one(self, x: Tensor) -> Tensor:
        """Convolve backwards N×C×…."""
        n = self.spatial_axes
        if not n:
            return F.conv_transpose1d(x, self.weight.unsqueeze(-1), self.bias, groups=self.group)  # type: ignore[operator]
        result: Tensor = _DECONVOLVE[n](
            x, self.weight, self.bias, self.stride, self.pad, 0, self.group, self.dilation
        )
        return result
