"""BatchNorm with Caffe's statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torrefy.layers.base import Layer, Shape, layer
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
    example = "batch_norm_param { moving_average_fraction: 0.99 }"
    fresh = True
    needs_tops = False

    across: Callable[[Tensor], Tensor] | None = None
    """Adds up over the processes of a training that take their batches' statistics together, and
    lets gradients through. None: each takes those of its own batch, as in Caffe."""

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
        if self.across is not None and not x.is_meta:
            return self._normalize_across(x, self.across, weight, bias)
        channels = x.shape[1]
        if x.numel() == channels:  # one value a channel, which torch refuses; Caffe gives 0
            self.accumulate(x.detach().flatten(), torch.zeros_like(self.variance_sum))  # type: ignore[arg-type]
            y = x - x
            if weight is not None:
                y = y * weight.view(1, -1, *[1] * (x.dim() - 2))
            return y if bias is None else y + bias.view(1, -1, *[1] * (x.dim() - 2))
        if torch.compiler.is_exporting():  # a file keeps no sums
            return F.batch_norm(x, None, None, weight, bias, True, eps=self.eps)
        # With momentum 1 torch's running statistics are the batch's own, the variance with the
        # factor m / (m − 1): no second pass over x.
        exact = torch.promote_types(x.dtype, torch.float32)
        mean, variance = (torch.zeros(channels, dtype=exact, device=x.device) for _ in range(2))
        y = F.batch_norm(x, mean, variance, weight, bias, True, 1.0, self.eps)
        self.accumulate(mean, variance)
        return y

    def _normalize_across(
        self,
        x: Tensor,
        across: Callable[[Tensor], Tensor],
        weight: Tensor | None,
        bias: Tensor | None,
    ) -> Tensor:
        """Normalise by the statistics of all processes' batches, which may differ in size."""
        axes, shape = [0, *range(2, x.dim())], (1, -1, *[1] * (x.dim() - 2))
        values = x.new_tensor([x.numel() / x.shape[1]])
        totals = across(torch.cat([x.sum(axes), values]))
        sums, count = totals[:-1], totals[-1]
        mean = sums / count
        y = x - mean.view(shape)
        variance = across(y.square().sum(axes)) / count
        self.accumulate(mean, variance * (count / (count - 1).clamp(min=1)))
        y = y * (variance + self.eps).rsqrt().view(shape)
        if weight is not None:
            y = y * weight.view(shape)
        return y if bias is None else y + bias.view(shape)

    def accumulate(self, mean: Tensor, variance: Tensor) -> None:
        """Add a batch's mean and variance to the sums."""
        with torch.no_grad():
            self.factor.mul_(self.fraction).add_(1)  # type: ignore[operator]
            self.mean_sum.mul_(self.fraction).add_(mean)  # type: ignore[operator]
            self.variance_sum.mul_(self.fraction).add_(variance)  # type: ignore[operator]


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
