"""Pooling, by Caffe's rules for sizes and borders, in one layer or a pyramid of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer, shape_text

LOWEST = -3.4028234663852886e38
"""-FLT_MAX: what Caffe's MAX starts from, and gives for a window wholly outside."""


TINY = 1.1754943508222875e-38
"""FLT_MIN: what Caffe's STOCHASTIC divides by where all is 0."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class Windows:
    """Where the windows of a plane lie: height and width of kernel, stride and padding."""

    kernel: Pair
    stride: Pair
    pad: Pair = (0, 0)
    ceil: bool = True

    def outputs(self, size: int, axis: int) -> int:
        """The number of windows along an axis (0 is height)."""
        k, s, p = self.kernel[axis], self.stride[axis], self.pad[axis]
        span = size + 2 * p - k
        out = (-(-span // s) if self.ceil else span // s) + 1
        if any(self.pad) and (out - 1) * s >= size + p:
            out -= 1
        return out

    def ceil_mode(self, x: Tensor) -> bool | None:
        """With which of torch's two roundings its pooling makes just these windows; None: neither.

        Up only where torch has no window to drop: ONNX does not drop it.
        """
        up = down = True
        for axis in (0, 1):
            size, k = x.shape[2 + axis], self.kernel[axis]
            s, p = self.stride[axis], self.pad[axis]
            span = size + 2 * p - k
            if 2 * p > k or span < 0:
                return None
            ours = self.outputs(size, axis)
            down &= ours == span // s + 1
            up &= ours == -(-span // s) + 1 and (ours - 1) * s < size + p
        return False if down else True if up else None

    def margins(self, x: Tensor) -> tuple[int, int, int, int]:
        """Left, right, top and bottom padding that makes plain floor pooling give Caffe's sizes.

        A negative margin crops: with a stride above the kernel the rest is never looked at.
        """
        ends = []
        for axis in (1, 0):
            size, p = x.shape[2 + axis], self.pad[axis]
            need = (self.outputs(size, axis) - 1) * self.stride[axis] + self.kernel[axis]
            ends += [p, need - size - p]
        left, right, top, bottom = ends
        return left, right, top, bottom

    def maximum(self, x: Tensor) -> Tensor:
        """The largest of each window; padding counts for nothing."""
        up = self.ceil_mode(x)
        if up is not None:
            return F.max_pool2d(x, self.kernel, self.stride, self.pad, 1, up)
        padded = F.pad(x, self.margins(x), value=LOWEST)
        return F.max_pool2d(padded, self.kernel, self.stride)

    def maximum_and_mask(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The largest of each window, and its index in the plane (−1 in an empty window)."""
        up = self.ceil_mode(x)
        if up is not None:
            top, index = F.max_pool2d(
                x, self.kernel, self.stride, self.pad, 1, up, return_indices=True
            )
            return top, index.to(x.dtype)
        margins = self.margins(x)
        padded = F.pad(x, margins, value=LOWEST)
        top, index = F.max_pool2d(padded, self.kernel, self.stride, return_indices=True)
        width = padded.shape[3]
        rows = index.div(width, rounding_mode="floor") - margins[2]
        columns = index % width - margins[0]
        inside = (rows >= 0) & (columns >= 0) & (rows < x.shape[2]) & (columns < x.shape[3])
        index = torch.where(inside, rows * x.shape[3] + columns, -1)
        return top, index.to(x.dtype)

    def total(self, x: Tensor) -> Tensor:
        """The sum of each window."""
        # (PyTorch's exporter loses divisor_override. ONNX Runtime joins a padding with the pooling
        # behind it, and refuses it as wide as the kernel: a product stands between.)
        padded = F.pad(x, self.margins(x))
        if self.kernel == (1, 1):
            return padded[:, :, :: self.stride[0], :: self.stride[1]]
        return F.avg_pool2d(padded * math.prod(self.kernel), self.kernel, self.stride)

    def mean(self, x: Tensor) -> Tensor:
        """The sum of each window over its area in the padded plane."""
        up = self.ceil_mode(x)
        if up is not None:
            return F.avg_pool2d(x, self.kernel, self.stride, self.pad, up, True)
        areas = []
        for axis in (0, 1):
            size, p, k = x.shape[2 + axis], self.pad[axis], self.kernel[axis]
            start = torch.arange(self.outputs(size, axis), device=x.device) * self.stride[axis] - p
            areas.append((start + k).clamp(max=size + p) - start)
        # A window wholly outside the picture sums to 0 over a negative area: Caffe's −0.
        return self.total(x) / (areas[0][:, None] * areas[1]).to(x.dtype)

    def sample(self, x: Tensor) -> Tensor:
        """One of each window at random, each with the probability of its share of the sum."""
        padded = F.pad(x, self.margins(x))
        windows = padded.unfold(2, self.kernel[0], self.stride[0])
        windows = windows.unfold(3, self.kernel[1], self.stride[1]).flatten(-2)
        with torch.no_grad():
            reached = windows.cumsum(-1)
            # Caffe's random numbers are above 0: a value of 0 is never chosen beside others.
            threshold = (1 - torch.rand_like(reached[..., :1])) * reached[..., -1:]
            chosen = (reached >= threshold).int().argmax(-1, keepdim=True)  # the first that does
        return windows.gather(-1, chosen).squeeze(-1)

    def expectation(self, x: Tensor) -> Tensor:
        """What `sample` gives on the average: Σ x² / Σ x of each window, 0 where all is 0."""
        return self.total(x * x) / (self.total(x) + TINY)


