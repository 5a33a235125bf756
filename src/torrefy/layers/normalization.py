"""BatchNorm with Caffe's statistics, and local response normalisation."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torrefy.layers.base import Layer, Shape, layer, shape_text
from torrefy.layers.scale import Scale


@layer("BatchNorm")
class BatchNorm(Layer):
    """(x − mean) / sqrt(var + eps) for each channel; no affine part: a Scale layer follows.

    The three blobs hold sums: of means, of variances, and of their weights. A TRAIN step does
    s ← λ s + 1, mean_sum ← λ mean_sum + mean, variance_sum ← λ variance_sum + var m / (m − 1)
    for m values a channel; TEST divides the sums by s (gives 0 where s is 0). No constant
    momentum of torch's gives the same, so the sums are kept. `use_global_stats` unset means
    true in TEST, false in TRAIN (Ioffe and Szegedy 2015, arXiv:1502.03167).
    """

    param = "batch_norm_param"
    fresh = True

    def setup(self, *bottoms: Shape) -> None:
        """Make the statistics."""
        (shape,) = bottoms
        channels = 1 if len(shape) == 1 else shape[1]
        for spec in self.spec.param:
            if spec.HasField("lr_mult") and spec.lr_mult:
                raise self.error(
                    f"BatchNorm's statistics are not learned, but lr_mult is {spec.lr_mult:g}",
                    field="param",
                    hint="Set it to 0 or leave it out.",
                )
        self.add_statistic("mean_sum", (channels,))
        self.add_statistic("variance_sum", (channels,))
        self.add_statistic("factor", (1,))
        self.eps: float = self.p.eps
        self.fraction: float = self.p.moving_average_fraction
        self.use_global_stats: bool | None = (
            self.p.use_global_stats if self.p.HasField("use_global_stats") else None
        )

    @property
    def uses_global_statistics(self) -> bool:
        """Whether the kept statistics normalise, rather than the batch's own."""
        return not self.training if self.use_global_stats is None else self.use_global_stats

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of each channel, from the sums."""
        factor: Tensor = self.factor  # type: ignore[assignment]
        inverse = torch.nan_to_num(factor.reciprocal(), posinf=0.0)
        return self.mean_sum * inverse, self.variance_sum * inverse  # type: ignore[operator]

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Normalise; in TRAIN by the batch's statistics, which are added to the sums."""
        (x,) = bottoms
        if x.dim() == 1:
            return self.normalize(x.unsqueeze(1)).squeeze(1)
        return self.normalize(x)

    def normalize(
        self, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        """Normalise N×C×…, and scale and shift the channels where a factor is given."""
        if self.uses_global_statistics:
            mean, variance = self.statistics()
            return F.batch_norm(x, mean, variance, weight, bias, eps=self.eps)
        with torch.no_grad():
            self.accumulate(x.detach())
        if x.numel() > x.shape[1]:
            return F.batch_norm(x, None, None, weight, bias, training=True, eps=self.eps)
        y = x - x  # one value a channel, which torch refuses; Caffe gives 0
        if weight is not None:
            y = y * weight.view(1, -1, *[1] * (x.dim() - 2))
        return y if bias is None else y + bias.view(1, -1, *[1] * (x.dim() - 2))

    def accumulate(self, x: Tensor) -> None:
        """Add the batch's statistics to the sums."""
        axes = [0, *range(2, x.dim())]
        variance, mean = torch.var_mean(x, axes, correction=0)
        m = x.numel() / x.shape[1]
        correction = m / (m - 1) if m > 1 else 1.0
        factor: Tensor = self.factor  # type: ignore[assignment]
        factor.mul_(self.fraction).add_(1)
        self.mean_sum.mul_(self.fraction).add_(mean)  # type: ignore[operator]
        self.variance_sum.mul_(self.fraction).add_(variance, alpha=correction)  # type: ignore[operator]


class ScaledNorm(nn.Module):
    """A BatchNorm and the Scale behind it as one operation: one pass over memory, not two."""

    def __init__(self, norm: BatchNorm, scale: Scale) -> None:
        """Take the two layers; they keep their params."""
        super().__init__()
        self.norm = norm
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Normalise N×C×…, scale, shift."""
        weight: Any = self.scale.weight
        return self.norm.normalize(x, weight, self.scale.bias)


@layer("LRN")
class LRN(Layer):
    """Local response normalisation (Krizhevsky et al. 2012, section 3.3).

    ACROSS_CHANNELS: x · (k + α/n · Σ x²)^−β over n channels. WITHIN_CHANNEL:
    x · (1 + α · mean of x² over n×n)^−β, the mean by Caffe's padded AVE pooling; k is not used.
    """

    param = "lrn_param"
    in_place = False

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
        n = self.size
        square = x * x
        half = (n - 1) // 2
        if self.within:
            scale = F.avg_pool2d(square, n, 1, half) * self.alpha + 1
        else:
            # The mean over a window of channels is one over the depth of N×1×C×H×W. (PyTorch's
            # exporter loses divisor_override, so no sum.)
            deep = F.pad(square, (0, 0, 0, 0, half, half)).unsqueeze(1)
            window = F.avg_pool3d(deep, (n, 1, 1), 1)
            scale = window.squeeze(1) * self.alpha + self.k
        return x * scale.pow(-self.beta)
