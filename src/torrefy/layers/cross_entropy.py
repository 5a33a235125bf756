"""Losses of probabilities by their logarithm: SoftmaxWithLoss and its kin."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from torrefy.errors import DataError, Place
from torrefy.layers.base import Layer, Shape, layer, shape_text
from torrefy.layers.gradients import clamped, with_gradient
from torrefy.layers.labels import Labelled
from torrefy.layers.loss import check_first_axis
from torrefy.layers.weighting import check_weights, class_weights, spread
from torrefy.schema.blobs import read_blob

SMALLEST = torch.finfo(torch.float32).tiny
"""FLT_MIN: the probability that SoftmaxWithLoss takes for smaller ones."""
LARGEST = -math.log(SMALLEST)
"""What a label costs at most in SoftmaxWithLoss."""
NO_LABEL = -(2**62) + 1
"""A label that there can't be: no 32-bit number is it."""
THRESHOLD = 1e-20
"""The probability that the other losses take for smaller ones."""


def normalization(loss: Layer, default: str) -> str:
    """What the sum over the labels is divided by: FULL, VALID, BATCH_SIZE or NONE.

    `loss_param { normalize }` of old nets counts where `normalization` is not given.
    """
    p = loss.spec.loss_param
    if p.HasField("normalization"):
        return str(p.NormalizationMode.Name(p.normalization))
    if p.HasField("normalize"):
        return "VALID" if p.normalize else "BATCH_SIZE"
    return default


def ignored(loss: Layer) -> int | None:
    """The label that does not count, if there is one."""
    p = loss.spec.loss_param
    return int(p.ignore_label) if p.HasField("ignore_label") else None


def divisor(mode: str, outer: int, inner: int, counts: Tensor | None) -> Tensor | int:
    """The number of labels (FULL), of those that count (VALID), the batch size, or 1.

    It is 1 at least, so that the loss of nothing is 0.
    """
    if mode == "VALID" and counts is not None:
        return counts.sum().clamp(min=1)
    number = {"VALID": outer * inner, "FULL": outer * inner, "BATCH_SIZE": outer, "NONE": 1}[mode]
    return max(number, 1)