@layer("Pooling")
class Pooling(Layer):
    """One number for each window of N×C×H×W: its maximum, its average, or one at random.

    Sizes are rounded up: ceil((in + 2 pad − k) / stride) + 1 (`round_mode: FLOOR` rounds down);
    with padding, a last window that would start beyond the picture and its left padding is
    dropped. MAX ignores the padding. AVE divides by the window clipped to the padded picture:
    padding counts, the overhang of rounding up does not. A second top of MAX holds the index
    of each maximum in its H×W plane.

    STOCHASTIC (Zeiler and Fergus 2013, arXiv:1301.3557), for bottoms that are nowhere negative:
    in TRAIN one value of the window with probability x / Σ x, in TEST Σ x² / Σ x. It takes no
    padding. Caffe has it on GPUs only, without a gradient in TEST; here it is everywhere, with
    the formula's gradient.
    """

    param = "pooling_param"
    example = "pooling_param { pool: MAX kernel_size: 3 stride: 2 }"
    tops = (1, 2)
    in_place = False
    fresh = True
    needs_tops = False

    def setup(self, *bottoms: Shape) -> None:
        """Read the geometry."""
        (shape,) = bottoms
        p = self.p
        if len(shape) != 4:
            raise self.error(
                f"pooling takes 4 axes (N, C, H, W), the bottom is {shape_text(shape)}",
                field="bottom",
            )
        self.method: str = p.PoolMethod.Name(p.pool)
        if self.method != "MAX" and self.num_tops > 1:
            raise self.error("only MAX pooling has a second top, the mask", field="pool")
        self.everywhere: bool = p.global_pooling
        given = [n for n in ("kernel_size", "kernel_h", "kernel_w") if p.HasField(n)]
        if self.everywhere:
            if given:
                raise self.error(
                    f"global_pooling pools the whole plane, but {given[0]} is given too",
                    field=given[0],
                )
            kernel = (shape[2], shape[3])
        else:
            kernel = self.pair("kernel", "kernel_size", None)
        stride, pad = self.pair("stride", "stride", 1), self.pair("pad", "pad", 0)
        self.windows = Windows(kernel, stride, pad, p.RoundMode.Name(p.round_mode) == "CEIL")
        if self.everywhere and (pad != (0, 0) or stride != (1, 1)):
            raise self.error("global_pooling takes no pad and no stride", field="global_pooling")
        if min(stride) < 1 or (not self.everywhere and min(kernel) < 1):
            raise self.error("kernel and stride must be above 0", field="kernel_size")
        if any(pad) and self.method == "STOCHASTIC":
            raise self.error("STOCHASTIC pooling takes no padding", field="pad")
        if any(p >= k for p, k in zip(pad, kernel, strict=True)):
            raise self.error(
                f"pad {shape_text(pad)} must be smaller than the kernel {shape_text(kernel)}",
                field="pad",
            )
        # A kernel larger than the padded bottom is clipped, as long as rounding up leaves a window.
        if any(self.windows.outputs(shape[2 + axis], axis) < 1 for axis in (0, 1)):
            padded = [s + 2 * q for s, q in zip(shape[2:], pad, strict=True)]
            raise self.error(
                f"the kernel of {shape_text(kernel)} is larger than the padded bottom of "
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

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Pool each plane."""
        (x,) = bottoms
        windows = self.windows
        if self.everywhere:
            if self.method == "AVE":
                return x.mean((2, 3), keepdim=True)
            windows = Windows((x.shape[2], x.shape[3]), (1, 1))
        if self.num_tops > 1:
            return windows.maximum_and_mask(x)
        return pool(windows, self.method, x, self.training)


def pool(windows: Windows, method: str, x: Tensor, training: bool) -> Tensor:
    """Pool each plane of N×C×H×W by MAX, AVE or STOCHASTIC."""
    if method == "MAX":
        return windows.maximum(x)
    if method == "AVE":
        return windows.mean(x)
    return windows.sample(x) if training else windows.expectation(x)


@layer("SPP")
class SPP(Layer):
    """A pyramid of poolings of N×C×H×W, each over the whole plane, as one vector an item.

    Level l pools 2^l × 2^l bins: kernel and stride ceil(size / bins), padding (kernel · bins −
    size + 1) / 2 rounded down. The levels are flattened and joined: N×C(1 + 4 + 16 + …); a
    pyramid of one level stays N×C×1×1 (He et al. 2014, arXiv:1406.4729). The bins follow the
    picture's size at each pass.
    """

    param = "spp_param"
    example = "spp_param { pyramid_height: 3 }"
    in_place = False
    fresh = True

    def setup(self, *bottoms: Shape) -> None:
        """Check that the plane has room for the finest level."""
        (shape,) = bottoms
        self.height = self.require("pyramid_height")
        self.method: str = self.p.PoolMethod.Name(self.p.pool)
        if len(shape) != 4:
            raise self.error(
                f"SPP takes 4 axes (N, C, H, W), the bottom is {shape_text(shape)}", field="bottom"
            )
        for level in range(self.height):
            self.level(level, shape[2:])

    def level(self, level: int, plane: Shape) -> Windows:
        """The windows of a level.

        Raises:
            LayerError: the plane is too small, or the method takes no padding.
        """
        bins: int = 2**level
        kernel = tuple(-(-size // bins) for size in plane)
        pad = tuple((k * bins - size + 1) // 2 for k, size in zip(kernel, plane, strict=True))
        if any(p >= k for p, k in zip(pad, kernel, strict=True)):
            raise self.error(
                f"a plane of {shape_text(plane)} can't be cut into the {bins}x{bins} bins of "
                f"level {level + 1}",
                field="pyramid_height",
            )
        if any(pad) and self.method == "STOCHASTIC":
            raise self.error(
                f"STOCHASTIC pooling takes no padding, but level {level + 1} of a plane of "
                f"{shape_text(plane)} needs some",
                field="pool",
            )
        return Windows((kernel[0], kernel[1]), (kernel[0], kernel[1]), (pad[0], pad[1]))

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Pool at each level and join."""
        (x,) = bottoms
        plane = tuple(x.shape[2:])
        levels = [
            pool(self.level(level, plane), self.method, x, self.training)
            for level in range(self.height)
        ]
        return levels[0] if self.height == 1 else torch.cat([y.flatten(1) for y in levels], 1)
