"""Losses over distances and margins: EuclideanLoss, ContrastiveLoss, HingeLoss."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer, shape_text
from torrefy.layers.gradients import with_gradient
from torrefy.layers.labels import Labelled
from torrefy.layers.weighting import check_weights, spread


def check_first_axis(loss: Layer, one: Shape, other: Shape) -> None:
    """Hold the batch sizes of a loss layer's first two bottoms against each other.

    Raises:
        LayerError: they differ.
    """
    if one[:1] != other[:1] or not one:
        raise loss.error(
            f"bottom 0 of {shape_text(one)} and bottom 1 of {shape_text(other)} must have the "
            "same first axis",
            field="bottom",
        )


@layer("EuclideanLoss")
class EuclideanLoss(Layer):
    """Σ (a − b)² / 2N: half of torch's MSE loss of reduction "sum", over the batch size N.

    Bottoms: two of N numbers of anything; the axes behind N may differ, their count may not.
    Both get a gradient. Beyond Caffe a third bottom may have weights of the squares: one for each
    item, or as many as either; the divisor stays.
    """

    loss = True
    no_onnx = "a loss is for training"
    bottoms = (2, 3)

    def setup(self, *bottoms: Shape) -> None:
        """Check the shapes."""
        self.check(*bottoms)

    def check(self, one: Shape, other: Shape, *weights: Shape) -> None:
        """Hold the shapes against each other."""
        check_first_axis(self, one, other)
        if math.prod(one) != math.prod(other):
            raise self.error(
                f"bottom 0 of {shape_text(one)} and bottom 1 of {shape_text(other)} must hold "
                "equally many numbers",
                field="bottom",
            )
        for given in weights:
            check_weights(self, given, (one[0], math.prod(one[1:])))

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Sum the squares."""
        a, b, *weights = bottoms
        self.check(*(bottom.shape for bottom in bottoms))
        if weights:
            factors = spread(weights[0].to(a.dtype), a.shape, a.shape[0])
            return ((a - b.reshape(a.shape)).square() * factors).sum() / (2 * a.shape[0])
        return F.mse_loss(a, b.reshape(a.shape), reduction="sum") / (2 * a.shape[0])


@layer("ContrastiveLoss")
class ContrastiveLoss(Layer):
    """Σ (y d² + (1 − y) max(margin − d, 0)²) / 2N, d = |a − b| (Hadsell et al. 2006).

    Bottoms: a and b, N×C (axes of 1 may follow), and y: N numbers, 0 where the two are no pair.
    With `legacy_version` an unlike pair costs max(margin − d², 0). The gradient for d is Caffe's,
    which divides by d + 1e-4; y gets none.
    """

    param = "contrastive_loss_param"
    example = "contrastive_loss_param { margin: 1 }"
    example_bottoms = ((2, 4), (2, 4), (2,))
    loss = True
    no_onnx = "a loss is for training"
    bottoms = (3, 3)

    def setup(self, *bottoms: Shape) -> None:
        """Check the shapes and read the margin."""
        self.check(*bottoms)
        self.margin: float = self.p.margin
        self.legacy: bool = self.p.legacy_version

    def check(self, a: Shape, b: Shape, similar: Shape) -> None:
        """Hold the shapes against each other."""
        check_first_axis(self, a, b)
        if math.prod(a) != math.prod(b) or math.prod(a) != math.prod(a[:2]):
            raise self.error(
                f"bottoms 0 and 1 must both be NxC, found {shape_text(a)} and {shape_text(b)}",
                field="bottom",
            )
        if math.prod(similar) != a[0]:
            raise self.error(
                f"bottom 2 of {shape_text(similar)} must have a number for each of {a[0]} pairs",
                field="bottom",
            )

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Pull pairs together, push others apart."""
        a, b, similar = bottoms
        self.check(a.shape, b.shape, similar.shape)
        difference = (a - b.reshape(a.shape)).reshape(a.shape[0], -1)
        pair = similar.detach().flatten().trunc() != 0  # as Caffe's cast to int
        square = difference.square().sum(1)
        if self.legacy:
            unlike = (self.margin - square).clamp(min=0)
        else:
            unlike = self._push(difference, square)
        return torch.where(pair, square, unlike).sum() / (2 * a.shape[0])

    def _push(self, difference: Tensor, square: Tensor) -> Tensor:
        """For each item max(margin − d, 0)², with Caffe's gradient."""
        distance = square.detach().sqrt()
        lack = (self.margin - distance).clamp(min=0)
        # The derivative is −2 · lack / d for each part of the difference. By way of the square,
        # whose derivative is 2 · difference, −lack / (d + 1e-4) is left.
        return with_gradient(square, lack.square(), lambda: -lack / (distance + 1e-4))


@layer("HingeLoss")
class HingeLoss(Labelled):
    """Σ max(0, 1 − t · s) / N for every score s: t is 1 for the label's class, −1 for others.

    With `norm: L2` the terms are squared. Bottoms: scores, N×C (axes behind C count as classes,
    too), and N labels. This is no softmax-like loss of one margin: each class is for itself.
    """

    param = "hinge_loss_param"
    example = "hinge_loss_param { norm: L2 }"
    example_bottoms = ((2, 4), (2,))
    loss = True

    def setup(self, *bottoms: Shape) -> None:
        """Check the shapes and read the norm."""
        check_first_axis(self, *bottoms)
        self.check_labels((*bottoms[0][:1], math.prod(bottoms[0][1:])), bottoms[1])
        self.squared = self.p.Norm.Name(self.p.norm) == "L2"

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Sum what lacks to the margins."""
        scores, classes = self.predictions(bottoms[0].reshape(bottoms[0].shape[0], -1), bottoms[1])
        self.check_classes(classes, scores.shape[1])
        sign = torch.ones_like(scores).scatter(1, classes.unsqueeze(1), -1.0)
        lack = (1 + sign * scores).relu()
        return (lack.square() if self.squared else lack).sum() / scores.shape[0]
