"""SmoothL1Loss: squares near 0, absolute values beyond."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torrefy.layers.base import Layer, Shape, layer, shape_text
from torrefy.layers.loss import check_first_axis
from torrefy.schema import schema

from torrefy_ssd.schema import PLUGIN, SmoothL1LossParameter


@layer("SmoothL1Loss")
class SmoothL1Loss(Layer):
    """Σ w' · s(w · (a − b)) / N, s(d) = (σ d)² / 2 where |d| < 1 / σ², else |d| − 1 / 2σ².

    Bottoms: a and b, N of anything and as many numbers; on request weights w of the differences,
    then w' of the losses. a and b get a gradient. It is torch's `smooth_l1_loss` with a beta of
    1 / σ², summed and over the batch size (Girshick 2015, arXiv:1504.08083, equation 3).

    SSD's Caffe has no σ (it is 1) and no w'; R-CNN's has.
    """

    param = "smooth_l1_loss_param"
    fields = SmoothL1LossParameter
    example = "smooth_l1_loss_param { sigma: 3 }"
    loss = True
    no_onnx = "a loss is for training"
    bottoms = (2, 4)
    sigma: float

    @classmethod
    def claims(cls, spec: Any) -> bool:
        """With sigma or four bottoms it is R-CNN's."""
        own = schema().own_name(spec.DESCRIPTOR.full_name, cls.param, PLUGIN)
        return len(spec.bottom) < 4 and not spec.HasField(own)

    def setup(self, *bottoms: Shape) -> None:
        """Check the shapes."""
        self.check(*bottoms)

    def check(self, *bottoms: Sequence[int]) -> None:
        """Hold the shapes against each other."""
        first = tuple(bottoms[0])
        for i, other in enumerate(bottoms[1:], 1):
            if i == 1:
                check_first_axis(self, first, tuple(other))
            if math.prod(first) != math.prod(other):
                raise self.error(
                    f"bottom 0 of {shape_text(first)} and bottom {i} of {shape_text(other)} must "
                    "hold equally many numbers",
                    field="bottom",
                )

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Sum over all numbers."""
        self.check(*(x.shape for x in bottoms))
        a = bottoms[0]
        difference = a - bottoms[1].reshape(a.shape)
        weights = [weight.detach().reshape(a.shape) for weight in bottoms[2:]]
        if weights:
            difference = difference * weights[0]
        zeros = torch.zeros_like(difference)
        beta = 1 / self.sigma**2
        losses = F.smooth_l1_loss(difference, zeros, reduction="none", beta=beta)
        if len(weights) == 2:
            losses = losses * weights[1]
        return losses.sum() / a.shape[0]
