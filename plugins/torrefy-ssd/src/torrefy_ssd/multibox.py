"""MultiBoxLoss: what a detector is trained by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torrefy.layers.base import Layer, Shape, layer
from torrefy.layers.cross_entropy import SMALLEST, divisor, normalization
from torrefy.layers.gradients import with_gradient

from torrefy_ssd.boxes import (
    UNMATCHED,
    Code,
    area,
    decode,
    encode,
    match,
    split_priors,
    suppress,
)
from torrefy_ssd.detection import check_numbers
from torrefy_ssd.objects import Objects, check_objects, first_of, mask_of, read_objects
from torrefy_ssd.schema import MultiBoxLossParameter

SMALLEST_AREA = 1e-5
"""Smaller boxes are left out by the suppression among hard examples."""


@layer("MultiBoxLoss")
class MultiBoxLoss(Layer):
    """(Σ confidence loss + loc_weight · Σ location loss) / matches (Liu et al. 2016, equation 1).

    Bottoms: locations N×(P·4), or N×(P·C·4) with `share_location: false`; scores N×(P·C), before
    any softmax; priors 1×2×(P·4); objects 1×1×G×8, as AnnotatedData gives them. Top: a scalar.
    Locations and scores get a gradient.

    Matching: each object gets the prior that it overlaps most, one after the other; with
    PER_PREDICTION every other prior then gets the object that it overlaps most, if by
    `overlap_threshold` at least. Without `use_prior_for_matching` the decoded predictions are
    matched. With `share_location: false` a match counts for the box of the object's class.

    Location loss: of the matches, SMOOTH_L1 or L2 (half the square) of predicted less encoded
    numbers (`code_type` as in DetectionOutput). Confidence loss: SOFTMAX, or LOGISTIC for each
    class, with the object's label, or the background's for a prior without one. It counts, by
    `mining_type`: NONE: all priors. MAX_NEGATIVE: the matches, and of the priors that overlap no
    object by `neg_overlap` those of the largest loss, `neg_pos_ratio` for each match.
    HARD_EXAMPLE: the `sample_size` priors of the largest losses of both kinds; only the matches
    among these count for the locations. Mined are pictures with objects; others cost nothing. With
    `nms_param { nms_threshold top_k }` the mined priors overlap little.

    The sum is divided by the number of matches; by `loss_param { normalization }` by all priors of
    the batch (FULL), the pictures (BATCH_SIZE) or nothing (NONE); by 1 at least. The loss of no
    matches is 0 where negatives are mined.

    Of equal losses the first prior's counts; Caffe leaves that open. An object without width or
    height is an error, as in Caffe, for the code CENTER_SIZE.
    """

    param = "multibox_loss_param"
    fields = MultiBoxLossParameter
    example = "multibox_loss_param {\n  num_classes: 2 code_type: CENTER_SIZE neg_pos_ratio: 3\n}"
    loss = True
    no_onnx = "a loss is for training"
    example_bottoms = ((2, 16), (2, 8), (1, 2, 16), (1, 1, 3, 8))
    bottoms = (4, 4)
    in_place = False

    loc_loss_type: Literal["L2", "SMOOTH_L1"]
    conf_loss_type: Literal["SOFTMAX", "LOGISTIC"]
    loc_weight: float
    num_classes: int
    share_location: bool
    match_type: Literal["BIPARTITE", "PER_PREDICTION"]
    overlap_threshold: float
    use_prior_for_matching: bool
    background_label_id: int
    use_difficult_gt: bool
    do_neg_mining: bool | None
    neg_pos_ratio: float
    neg_overlap: float
    code_type: Code
    encode_variance_in_target: bool
    map_object_to_agnostic: bool
    ignore_cross_boundary_bbox: bool
    bp_inside: bool
    mining_type: Literal["NONE", "MAX_NEGATIVE", "HARD_EXAMPLE"] | None
    nms_param: Any
    sample_size: int
    use_prior_for_nms: bool

    def setup(self, *bottoms: Shape) -> None:
        """Check the parameters and the shapes."""
        self.mining = self.mining_type or (
            "NONE" if self.do_neg_mining is False else "MAX_NEGATIVE"
        )
        if self.do_neg_mining is not None and self.do_neg_mining != (self.mining != "NONE"):
            said = "true" if self.do_neg_mining else "false"
            raise self.error(
                f"do_neg_mining: {said} contradicts mining_type: {self.mining}",
                field="do_neg_mining",
                hint="Leave it out.",
            )
        if self.mining != "NONE" and not self.share_location:
            raise self.error(
                f"mining_type {self.mining} needs share_location: true", field="share_location"
            )
        agnostic = 2 if self.background_label_id >= 0 else 1
        if self.map_object_to_agnostic and self.num_classes != agnostic:
            raise self.error(
                f"map_object_to_agnostic needs num_classes: {agnostic}, found {self.num_classes}",
                field="num_classes",
            )
        if (
            self.conf_loss_type == "SOFTMAX"
            and not 0 <= self.background_label_id < self.num_classes
        ):
            raise self.error(
                f"background_label_id {self.background_label_id} is none of {self.num_classes} "
                "classes, which SOFTMAX needs",
                field="background_label_id",
            )
        self.normalization = normalization(self, "VALID")
        self.boxes = 1 if self.share_location else self.num_classes
        down = list(self.spec.propagate_down) or [True, True]
        self.counts_locations, self.counts_scores = down[:2]
        self.check(bottoms)

    def check(self, shapes: Sequence[Shape]) -> None:
        """Hold the shapes against each other."""
        check_numbers(self, shapes, self.num_classes, self.boxes)
        check_objects(self, 3, shapes[3])

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        """A scalar."""
        return [()]

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Match, mine, and add up."""
        self.check([tuple(x.shape) for x in bottoms])
        pictures = bottoms[0].shape[0]
        priors = split_priors(bottoms[2].detach())
        locations = bottoms[0].reshape(pictures, -1, self.boxes, 4)
        scores = bottoms[1].reshape(pictures, -1, self.num_classes)
        objects = self.objects(bottoms[3])
        with torch.no_grad():
            batch = _Batch(self, locations, scores, priors, objects)
            for picture in range(pictures):
                batch.match(picture)
            batch.mine()
        total = locations.new_zeros(())
        if self.counts_locations:
            total = total + self.loc_weight * self.location_losses(batch).sum()
        if self.counts_scores:
            total = total + self.score_loss(batch)
        matches = (batch.matches > UNMATCHED).sum()
        mode = self.normalization
        if mode == "VALID":
            return total / matches.clamp(min=1)
        return total / divisor(mode, pictures, len(priors[0]), None)

    def objects(self, rows: Tensor) -> Objects:
        """The objects that count."""
        # Where all objects are one class, their own labels may be any.
        classes = 1 << 31 if self.map_object_to_agnostic else self.num_classes
        objects = read_objects(self, rows, classes, self.background_label_id)
        if not self.use_difficult_gt:
            objects = objects.those(~objects.difficult)
        if self.code_type == "CENTER_SIZE":
            flat = (objects.box[:, 2:] <= objects.box[:, :2]).any(1)
            if flat.any():
                numbers = ", ".join(f"{x:g}" for x in objects.box[flat][0].tolist())
                raise self.error(
                    f"there is an object of no width or no height: {numbers}", field="bottom"
                )
        return objects

    def location_losses(self, batch: _Batch) -> Tensor:
        """The loss of each match's location, in the order of picture, prior and class."""
        at = (batch.matches > UNMATCHED).nonzero(as_tuple=True)
        found = batch.locations[at]
        priors, variances = batch.priors[at[1]], batch.variances[at[1]]
        wanted = encode(
            self.code_type,
            batch.objects.box[batch.matches[at]],
            priors,
            None if self.encode_variance_in_target else variances,
        )
        if self.bp_inside:
            boxes = (
                priors if self.use_prior_for_matching else batch.decoded(found, priors, variances)
            )
            found = torch.where((boxes < 0) | (boxes > 1), wanted, found)
        if self.encode_variance_in_target:
            found, wanted = found / variances, wanted / variances
        if self.loc_loss_type == "L2":
            return (found - wanted).square().sum(1) / 2
        return F.smooth_l1_loss(found, wanted, reduction="none").sum(1)

    def score_loss(self, batch: _Batch) -> Tensor:
        """The losses of the scores that count, added up."""
        if self.mining == "NONE":
            pictures, priors, classes = batch.scores.shape
            scores = batch.scores.reshape(pictures * priors, classes)
            return self.summed(scores, batch.labels().flatten(), batch.targets().flatten(0, 1))
        chosen = (batch.matches > UNMATCHED).any(2) | batch.negatives
        return self.summed(batch.scores[chosen], batch.labels()[chosen])

    def summed(self, scores: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
        """The sum of `losses`, with Caffe's gradient: p − 1 even where p vanishes."""
        if self.conf_loss_type == "LOGISTIC":
            return self.losses(scores, labels, targets).sum()
        detached = scores.detach()
        at = labels.unsqueeze(1)

        def gradient() -> Tensor:
            p = detached.softmax(1)
            return p.scatter(1, at, p.gather(1, at) - 1)

        return with_gradient(scores, self.losses(detached, labels).sum(), gradient)

    def losses(self, scores: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
        """Each prediction's loss by its label.

        Args:
            scores: M×C.
            labels: M.
            targets: M×C, which classes LOGISTIC wants; None: that of the label.
        """
        if self.conf_loss_type == "LOGISTIC":
            if targets is None:
                targets = one_hot(labels, self.num_classes)
            return F.binary_cross_entropy_with_logits(
                scores, targets.to(scores.dtype), reduction="none"
            ).sum(1)
        p = scores.softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
        return -p.clamp(min=SMALLEST).log()


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """…×C: whether a class is the label's; none is where there is no such class."""
    return labels.unsqueeze(-1) == torch.arange(classes, device=labels.device)


class _Batch:
    """What is matched and mined of one batch."""

    def __init__(
        self,
        owner: MultiBoxLoss,
        locations: Tensor,
        scores: Tensor,
        priors: tuple[Tensor, Tensor],
        objects: Objects,
    ) -> None:
        self.owner = owner
        self.locations = locations
        """By picture, prior and class (1 where they share a box)."""
        self.scores = scores
        """By picture, prior and class."""
        self.priors, self.variances = priors
        self.objects = objects
        self.matches = torch.full(locations.shape[:3], UNMATCHED, device=locations.device)
        """For each location the object's index, `UNMATCHED` or `IGNORED`."""
        self.overlaps = locations.new_zeros(locations.shape[:3])
        self.negatives = torch.zeros(scores.shape[:2], dtype=torch.bool, device=scores.device)
        """By picture and prior: what counts as background."""

    def decoded(self, numbers: Tensor, priors: Tensor, variances: Tensor) -> Tensor:
        """The boxes that location numbers stand for."""
        owner = self.owner
        return decode(
            owner.code_type, numbers, priors,
            None if owner.encode_variance_in_target else variances,
        )  # fmt: skip

    def match(self, picture: int) -> None:
        """Match one picture's boxes to its objects."""
        owner = self.owner
        mine = (self.objects.picture == picture).nonzero().squeeze(1)
        if not len(mine):
            return
        threshold = None if owner.match_type == "BIPARTITE" else owner.overlap_threshold
        crossing = owner.ignore_cross_boundary_bbox
        everything = None
        if owner.use_prior_for_matching:
            everything = match(self.priors, self.objects.box[mine], threshold, crossing)
        for kind in range(owner.boxes):
            if not owner.share_location and kind == owner.background_label_id:
                continue
            own = mine
            if everything is None:
                if not owner.share_location:
                    own = mine[self.objects.label[mine] == kind]
                boxes = self.decoded(self.locations[picture, :, kind], self.priors, self.variances)
                found, most = match(boxes, self.objects.box[own], threshold, crossing)
            else:
                found, most = everything
                if not owner.share_location:
                    labels = self.objects.label[mine][found.clamp(min=0)]
                    found = found.where((found > UNMATCHED) & (labels == kind), UNMATCHED)
            if len(own):
                indices = own[found.clamp(min=0)]
                found = torch.where(found > UNMATCHED, indices, found)
            self.matches[picture, :, kind] = found
            self.overlaps[picture, :, kind] = most

    def labels(self) -> Tensor:
        """N×P: the label of each prior's object, else the background's.

        Of a prior that several classes match it is the last class's, as in Caffe.
        """
        owner = self.owner
        matched = self.matches > UNMATCHED
        kinds = torch.arange(owner.boxes, device=matched.device)
        last = torch.where(matched, kinds, -1).argmax(2, keepdim=True)
        thing = self.matches.gather(2, last).squeeze(2)
        background = torch.full_like(thing, owner.background_label_id)
        if not len(self.objects.label):
            return background
        if owner.map_object_to_agnostic:
            return torch.where(thing > UNMATCHED, background + 1, background)
        return torch.where(thing > UNMATCHED, self.objects.label[thing.clamp(min=0)], background)

    def targets(self) -> Tensor:
        """N×P×C: the classes that LOGISTIC wants of all priors; where none is matched, none.

        Not even the background, as in Caffe.
        """
        owner = self.owner
        matched = self.matches > UNMATCHED
        if owner.boxes > 1 and not owner.map_object_to_agnostic:
            return matched
        return one_hot(self.labels(), owner.num_classes) & matched.any(2, keepdim=True)

    def mine(self) -> None:
        """Choose the priors that count, by their losses."""
        owner = self.owner
        if owner.mining == "NONE":
            return
        pictures, priors, classes = self.scores.shape
        flat = self.scores.reshape(-1, classes)
        losses = owner.losses(flat, self.labels().flatten()).reshape(pictures, priors)
        matches = self.matches[:, :, 0]
        hard = owner.mining == "HARD_EXAMPLE"
        if hard:
            losses = losses.clone()
            losses[matches > UNMATCHED] += owner.location_losses(self)
        for picture in torch.unique(self.objects.picture).tolist():
            if not 0 <= picture < pictures:
                continue
            found = matches[picture]
            if hard:
                eligible, number = torch.ones_like(found, dtype=torch.bool), owner.sample_size
            else:
                eligible = (found == UNMATCHED) & (self.overlaps[picture, :, 0] < owner.neg_overlap)
                number = int(int((found > UNMATCHED).sum()) * owner.neg_pos_ratio)
            chosen = self.worst(picture, losses[picture], eligible, number)
            self.negatives[picture] = chosen & (found == UNMATCHED)
            if hard:
                self.matches[picture, :, 0] = found.where(chosen | (found <= UNMATCHED), UNMATCHED)

    def worst(self, picture: int, losses: Tensor, eligible: Tensor, number: int) -> Tensor:
        """A mask of the eligible priors with the largest losses."""
        owner = self.owner
        places = eligible.nonzero().squeeze(1)
        order = places[losses[places].sort(descending=True, stable=True).indices]
        nms = owner.nms_param
        if nms is not None and nms.nms_threshold > 0:
            order = self.apart(picture, order, nms.nms_threshold, nms.top_k)
        return mask_of(order[:number], len(losses))

    def apart(self, picture: int, order: Tensor, threshold: float, top_k: int | None) -> Tensor:
        """Those of some priors, the worst first, that overlap little; as Caffe, `top_k` at most."""
        top_k = top_k or 0  # where it is absent: none, as in Caffe
        order = order if top_k < 0 else order[:top_k]
        boxes = self.priors
        if not self.owner.use_prior_for_nms:
            boxes = self.decoded(self.locations[picture, :, 0], self.priors, self.variances)
        boxes = boxes[order]
        large = area(boxes) >= SMALLEST_AREA
        kept = suppress(boxes.unsqueeze(0), large.unsqueeze(0), threshold, 1.0)[0]
        return order[kept if top_k < 0 else first_of(kept, top_k)]
