"""Pooling, by Caffe's rules for sizes and borders."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer, shape_text

LOWEST = -3.4028234663852886e38
"""-FLT_MAX: what Caffe's MAX starts from, and gives for a window wholly outside."""


@layer("Pooling")
class Pooling(Layer):
    """The maximum or average of windows of N×C×H×W.

    Sizes are rounded up: ceil((in + 2 pad − k) / stride) + 1 (`round_mode: FLOOR` rounds down);
    with padding, a last window that would start beyond the picture and its left padding is
    dropped. MAX ignores the padding. AVE divides by the window clipped to the padded picture:
    padding counts, the overhang of rounding up does not. A second top of MAX holds the index
    of each maximum in its H×W plane.
    """

    param = "pooling_param"
    tops = (1, 2)
    in_place = False
    fresh = True

    def setup(self, *bottoms: Shape) -> None:
        """Read the geometry."""
        (shape,) = bottoms
        p = self.p
        if len(shape) != 4:
            raise self.error(
                f"pooling takes 4 axes (N, C, H, W), the bottom is {shape_text(shape)}",
                field="bottom",
            )
        method = p.PoolMethod.Name(p.pool)
        if method == "STOCHASTIC":
            raise self.error(
                "STOCHASTIC pooling is not supported: Caffe has it on GPUs only",
                field="pool",
                hint="Use MAX or AVE.",
            )
        self.average = method == "AVE"
        if self.average and self.num_tops > 1:
            raise self.error("only MAX pooling has a second top, the mask", field="pool")
        self.ceil = p.RoundMode.Name(p.round_mode) == "CEIL"
        self.everywhere = p.global_pooling
        given = [n for n in ("kernel_size", "kernel_h", "kernel_w") if p.HasField(n)]
        if self.everywhere:
            if given:
                raise self.error(
                    f"global_pooling pools the whole plane, but {given[0]} is given too",
                    field=given[0],
                )
            self.kernel = shape[2:]
        else:
            self.kernel = self.pair("kernel", "kernel_size", None)
        self.stride = self.pair("stride", "stride", 1)
        self.pad = self.pair("pad", "pad", 0)
        if self.everywhere and (self.pad != (0, 0) or self.stride != (1, 1)):
            raise self.error("global_pooling takes no pad and no stride", field="global_pooling")
        if min(self.stride) < 1 or (not self.everywhere and min(self.kernel) < 1):
            raise self.error("kernel and stride must be above 0", field="kernel_size")
        if any(p >= k for p, k in zip(self.pad, self.kernel, strict=True)):
            raise self.error(
                f"pad {shape_text(self.pad)} must be smaller than the kernel "
                f"{shape_text(self.kernel)}",
                field="pad",
            )
        # A kernel larger than the padded bottom is clipped, as long as rounding up leaves a window.
        if any(self.outputs(shape[2 + axis], axis) < 1 for axis in (0, 1)):
            padded = [s + 2 * q for s, q in zip(shape[2:], self.pad, strict=True)]
            raise self.error(
                f"the kernel of {shape_text(self.kernel)} is larger than the padded bottom of "
                f"{shape_text(padded)}",
                field="kernel_size",
            )

    def pair(self, prefix: str, single: str, default: int | None) -> tuple[int, int]:
        """Height and width, from one field or from two."""
        p = self.p
        names = (f"{prefix}_h", f"{prefix}_w")
        two = [p.HasField(name) for name in names]
        if any(two):
            if p.HasField(single):
                raise self.error(
                    f"both {single} and {names[0]}/{names[1]} are given; use one of them",
                    field=single,
                )
            if not all(two) and default is None:
                raise self.error(
                    f"{names[0]} and {names[1]} go together", field=names[two.index(1)]
                )
            height, width = (getattr(p, n) if p.HasField(n) else (default or 0) for n in names)
            return height, width
        if p.HasField(single) or default is not None:
            value = getattr(p, single)
            return value, value
        raise self.error(
            f"{single} is missing",
            field=single,
            hint="Give pooling_param { kernel_size: … } or global_pooling: true.",
        )

    def outputs(self, size: int, axis: int) -> int:
        """The number of windows along an axis (0 is height)."""
        k, s, p = self.kernel[axis], self.stride[axis], self.pad[axis]
        span = size + 2 * p - k
        out = (-(-span // s) if self.ceil else span // s) + 1
        if any(self.pad) and (out - 1) * s >= size + p:
            out -= 1
        return out

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Pool each plane."""
        (x,) = bottoms
        if self.everywhere and self.average:
            return x.mean((2, 3), keepdim=True)
        return self.mean(x) if self.average else self.maximum(x)

    def fits(self, x: Tensor) -> bool:
        """Whether torch's own ceil rule gives Caffe's sizes, and its limits hold."""
        for axis in (0, 1):
            size, k = x.shape[2 + axis], self.kernel[axis]
            s, p = self.stride[axis], self.pad[axis]
            if 2 * p > k or k > size + 2 * p:
                return False
            span = size + 2 * p - k
            ours = self.outputs(size, axis)
            theirs = (-(-span // s) if self.ceil else span // s) + 1
            if self.ceil and (theirs - 1) * s >= size + p:
                theirs -= 1
            if ours != theirs:
                return False
        return True

    def margins(self, x: Tensor) -> tuple[int, int, int, int]:
        """Left, right, top and bottom padding that makes plain floor pooling give Caffe's sizes."""
        ends = []
        for axis in (1, 0):
            size, p = x.shape[2 + axis], self.pad[axis]
            need = (self.outputs(size, axis) - 1) * self.stride[axis] + self.kernel[axis]
            ends += [p, need - size - p]
        left, right, top, bottom = ends
        return left, right, top, bottom

    def maximum(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """MAX pooling, with the mask if a second top asks for it."""
        mask = self.num_tops > 1
        if self.everywhere:
            plane = x.shape[2:]
            if not mask:
                return F.max_pool2d(x, plane)
            top, index = F.max_pool2d(x, plane, return_indices=True)
            return top, index.to(x.dtype)
        if self.fits(x):
            arguments = (self.kernel, self.stride, self.pad, 1, self.ceil)
            if not mask:
                return F.max_pool2d(x, *arguments)
            top, index = F.max_pool2d(x, *arguments, return_indices=True)
            return top, index.to(x.dtype)
        margins = self.margins(x)
        # A negative margin crops: with a stride above the kernel the rest is never looked at.
        padded = F.pad(x, margins, value=LOWEST)
        if not mask:
            return F.max_pool2d(padded, self.kernel, self.stride)
        top, index = F.max_pool2d(padded, self.kernel, self.stride, return_indices=True)
        width = padded.shape[3]
        rows = index.div(width, rounding_mode="floor") - margins[2]
        columns = index % width - margins[0]
        inside = (rows >= 0) & (columns >= 0) & (rows < x.shape[2]) & (columns < x.shape[3])
        index = torch.where(inside, rows * x.shape[3] + columns, -1)
        return top, index.to(x.dtype)

    def mean(self, x: Tensor) -> Tensor:
        """AVE pooling."""
        if self.fits(x):
            return F.avg_pool2d(x, self.kernel, self.stride, self.pad, self.ceil, True)
        padded = F.pad(x, self.margins(x))
        # (PyTorch's exporter loses divisor_override.)
        total = F.avg_pool2d(padded, self.kernel, self.stride) * math.prod(self.kernel)
        areas = []
        for axis in (0, 1):
            size, p, k = x.shape[2 + axis], self.pad[axis], self.kernel[axis]
            start = torch.arange(self.outputs(size, axis), device=x.device) * self.stride[axis] - p
            areas.append((start + k).clamp(max=size + p) - start)
        # A window wholly outside the picture sums to 0 over a negative area: Caffe's −0.
        return total / (areas[0][:, None] * areas[1]).to(x.dtype)