@layer("SoftmaxWithLoss")
class SoftmaxWithLoss(Labelled):
    """Σ −log max(p, FLT_MIN) of the labels' probabilities p = softmax(x), over a number of labels.

    Bottoms: scores with the classes along `softmax_param { axis }` (default 1), and a label for
    each prediction. Tops: a scalar, and on request the probabilities, which pass no gradient.

    `loss_param { ignore_label }` leaves labels out. `normalization` divides by the labels that
    count (VALID, the default), by all (FULL), by the extent of the axes before the classes
    (BATCH_SIZE) or by nothing (NONE); by 1 at least. That is torch's cross entropy but for a
    batch without a label that counts (0 here, NaN there), and for probabilities that vanish: they
    cost 87.3365, and their gradient is still p − 1.

    Beyond Caffe the terms may have weights: a third bottom has one for each item or for each
    label, `loss_param { class_weight }` one for each class. They don't change what is divided by.
    Beyond Caffe, labels of the scores' own shape (and more classes than one) are probabilities t,
    as Mixup makes them: the loss is Σ −t log max(p, FLT_MIN), over the same numbers, and its
    gradient p Σt − t. None of them can be ignored, and none goes to t.

    Beyond Caffe, `loss_param { label_smoothing }` s takes s from a label's probability and gives
    each of the K classes s / K (Szegedy et al. 2016, arXiv:1512.00567, section 7): a term becomes
    (1 − s) · −log p + s / K · Σ −log p_k.
    """

    param = "softmax_param"
    example = "loss_param { ignore_label: 255 }"
    example_bottoms = ((2, 4), (2,))
    scores = "Softmax"
    loss = True
    bottoms = (2, 3)
    tops = (1, 2)
    takes_probabilities = True

    def setup(self, *bottoms: Shape) -> None:
        """Check the shapes and read what counts."""
        scores, label = bottoms[:2]
        self.along = self.axis(self.p.axis, len(scores))
        self.ignore_label = ignored(self)
        self.normalization = normalization(self, "VALID")
        check_first_axis(self, scores, label)
        self.check_labels(scores, label)
        self.class_weights = class_weights(self, scores[self.along])
        self.smoothing = float(self.spec.loss_param.label_smoothing)
        if not 0 <= self.smoothing < 1:
            raise self.error(
                f"label_smoothing is {self.smoothing:g}, expected at least 0 and below 1",
                field="loss_param.label_smoothing",
            )
        for weights in bottoms[2:]:
            check_weights(self, weights, (scores[0], math.prod(label) // max(scores[0], 1)))

        if self.probabilities(scores, label):
            self.check_probabilities(label, len(bottoms))

    def check_probabilities(self, label: Shape, bottoms: int) -> None:
        """Refuse what only labels can have.

        Raises:
            LayerError: labels are left out, weighted or smoothed.
        """
        if self.smoothing:
            raise self.error(
                f"there is a label_smoothing, but bottom 1 of {shape_text(label)} holds "
                "probabilities, not labels",
                field="loss_param.label_smoothing",
            )
        if self.ignore_label is not None:
            raise self.error(
                f"there is an ignore_label, but bottom 1 of {shape_text(label)} holds "
                "probabilities, not labels",
                field="loss_param.ignore_label",
            )
        if self.class_weights is not None or bottoms > 2:
            raise self.error(
                f"there are weights, but bottom 1 of {shape_text(label)} holds probabilities, not "
                "labels",
                field="bottom",
            )

    def factors(self, bottoms: tuple[Tensor, ...], classes: Tensor) -> Tensor | None:
        """A weight for each label; None: all weigh 1."""
        x = bottoms[0]
        found = None if self.class_weights is None else self.class_weights.to(x)[classes]
        if len(bottoms) == 2:
            return found
        check_weights(self, bottoms[2].shape, (x.shape[0], classes.numel() // max(x.shape[0], 1)))
        given = spread(bottoms[2].to(x.dtype), classes.shape, x.shape[0])
        return given if found is None else given * found

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute the loss, and the probabilities where they are asked for."""
        x, label = bottoms[:2]
        if self.probabilities(x.shape, label.shape):
            return self.towards(x, label)
        scores, classes = self.predictions(x, label)
        # A half-precision number can't hold FLT_MIN.
        exact = torch.promote_types(x.dtype, torch.float32)
        left_out = NO_LABEL if self.ignore_label is None else self.ignore_label
        try:
            costs = F.cross_entropy(
                scores.to(exact), classes, ignore_index=left_out, reduction="none"
            )
        except (IndexError, RuntimeError):  # torch looks at the labels anyway
            self.check_classes(classes, scores.shape[1])
            raise
        counts = None if self.ignore_label is None else classes != self.ignore_label
        costs = clamped(costs, None, LARGEST)
        if self.smoothing:
            spread_out = clamped(-torch.log_softmax(scores.to(exact), 1), None, LARGEST).mean(1)
            spread_out = spread_out if counts is None else spread_out * counts
            costs = (1 - self.smoothing) * costs + self.smoothing * spread_out
        factors = self.factors(bottoms, classes if counts is None else classes.where(counts, 0))
        if factors is not None:
            costs = costs * factors.detach()
        outer, inner = classes.shape[0], math.prod(classes.shape[1:])
        number = divisor(self.normalization, outer, inner, counts)
        loss = costs.sum() / number
        if self.num_tops == 1:
            return loss
        return loss, torch.softmax(x.detach(), self.along, dtype=exact).to(x.dtype)

    def towards(self, x: Tensor, target: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The tops where the labels are probabilities."""
        exact = torch.promote_types(x.dtype, torch.float32)
        t = target.detach().reshape(x.shape).to(exact)
        costs = clamped(-torch.log_softmax(x, self.along, dtype=exact), None, LARGEST)
        outer, inner = math.prod(x.shape[: self.along]), math.prod(x.shape[self.along + 1 :])
        loss = (t * costs).sum() / divisor(self.normalization, outer, inner, None)
        if self.num_tops == 1:
            return loss
        return loss, torch.softmax(x.detach(), self.along, dtype=exact).to(x.dtype)


@layer("InfogainLoss")
class InfogainLoss(Labelled):
    """Σ over labels l and classes k of −H[l, k] · log max(p_k, 1e-20), over a number of labels.

    p = softmax(x) along `axis` (default 1). Bottoms: scores, a label for each prediction, and H,
    classes×classes; without a third bottom H is read from the BlobProto in the file `source`.
    Tops: a scalar, and on request the probabilities, which pass no gradient. With the identity
    for H it is SoftmaxWithLoss; `loss_param` is the same, but class weights go into H.

    The gradient is Caffe's, p · Σ H[l] − H[l] however small p, and none goes to H. Nets from
    before 2017 fed probabilities: such a net means another loss now.
    """

    param = "infogain_loss_param"
    example = 'infogain_loss_param { source: "infogain.binaryproto" }'
    example_bottoms = ((2, 4), (2,))
    scores = "Softmax"
    loss = True
    bottoms = (2, 3)
    tops = (1, 2)

    def setup(self, *bottoms: Shape) -> None:
        """Check the shapes, and read H where it comes from a file."""
        scores, label = bottoms[:2]
        self.along = self.axis(self.p.axis, len(scores))
        self.ignore_label = ignored(self)
        self.normalization = normalization(self, "VALID")
        check_first_axis(self, scores, label)
        self.check_labels(scores, label)
        if self.spec.loss_param.class_weight:
            raise self.error(
                "InfogainLoss takes no class_weight",
                field="class_weight",
                hint="Multiply the rows of the matrix.",
            )
        self.matrix = self.read_matrix() if len(bottoms) == 2 else None
        given = bottoms[2] if self.matrix is None else tuple(self.matrix.shape)
        if math.prod(given) != scores[self.along] ** 2:
            raise self.error(
                f"the matrix is {shape_text(given)}, but bottom 0 of {shape_text(scores)} has "
                f"{scores[self.along]} classes along axis {self.along}",
                field="bottom" if self.matrix is None else "source",
            )

    def read_matrix(self) -> Tensor:
        """H from the file; its path is relative to the working folder, as in Caffe."""
        if not self.p.HasField("source"):
            raise self.error(
                "the matrix is missing",
                field="source",
                hint='Give infogain_loss_param { source: "…" }, or a third bottom.',
            )
        path = Path(self.p.source)
        try:
            return torch.from_numpy(read_blob(path.read_bytes(), Place(str(path))))
        except OSError as error:
            raise self.error(
                f'can\'t read "{path}": {error.strerror}',
                field="source",
                hint="The path is relative to the working folder.",
            ) from None
        except DataError as error:
            raise self.error(str(error), field="source") from None

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute the loss, and the probabilities where they are asked for."""
        x, label = bottoms[:2]
        matrix = (bottoms[2] if self.matrix is None else self.matrix.to(x)).detach()
        p = F.softmax(x.detach(), self.along)
        scores, classes = self.predictions(p, label)
        self.check_classes(classes, scores.shape[1])
        counts = None
        if self.ignore_label is not None:
            counts = classes != self.ignore_label
            classes = classes.where(counts, 0)
        rows = matrix.reshape(scores.shape[1], -1)[classes].movedim(-1, 1)
        if counts is not None:
            rows = rows * counts.unsqueeze(1)
        inner = classes.shape[1] if classes.dim() > 1 else 1
        number = divisor(self.normalization, classes.shape[0], inner, counts)
        value = -(rows * scores.clamp(min=THRESHOLD).log()).sum() / number
        loss = with_gradient(
            x,
            value,
            lambda: ((scores * rows.sum(1, keepdim=True) - rows) / number).reshape(x.shape),
        )
        return loss if self.num_tops == 1 else (loss, p)


@layer("MultinomialLogisticLoss")
class MultinomialLogisticLoss(Labelled):
    """Σ −log max(p, 1e-20) / N of the labels' probabilities p.

    Bottoms: probabilities, N×C (axes behind C count as classes, too), as a Softmax layer makes
    them, and N labels. SoftmaxWithLoss does both in one, and better where p is small. The
    gradient is Caffe's, −1 / (N · max(p, 1e-20)), however small p.
    """

    loss = True
    example_bottoms = ((2, 4), (2,))

    def setup(self, *bottoms: Shape) -> None:
        """Check the shapes."""
        check_first_axis(self, *bottoms)
        self.check_labels((*bottoms[0][:1], math.prod(bottoms[0][1:])), bottoms[1])

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Pick the labels' probabilities."""
        scores, classes = self.predictions(bottoms[0].reshape(bottoms[0].shape[0], -1), bottoms[1])
        self.check_classes(classes, scores.shape[1])
        p = scores.gather(1, classes.unsqueeze(1))
        floored = p.detach().clamp(min=THRESHOLD)
        losses = with_gradient(p, -floored.log(), lambda: -floored.reciprocal())
        return losses.sum() / scores.shape[0]


@layer("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(Layer):
    """Σ −(t log σ(x) + (1 − t) log(1 − σ(x))) over a number of targets; torch's BCE with logits.

    Bottoms: scores x and targets t (0 to 1), as many. `loss_param` as for SoftmaxWithLoss, but
    `normalization` is BATCH_SIZE by default. A target counts unless it is `ignore_label` when cut
    to an integer, as Caffe does: ignore_label 0 leaves out all targets within −1 and 1.

    Beyond Caffe the terms may have weights: a third bottom has one for each item or for each
    target, `loss_param { class_weight }` one for each place along axis 1. They don't change what
    is divided by.
    """

    param = "loss_param"
    example = "loss_param { normalization: VALID }"
    scores = "Sigmoid"
    loss = True
    no_onnx = "a loss is for training"
    bottoms = (2, 3)

    def setup(self, *bottoms: Shape) -> None:
        """Check the shapes and read what counts."""
        self.check(*bottoms)
        self.class_weights = class_weights(self, math.prod(bottoms[0][1:2]))
        self.ignore_label = ignored(self)
        self.normalization = normalization(self, "BATCH_SIZE")

    def check(self, scores: Shape, targets: Shape, *weights: Shape) -> None:
        """Hold the shapes against each other."""
        check_first_axis(self, scores, targets)
        if math.prod(scores) != math.prod(targets):
            raise self.error(
                f"bottom 0 of {shape_text(scores)} and bottom 1 of {shape_text(targets)} must hold "
                "equally many numbers",
                field="bottom",
            )
        for one in weights:
            check_weights(self, one, (scores[0], math.prod(scores[1:])))

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Compute the loss."""
        x, targets, *weights = bottoms
        self.check(x.shape, targets.shape, *(one.shape for one in weights))
        targets = targets.detach().reshape(x.shape)
        counts = None
        if self.ignore_label is not None:
            counts = targets.trunc() != self.ignore_label
        factors = None if counts is None else counts.to(x.dtype)
        for one in weights:
            given = spread(one.to(x.dtype), x.shape, x.shape[0])
            factors = given if factors is None else factors * given
        if self.class_weights is not None:
            given = self.class_weights.to(x).reshape(-1, *(1,) * (x.dim() - 2))
            factors = given.expand(x.shape) if factors is None else factors * given
        loss = F.binary_cross_entropy_with_logits(x, targets, factors, reduction="sum")
        return loss / divisor(self.normalization, x.shape[0], math.prod(x.shape[1:]), counts)
