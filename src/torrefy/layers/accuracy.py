"""Accuracy: how often the right class has one of the best scores."""

from __future__ import annotations

import torch
from torch import Tensor

from torrefy.layers.base import Shape, layer
from torrefy.layers.labels import Labelled


@layer("Accuracy")
class Accuracy(Labelled):
    """The share of predictions whose right class has one of the `top_k` best scores.

    Bottoms: scores with the classes along `axis` (default 1), and a label for each prediction.
    Tops: a scalar, and on request the share for each class (C numbers). As in Caffe a tie counts
    against the right class, `ignore_label` is left out, and the share of nothing is 0. There is
    no gradient.

    Beyond Caffe, labels of the scores' own shape are probabilities, as Mixup makes them: the right
    class is then the likeliest, the first of several.
    """

    param = "accuracy_param"
    example = "accuracy_param { top_k: 5 }"
    example_bottoms = ((2, 8), (2,))
    tops = (1, 2)
    takes_probabilities = True

    def setup(self, *bottoms: Shape) -> None:
        """Check the labels' number and top_k."""
        scores, label = bottoms
        self.along = self.axis(self.p.axis, len(scores))
        if self.p.HasField("ignore_label"):
            self.ignore_label = self.p.ignore_label
        self.check_labels(scores, label)
        self.top_k: int = self.p.top_k
        if self.top_k > scores[self.along]:
            raise self.error(f"top_k {self.top_k} of {scores[self.along]} classes", field="top_k")

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Count the right ones."""
        x, label = bottoms
        with torch.no_grad():
            if self.probabilities(x.shape, label.shape):
                label = label.reshape(x.shape).argmax(self.along)
            scores, classes = self.predictions(x, label)
            self.check_classes(classes, scores.shape[1])
            counts = torch.ones_like(classes, dtype=torch.bool)
            if self.ignore_label is not None:
                counts = classes != self.ignore_label
                classes = classes.where(counts, 0)
            own = scores.gather(1, classes.unsqueeze(1))
            # The right class itself is one of those that are not below it.
            right = ((scores >= own).sum(1) <= self.top_k) & counts
            if self.num_tops == 1:
                return _share(right.sum(), counts.sum(), x.dtype)
            one_hot = torch.zeros_like(scores, dtype=torch.bool).scatter(
                1, classes.unsqueeze(1), counts.unsqueeze(1)
            )
            axes = [axis for axis in range(scores.dim()) if axis != 1]
            each = _share((one_hot & right.unsqueeze(1)).sum(axes), one_hot.sum(axes), x.dtype)
            return _share(right.sum(), counts.sum(), x.dtype), each


def _share(part: Tensor, whole: Tensor, dtype: torch.dtype) -> Tensor:
    return part.to(dtype) / whole.clamp(min=1)
