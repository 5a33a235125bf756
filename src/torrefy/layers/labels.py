"""Class numbers as labels: how many there must be, and which ones there are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from torrefy.layers.base import Layer, Shape, shape_text


class Labelled(Layer):
    """A layer that compares the scores in bottom 0 with the class numbers in bottom 1.

    The scores of one prediction lie along an axis; there is one label for each place along the
    other axes, in any shape of that count.
    """

    bottoms = (2, 2)
    no_onnx = "inference has no labels"
    along: int = 1
    """The axis of the classes."""
    ignore_label: int | None = None
    """The label that does not count; None: all count."""
    takes_probabilities: ClassVar[bool] = False
    """Whether bottom 1 may be probabilities of the scores' shape in place of class numbers."""

    def index_limit(self, bottom: int, shapes: Sequence[Shape]) -> int | None:
        """The labels are below the number of classes."""
        if bottom != 1 or self.probabilities(*shapes[:2]):
            return None
        return math.prod(shapes[0][self.along :][:1])

    def probabilities(self, scores: Shape, label: Shape) -> bool:
        """Whether labels of that shape are probabilities. With one class they are class numbers.

        Axes of 1 behind the classes may be left out: N×C for N×C×1×1.
        """
        behind = tuple(scores[len(label) :])
        same = tuple(scores[: len(label)]) == tuple(label) and set(behind) <= {1}
        return self.takes_probabilities and same and scores[self.along] > 1

    def check_labels(self, scores: Shape, label: Shape) -> None:
        """Hold the shapes of both bottoms against each other.

        Raises:
            LayerError: there isn't one label for each prediction, nor probabilities where they
                may be.
        """
        if self.probabilities(scores, label):
            return
        wanted = math.prod(scores[: self.along]) * math.prod(scores[self.along + 1 :])
        if math.prod(label) != wanted:
            raise self.error(
                f"bottom 1 of {shape_text(label)} has {math.prod(label)} labels, but bottom 0 of "
                f"{shape_text(scores)} takes {wanted}: one for each place along all axes but "
                f"axis {self.along}",
                field="bottom",
                hint=self._about_probabilities(scores, label),
            )

    def _about_probabilities(self, scores: Shape, label: Shape) -> str:
        """What may be wrong with labels that look as if they were probabilities."""
        if self.takes_probabilities and len(label) == len(scores):
            return f"Or the probabilities of the classes: {shape_text(scores)}."
        if not self.takes_probabilities and tuple(label) == tuple(scores):
            return "Probabilities, as Mixup makes them, go to SoftmaxWithLoss and Accuracy."
        return ""

    def predictions(self, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Scores as outer×classes×inner, labels as integers outer×inner.

        Where nothing lies behind the axis of the classes they are outer×classes and outer.

        Raises:
            LayerError: there isn't one label for each prediction.
        """
        shape = x.shape
        classes = shape[self.along]
        if label.numel() * classes != x.numel():
            self.check_labels(shape, label.shape)
        found = label.long()  # cuts to an integer, as Caffe does
        if x.dim() > 2 or label.dim() > 1 or self.along != 1:
            outer, inner = math.prod(shape[: self.along]), math.prod(shape[self.along + 1 :])
            flat = inner == 1
            x = x.reshape((outer, classes) if flat else (outer, classes, inner))
            found = found.reshape((outer,) if flat else (outer, inner))
        return x, found

    def check_classes(self, found: Tensor, classes: int) -> None:
        """Look for labels that are no class. Caffe reads other memory then.

        A GPU would have to be waited for, and compiled code can't look: torch's own checks are
        left there.

        Raises:
            LayerError: there is one.
        """
        if not found.is_cpu or torch.compiler.is_compiling():
            return
        outside = (found < 0) | (found >= classes)
        if self.ignore_label is not None:
            outside &= found != self.ignore_label
        if outside.any():
            label = int(found[outside][0])
            raise self.error(
                f"there is a label {label}, but the {classes} classes are 0 to {classes - 1}",
                field="bottom",
            )
