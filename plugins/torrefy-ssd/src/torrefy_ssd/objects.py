"""The objects that are in pictures, as AnnotatedData tells them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torrefy.layers.base import Layer, Shape, shape_text

NUMBERS = 8
"""Of each object: picture, label, instance, xmin, ymin, xmax, ymax, difficult."""


@dataclass(frozen=True)
class Objects:
    """The objects of one batch: G pictures, labels, G×4 boxes, and which are difficult."""

    picture: Tensor
    label: Tensor
    box: Tensor
    difficult: Tensor

    def those(self, which: Tensor) -> Objects:
        """The objects of a mask."""
        return Objects(
            self.picture[which], self.label[which], self.box[which], self.difficult[which]
        )


def read_objects(owner: Layer, rows: Tensor, classes: int, background: int) -> Objects:
    """The objects in a blob of 1×1×G×8, without the rows whose picture is −1.

    Raises:
        LayerError: a label is the background's, or no class.
    """
    table = rows.detach().reshape(-1, NUMBERS)
    table = table[table[:, 0].trunc() != -1]
    label = table[:, 1].long()
    wrong = (label == background) | (label < 0) | (label >= classes)
    if wrong.any():
        found = int(label[wrong][0])
        what = "is the background" if found == background else f"is none of {classes} classes"
        raise owner.error(f"there is an object of label {found}, which {what}", field="bottom")
    return Objects(table[:, 0].long(), label, table[:, 3:7], table[:, 7].trunc() != 0)


def check_objects(owner: Layer, bottom: int, shape: Shape) -> None:
    """Refuse a blob that can't hold objects.

    Raises:
        LayerError: it isn't 1×1×G×8.
    """
    if len(shape) != 4 or shape[:2] != (1, 1) or shape[3] != NUMBERS:
        raise owner.error(
            f"bottom {bottom} must hold objects, 1x1xGx{NUMBERS}, found {shape_text(shape)}",
            field="bottom",
        )


def first_of(mask: Tensor, count: int) -> Tensor:
    """A mask with only the first `count` places of another that are set."""
    return mask & (mask.cumsum(0) <= count)


def mask_of(places: Tensor, length: int) -> Tensor:
    """A mask that is set at some places."""
    mask = torch.zeros(length, dtype=torch.bool, device=places.device)
    mask[places] = True
    return mask
