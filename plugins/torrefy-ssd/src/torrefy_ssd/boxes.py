"""Boxes as tensors: coding against priors, overlap, matching, suppression.

A box is (xmin, ymin, xmax, ymax) in shares of the picture: 0 to 1, without the + 1 that whole
pixels have. All is done in the tensors' own precision and in SSD's order of operations.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Code = Literal["CORNER", "CENTER_SIZE", "CORNER_SIZE"]

SMALLEST_OVERLAP = 1e-6
"""Boxes that overlap less are not matched."""


def split_priors(priors: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes and variances, each P×4, of a PriorBox layer's top (1×2×4P)."""
    both = priors.reshape(2, -1, 4)
    return both[0], both[1]


def size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Width and height of boxes …×4."""
    return boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]


def center(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The centres' x and y."""
    return (boxes[..., 0] + boxes[..., 2]) / 2, (boxes[..., 1] + boxes[..., 3]) / 2


def decode(code: Code, numbers: Tensor, priors: Tensor, variances: Tensor | None) -> Tensor:
    """The boxes that a net's location numbers stand for.

    CORNER: prior + variance · number, for each coordinate. CORNER_SIZE: the same in units of the
    prior's width and height. CENTER_SIZE: the centre is moved in these units, and the size
    multiplied by exp(variance · number).

    Args:
        code: what the numbers mean.
        numbers: …×4.
        priors: …×4, of a shape that broadcasts.
        variances: as the priors; None: they are in the numbers already.
    """
    moves = numbers if variances is None else variances * numbers
    if code == "CORNER":
        return priors + moves
    width, height = size(priors)
    if code == "CORNER_SIZE":
        return priors + moves * torch.stack([width, height, width, height], -1)
    x, y = center(priors)
    x = moves[..., 0] * width + x
    y = moves[..., 1] * height + y
    half_width = moves[..., 2].exp() * width / 2
    half_height = moves[..., 3].exp() * height / 2
    return torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], -1)


def encode(code: Code, boxes: Tensor, priors: Tensor, variances: Tensor | None) -> Tensor:
    """The location numbers that stand for boxes: the inverse of `decode`."""
    if code == "CENTER_SIZE":
        width, height = size(priors)
        (x, y), (to_x, to_y) = center(priors), center(boxes)
        to_width, to_height = size(boxes)
        moves = torch.stack(
            [
                (to_x - x) / width,
                (to_y - y) / height,
                (to_width / width).log(),
                (to_height / height).log(),
            ],
            -1,
        )
    else:
        moves = boxes - priors
        if code == "CORNER_SIZE":
            width, height = size(priors)
            moves = moves / torch.stack([width, height, width, height], -1)
    return moves if variances is None else moves / variances


def area(boxes: Tensor) -> Tensor:
    """Width times height; 0 for a box whose ends are the wrong way round."""
    width, height = size(boxes)
    return torch.where((width < 0) | (height < 0), 0, width * height)


def overlap(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union (Jaccard) of boxes of shapes that broadcast; 0 where none meet."""
    low = torch.maximum(one[..., :2], other[..., :2])
    high = torch.minimum(one[..., 2:], other[..., 2:])
    width, height = (high - low).unbind(-1)
    common = width * height
    share = common / (area(one) + area(other) - common)
    return torch.where((width > 0) & (height > 0), share, 0)


def crosses_border(boxes: Tensor) -> Tensor:
    """Whether any coordinate is outside 0 to 1."""
    return ((boxes < 0) | (boxes > 1)).any(-1)


UNMATCHED, IGNORED = -1, -2


def match(
    boxes: Tensor,
    objects: Tensor,
    threshold: float | None,
    ignore_crossing: bool = False,
) -> tuple[Tensor, Tensor]:
    """Which object each box is matched to, and its largest overlap with any.

    First the pair that overlaps most is matched, then the pair that does of the boxes and objects
    that are left, until each object has its box (bipartite matching); of equal overlaps the
    first box's counts. Then each other box is matched to the object that it overlaps most, if
    that is enough.

    Args:
        boxes: P×4.
        objects: G×4.
        threshold: overlap that is enough for the second step; None: there is no second step.
        ignore_crossing: boxes that cross the picture's border take no part.

    Returns:
        P indices of objects, `UNMATCHED` or `IGNORED`; and P overlaps.
    """
    found = torch.full((len(boxes),), UNMATCHED, device=boxes.device)
    if not len(objects):
        return found, boxes.new_zeros(len(boxes))
    shares = overlap(boxes.unsqueeze(1), objects)
    if ignore_crossing:
        crossing = crosses_border(boxes)
        found[crossing] = IGNORED
        shares = shares.where(~crossing.unsqueeze(1), 0)
    shares = shares.where(shares > SMALLEST_OVERLAP, 0)
    most, best = shares.max(1)
    left = shares.clone()
    for _ in range(len(objects)):
        place = int(left.argmax())
        box, thing = divmod(place, len(objects))
        if left[box, thing] <= 0:
            break
        found[box] = thing
        most[box] = shares[box, thing]
        left[box], left[:, thing] = 0, 0
    if threshold is not None:
        more = (found == UNMATCHED) & (most >= threshold) & (most > 0)
        found = torch.where(more, best, found)
    return found, most


@torch.library.custom_op("torrefy_ssd::suppress", mutates_args=())
def suppress(boxes: Tensor, valid: Tensor, threshold: float, eta: float) -> Tensor:
    """Which boxes are left of those that overlap (greedy non-maximum suppression).

    From the first box on, one is kept if it overlaps none that was kept by more than the
    threshold. With eta below 1 the threshold is multiplied by eta after each box that is kept, as
    long as it is above 0.5.

    Args:
        boxes: B×K×4, the best first.
        valid: B×K, whether a box takes part.
        threshold: largest overlap of two that are kept.
        eta: factor of the threshold.

    Returns:
        B×K, whether a box is kept.
    """
    kept = torch.zeros_like(valid)
    most = boxes.new_zeros(valid.shape)
    limit = boxes.new_full(valid.shape[:1], threshold)
    for k in range(valid.shape[1]):
        keep = valid[:, k] & (most[:, k] <= limit)
        if not keep.any():
            continue
        kept[:, k] = keep
        share = overlap(boxes[:, k : k + 1], boxes[:, k + 1 :])
        later = most[:, k + 1 :]
        torch.maximum(later, share.where(keep.unsqueeze(1), 0), out=later)
        if eta < 1:
            limit = limit.where(~keep | (limit <= 0.5), limit * eta)
    return kept


@suppress.register_fake
def _(boxes: Tensor, valid: Tensor, threshold: float, eta: float) -> Tensor:
    return torch.empty_like(valid)
