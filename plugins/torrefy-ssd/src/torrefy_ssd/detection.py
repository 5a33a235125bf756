"""DetectionOutput: from a net's numbers to boxes, labels and scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torrefy.layers.base import Layer, Shape, layer, shape_text

from torrefy_ssd.boxes import Code, decode, split_priors, suppress
from torrefy_ssd.schema import DetectionOutputParameter

LOWEST = -3.4028234663852886e38
"""-FLT_MAX: what scores must be above where there is no threshold."""


def check_numbers(owner: Layer, shapes: Sequence[Shape], classes: int, boxes: int) -> None:
    """Hold the shapes of locations, scores and priors against each other.

    Args:
        owner: the layer whose first three bottoms they are.
        shapes: the bottoms' shapes.
        classes: classes, with a score each for each prior.
        boxes: classes with a box of their own; 1 where they share one.

    Raises:
        LayerError: they don't go together.
    """
    priors = shapes[2]
    if math.prod(priors) % 8 or math.prod(priors[:2]) != 2:
        raise owner.error(
            f"bottom 2 must hold priors and their variances, 1x2x(4 for each), found "
            f"{shape_text(priors)}",
            field="bottom",
        )
    count = math.prod(priors) // 8
    for i, (what, numbers) in enumerate((("4", 4 * boxes), (f"{classes}", classes))):
        each = what if i or boxes == 1 else f"4 for each of {boxes} classes"
        if math.prod(shapes[i][1:]) != count * numbers:
            raise owner.error(
                f"bottom {i} of {shape_text(shapes[i])} has {math.prod(shapes[i][1:])} numbers a "
                f"picture, but {count} priors take {count * numbers}: {each} for each prior",
                field="bottom",
            )
    if shapes[0][:1] != shapes[1][:1]:
        raise owner.error(
            f"bottom 0 of {shape_text(shapes[0])} and bottom 1 of {shape_text(shapes[1])} must "
            "have the same first axis",
            field="bottom",
        )


@layer("DetectionOutput")
class DetectionOutput(Layer):
    """Boxes of the objects that a net of P priors and C classes sees (Liu et al. 2016).

    Bottoms: locations N×(P·4), or N×(P·C·4) with `share_location: false`; scores N×(P·C), as a
    softmax over the classes gives them; priors 1×2×(P·4) with their variances. Top: 1×1×M×7, a
    row (picture, label, score, xmin, ymin, xmax, ymax) for each object, the boxes in shares of
    the picture, not clipped. Rows go by picture, then label, then falling score. If nothing is
    found in any picture, there is a row (picture, −1, −1, −1, −1, −1, −1) for each.

    In each class but the background: of the scores above `confidence_threshold` the best `top_k`
    are taken, and the boxes go that overlap a better one by more than `nms_threshold`; with `eta`
    below 1 the threshold falls with each box kept. Of all that are left, the best `keep_top_k` of
    a picture stay. Equal scores go by the order of the priors. `code_type` is what locations
    mean: CORNER adds variance · number to the prior's corners, CORNER_SIZE does in units of the
    prior's size, CENTER_SIZE moves the centre in these units and multiplies the size by
    exp(variance · number); the variances are left out with `variance_encoded_in_target`
    (arXiv:1512.02325).

    Nothing is written or shown: `save_output_param` and `visualize` are read, and do nothing.
    In ONNX it is NonMaxSuppression; `eta` below 1 can't be expressed.
    """

    param = "detection_output_param"
    fields = DetectionOutputParameter
    example = (
        "detection_output_param {\n"
        "  num_classes: 2 code_type: CENTER_SIZE keep_top_k: 200 confidence_threshold: 0.01\n"
        "  nms_param { nms_threshold: 0.45 top_k: 400 }\n"
        "}"
    )
    example_bottoms = ((2, 16), (2, 8), (1, 2, 16))
    bottoms = (3, 3)
    in_place = False
    fresh = True

    num_classes: int
    share_location: bool
    background_label_id: int
    nms_param: Any
    code_type: Code
    keep_top_k: int
    variance_encoded_in_target: bool
    confidence_threshold: float | None

    def __init__(self, spec: Any, num_tops: int = 1) -> None:
        """Take a LayerParameter message."""
        super().__init__(spec, num_tops)
        self.threshold: float = self.nms_param.nms_threshold
        self.top_k: int | None = self.nms_param.top_k
        self.eta: float = self.nms_param.eta
        if self.eta < 1:
            reason = f"eta is {self.eta:g}, and NonMaxSuppression's threshold can't fall"
            self.no_onnx = reason  # of this layer, not of its type

    def setup(self, *bottoms: Shape) -> None:
        """Check the shapes."""
        self.labels = [c for c in range(self.num_classes) if c != self.background_label_id]
        if not self.labels:
            raise self.error("there is no class but the background", field="num_classes")
        self.check(bottoms)

    def check(self, shapes: Sequence[Shape]) -> None:
        """Hold the shapes against each other."""
        check_numbers(
            self, shapes, self.num_classes, 1 if self.share_location else self.num_classes
        )

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        """One row: how many there are, the data tell. SSD says so, too."""
        return [(1, 1, 1, 7)]

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Decode, suppress, and list what is left."""
        locations, confidence, priors = bottoms
        self.check([tuple(x.shape) for x in bottoms])
        pictures = locations.shape[0]
        prior, variance = split_priors(priors)
        count = prior.shape[0]
        per_class = 1 if self.share_location else self.num_classes
        boxes = decode(
            self.code_type,
            locations.reshape(pictures, count, per_class, 4),
            prior.unsqueeze(1),
            None if self.variance_encoded_in_target else variance.unsqueeze(1),
        ).transpose(1, 2)
        scores = confidence.reshape(pictures, count, self.num_classes).transpose(1, 2)
        chosen = torch.tensor(self.labels, device=scores.device)
        scores = scores.index_select(1, chosen)
        if self.share_location:
            boxes = boxes.expand(pictures, len(self.labels), count, 4)
        else:
            boxes = boxes.index_select(1, chosen)
        return self.rows(*self.best(scores, boxes), chosen)

    def best(self, scores: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """The `top_k` best of each class, N×C×K and N×C×K×4, the best first.

        Scores that aren't above the threshold are −∞.
        """
        lowest = LOWEST if self.confidence_threshold is None else self.confidence_threshold
        scores = scores.masked_fill(~(scores > lowest), -math.inf)
        count = scores.shape[2]
        top_k = count if self.top_k is None or self.top_k < 0 else min(self.top_k, count)
        scores, places = best_first(scores, top_k)
        return scores, boxes.gather(2, places.unsqueeze(-1).expand(*places.shape, 4))

    def rows(self, scores: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """The table of what is left of N×C×K scores and their boxes."""
        pictures, classes, count = scores.shape
        kept = self.kept(scores.flatten(0, 1), boxes.flatten(0, 1)).reshape(scores.shape)
        if -1 < self.keep_top_k < classes * count:
            left = scores.masked_fill(~kept, -math.inf).flatten(1)
            _, places = best_first(left, self.keep_top_k)
            among = torch.zeros_like(left, dtype=torch.bool)
            among = among.scatter(1, places, torch.ones_like(places, dtype=torch.bool))
            kept = kept & among.reshape(kept.shape)
        picture = torch.arange(pictures, device=scores.device).to(scores.dtype)
        each = (pictures, classes, count, 1)
        table = torch.cat(
            [
                picture.reshape(-1, 1, 1, 1).expand(each),
                labels.to(scores.dtype).reshape(1, -1, 1, 1).expand(each),
                scores.unsqueeze(-1),
                boxes,
            ],
            -1,
        )
        nothing = torch.cat(
            [picture.unsqueeze(1), picture.new_full((1, 6), -1).expand(pictures, 6)], 1
        )
        empty = ~kept.any()
        present = torch.cat([kept.flatten(), empty.expand(pictures)])
        table = torch.cat([table.reshape(-1, 7), nothing])
        found = torch.index_select(table, 0, present.nonzero().squeeze(1))
        return found.unsqueeze(0).unsqueeze(0)

    def kept(self, scores: Tensor, boxes: Tensor) -> Tensor:
        """Which of B×K boxes suppression leaves, the best of each row being first."""
        if torch.onnx.is_in_onnx_export():
            return _kept_by_onnx(scores, boxes, self.threshold)
        kept: Tensor = suppress(boxes, scores > -math.inf, self.threshold, self.eta)
        return kept


def best_first(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest along the last axis and their places; of equal ones the first."""
    if torch.onnx.is_in_onnx_export():
        best = scores.topk(count, -1)  # ONNX's keeps the order of equal ones, torch's doesn't
        return best.values, best.indices
    values, places = scores.sort(dim=-1, descending=True, stable=True)
    return values[..., :count], places[..., :count]


def _kept_by_onnx(scores: Tensor, boxes: Tensor, threshold: float) -> Tensor:
    """`suppress` as ONNX's NonMaxSuppression, for the exporter."""
    rows, count = scores.shape
    # ONNX turns boxes round whose ends are the wrong way round; here they overlap with nothing.
    low, high = boxes[..., :2], boxes[..., 2:]
    boxes = torch.cat([low, torch.maximum(low, high)], -1)
    # Only the data tell how many are left. A number of that kind comes from `nonzero`; nothing
    # computes it in the file.
    unknown = (scores > LOWEST).nonzero().shape[0]
    selected = torch.onnx.ops.symbolic(
        "NonMaxSuppression",
        (
            boxes,
            scores.unsqueeze(1),
            torch.tensor([count]),
            torch.tensor([threshold]),
            torch.tensor([LOWEST]),
        ),
        dtype=torch.int64,
        shape=(unknown, 3),
    )
    places = selected[:, 0] * count + selected[:, 2]
    kept = torch.zeros(rows * count, dtype=torch.bool, device=scores.device)
    kept = kept.scatter(0, places, torch.ones_like(places, dtype=torch.bool))
    return kept.reshape(rows, count)
