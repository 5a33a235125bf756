"""What moves with a picture: points, boxes and masks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.augment.affine import Matrix, Size
from torrefy.errors import RecordError

KINDS = ("POINTS", "BOXES", "MASK")
GONE = -1.0
"""The numbers of a point that is not there, and of a box that is no longer in the picture."""


@dataclass(frozen=True)
class Target:
    """A part of an item whose numbers are places in the picture."""

    kind: str
    """One of KINDS."""
    values: NDArray[Any]
    """Kx2 points as x y, Kx4 boxes as left top right bottom, in pixels, or a mask of CxHxW."""
    swap: tuple[tuple[int, int], ...] = ()
    """Points that change places when the picture is mirrored."""
    visible: float = 0.3
    """A box of which less is left in the picture is dropped."""
    fill: float = 0.0
    """What a mask is where there was no picture."""

    def moved(self, matrix: Matrix, canvas: Size) -> Target:
        """Points or boxes where a warp takes them; a mask is warped as a picture is.

        Mirrored points change places by `swap`; a point may come to lie outside. A box becomes
        the upright one around its corners, cut at the picture's edges. What is GONE stays so.
        """
        if self.kind == "POINTS":
            gone = (self.values == GONE).all(axis=1, keepdims=True)
            points = np.where(gone, self.values, _moved(self.values, matrix))
            if self.swap and matrix[0] * matrix[4] - matrix[1] * matrix[3] < 0:
                order = np.arange(len(points))
                for one, other in self.swap:
                    order[[one, other]] = order[[other, one]]
                points = points[order]
            return replace(self, values=points)
        return replace(self, values=self._boxes(matrix, canvas))

    def _boxes(self, matrix: Matrix, canvas: Size) -> NDArray[Any]:
        boxes = self.values
        gone = (boxes == GONE).all(axis=1)
        # A box is of areas, whose edges lie half a pixel beyond the centres of its pixels.
        left, top, right, bottom = (boxes - 0.5).T
        corners = [_moved(np.stack(pair, 1), matrix) for pair in (
            (left, top), (right, top), (left, bottom), (right, bottom))]  # fmt: skip
        places = np.stack(corners) + 0.5
        low, high = places.min(axis=0), places.max(axis=0)
        edge = np.array([canvas[1], canvas[0]], np.float32)
        cut_low, cut_high = np.clip(low, 0, edge), np.clip(high, 0, edge)
        whole = np.prod(np.maximum(high - low, 1e-6), axis=1)
        left_over = np.prod(np.maximum(cut_high - cut_low, 0), axis=1)
        made = np.concatenate([cut_low, cut_high], axis=1)
        made[gone | (left_over < self.visible * whole)] = GONE
        return made.astype(np.float32)


def _moved(points: NDArray[Any], matrix: Matrix) -> NDArray[Any]:
    a, b, c, d, e, f = matrix
    x, y = points[:, 0], points[:, 1]
    return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Tracked:
    """How a top's numbers are a target: what a transform_param's `target` says."""

    index: int
    """The top's number in the layer."""
    top: str
    kind: str
    swap: tuple[tuple[int, int], ...]
    fraction: bool
    visible: float
    fill: float = 0.0

    def read(self, part: NDArray[Any], size: Size) -> Target:
        """A target of an item's part.

        Raises:
            RecordError: it has not the numbers that its kind has.
        """
        if self.kind == "MASK":
            if part.ndim not in (2, 3) or part.shape[-2:] != size:
                told = "x".join(map(str, part.shape)) or "a number"
                raise RecordError(
                    f'the mask "{self.top}" is {told}, the picture {size[0]}x{size[1]}'
                )
            mask = part if part.dtype == np.uint8 else part.astype(np.float32)
            return Target("MASK", mask.reshape(-1, *size), fill=self.fill)
        group = 2 if self.kind == "POINTS" else 4
        if part.size % group:
            raise RecordError(
                f'"{self.top}" has {part.size} numbers, which are no {self.kind.lower()} of {group}'
            )
        values = np.asarray(part, np.float32).reshape(-1, group)
        highest = max((max(pair) for pair in self.swap), default=-1)
        if highest >= len(values):
            raise RecordError(f'"{self.top}" has {len(values)} points, and swap names {highest}')
        if self.fraction:
            values = np.where(values == GONE, GONE, values * self._unit(size, group))
        return Target(self.kind, values, self.swap, self.visible)

    def write(self, target: Target, part: NDArray[Any], size: Size) -> NDArray[Any]:
        """The part again, in its own form."""
        values = target.values
        if self.kind == "MASK":
            return values.reshape(*part.shape[:-2], *values.shape[-2:])
        if self.fraction:
            unit = self._unit(size, values.shape[1])
            values = np.where(values == GONE, GONE, values / unit)
        return values.reshape(part.shape).astype(np.float32)

    def _unit(self, size: Size, group: int) -> NDArray[Any]:
        return np.array([size[1], size[0]] * (group // 2), np.float32)
