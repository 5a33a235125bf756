"""LRN: local response normalisation."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from torrefy.layers.base import Layer, Shape, layer, shape_text


def lowered(x: Tensor, beta: float) -> Tensor:
    """x^−β of numbers above 0: for β = 3/4 by two square roots, half as long as by `pow`."""
    if beta == 0.75:
        root = x.rsqrt()
        return root * root.sqrt()
    return x.pow(-beta)


def neighbours(x: Tensor, size: int) -> Tensor:
    """The sum over a window of channels around each of N×C×H×W.

    Shifted sums take a fifth of the time of torch's avg_pool3d, which its own
    `local_response_norm` uses; in ONNX Runtime they are three times as fast as its LRN operator.
    """
    channels = x.shape[1]
    reach = min(size // 2, channels - 1)  # beyond it there is nothing to add
    return windows(F.pad(x, (0, 0, 0, 0, reach, reach)), 2 * reach + 1, channels)


def windows(x: Tensor, size: int, count: int) -> Tensor:
    """The sums of the first `count` windows of channels, by halves: of 5 by 3 additions."""
    if size == 1:
        return x.narrow(1, 0, count)
    half = size // 2
    part = x if half == 1 else windows(x, half, count + half)
    total = part.narrow(1, 0, count) + part.narrow(1, half, count)
    return total.add_(x.narrow(1, size - 1, count)) if size % 2 else total


MOST_BANDED = 192
"""Up to so many channels the windows are summed faster by a 1x1 convolution, its weight a band,
than by shifted sums, in ONNX Runtime on CPUs. Of the whole LRN that saves a third at 64 channels
of 56x56, a quarter at 96, at 192 a tenth where the batch is 8; at 256 it costs a fifth."""


def divided(x: Tensor, scale: Tensor, beta: float) -> Tensor:
    """What x · s^−β is in ONNX Runtime's faster operators: its Pow is three times as slow."""
    if beta == 0.75:
        return x / (scale * scale.sqrt()).sqrt()
    if beta == 0.5:
        return x / scale.sqrt()
    return x / scale if beta == 1 else x * torch.exp(torch.log(scale) * -beta)


class _Across(torch.autograd.Function):
    """x s^−β with s = k + α/n Σ x² over channels, and its gradient in one piece.

    dx = dy s^−β − 2 α β / n · x Σ dy x s^(−β − 1), the sum over the same window.
    """

    @staticmethod
    def forward(  # noqa: PLR0917
        ctx: Any, x: Tensor, size: int, alpha: float, beta: float, k: float
    ) -> Tensor:
        scale = neighbours(x * x, size).mul_(alpha / size).add_(k)
        ctx.save_for_backward(x, scale)
        ctx.size, ctx.alpha, ctx.beta = size, alpha, beta
        return lowered(scale, beta).mul_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_top: Tensor) -> tuple[Tensor | None, ...]:
        x, scale = ctx.saved_tensors
        d_x = lowered(scale, ctx.beta).mul_(d_top)
        around = neighbours((d_x * x).div_(scale), ctx.size)
        d_x.addcmul_(x, around, value=-2 * ctx.alpha * ctx.beta / ctx.size)
        return d_x, None, None, None, None


@layer("LRN")
class LRN(Layer):
    """Local response normalisation (Krizhevsky et al. 2012, section 3.3).

    ACROSS_CHANNELS: x · (k + α/n · Σ x²)^−β over n channels. WITHIN_CHANNEL:
    x · (1 + α · mean of x² over n×n)^−β, the mean by Caffe's padded AVE pooling; k is not used.
    The top has the bottom's shape, N×C×H×W. The first is torch's, the second torch has not.
    """

    param = "lrn_param"
    example = "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"
    in_place = False
    fresh = True

    def setup(self, *bottoms: Shape) -> None:
        """Check the size."""
        (shape,) = bottoms
        if len(shape) != 4:
            raise self.error(
                f"LRN takes 4 axes (N, C, H, W), the bottom is {shape_text(shape)}", field="bottom"
            )
        if self.p.local_size % 2 == 0:
            raise self.error(
                f"local_size must be odd, found {self.p.local_size}", field="local_size"
            )
        self.within = self.p.NormRegion.Name(self.p.norm_region) == "WITHIN_CHANNEL"
        self.size: int = self.p.local_size
        self.alpha: float = self.p.alpha
        self.beta: float = self.p.beta
        self.k: float = self.p.k

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Divide by the local energy."""
        (x,) = bottoms
        if self.within:
            mean = F.avg_pool2d(x * x, self.size, 1, self.size // 2)
            return x * lowered(mean * self.alpha + 1, self.beta)
        if torch.is_grad_enabled() and x.requires_grad:
            y: Tensor = _Across.apply(x, self.size, self.alpha, self.beta, self.k)  # type: ignore[no-untyped-call]
            return y
        scale = neighbours(x * x, self.size) * (self.alpha / self.size) + self.k
        return x * lowered(scale, self.beta)

    def exported(self, *bottoms: Tensor) -> Tensor:
        """Divide by the local energy, in the operators that ONNX Runtime is fastest in."""
        (x,) = bottoms
        channels = x.shape[1]
        if self.within:
            scale = F.avg_pool2d(x * x, self.size, 1, self.size // 2) * self.alpha + 1
        elif channels <= MOST_BANDED:
            reach, weight = self.size // 2, self.alpha / self.size
            near = range(channels)
            band = [[[[weight if abs(i - j) <= reach else 0.0]] for j in near] for i in near]
            scale = F.conv2d(x * x, torch.tensor(band), torch.tensor([self.k] * channels))
        else:
            scale = neighbours(x * x, self.size) * (self.alpha / self.size) + self.k
        return divided(x, scale, self.beta)
