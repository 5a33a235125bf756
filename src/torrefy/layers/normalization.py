"""BatchNorm with Caffe's statistics, and local response normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer, shape_text


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
        inverse = torch.where(factor == 0, torch.zeros_like(factor), 1 / factor)
        return self.mean_sum * inverse, self.variance_sum * inverse  # type: ignore[operator]

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Normalise; in TRAIN by the batch's statistics, which are added to the sums."""
        (x,) = bottoms
        flat = x.unsqueeze(1) if x.dim() == 1 else x
        if self.uses_global_statistics:
            mean, variance = self.statistics()
            y = F.batch_norm(flat, mean, variance, eps=self.eps)
        else:
            if flat.numel() > flat.shape[1]:
                y = F.batch_norm(flat, None, None, training=True, eps=self.eps)
            else:
                y = flat - flat  # one value a channel, which torch refuses; Caffe gives 0
            with torch.no_grad():
                self.accumulate(flat.detach())
        return y.reshape(x.shape)

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
            # Σ over a window of channels: a sum over the depth of N×1×C×H×W.
            deep = F.pad(square, (0, 0, 0, 0, half, half)).unsqueeze(1)
            window = F.avg_pool3d(deep, (n, 1, 1), 1, divisor_override=1)
            scale = window.squeeze(1) * (self.alpha / n) + self.k
        return x * scale.pow(-self.beta)
