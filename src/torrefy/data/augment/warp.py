"""Pixels moved by a matrix: resampled once, however many augmentations made it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from torrefy.data.augment.affine import IDENTITY, Matrix, Size, after, inverse
from torrefy.data.augment.augmentation import Sample

_METHODS = {
    "BILINEAR": cv2.INTER_LINEAR,
    "NEAREST": cv2.INTER_NEAREST,
    "BICUBIC": cv2.INTER_CUBIC,
}
_BORDERS = {
    "REFLECT": cv2.BORDER_REFLECT_101,
    "CONSTANT": cv2.BORDER_CONSTANT,
    "REPLICATE": cv2.BORDER_REPLICATE,
    "WRAP": cv2.BORDER_WRAP,
}
MOST_CHANNELS = 4
"""OpenCV warps no more at once."""


@dataclass(frozen=True)
class Warp:
    """How pixels are made: what a transform_param's `warp` says."""

    interpolation: str = "BILINEAR"
    """BILINEAR, NEAREST or BICUBIC."""
    border: str = "REFLECT"
    """What is beyond the edge: REFLECT, CONSTANT, REPLICATE or WRAP."""
    fill: tuple[float, ...] = field(default=())
    """The constant: one for all channels, or one for each; empty: 0."""

    @classmethod
    def from_message(cls, message: Any) -> Warp:
        """What a WarpParameter says."""
        return cls(
            message.Interpolation.Name(message.interpolation),
            message.Border.Name(message.border),
            tuple(message.fill),
        )

    def sample(self, sample: Sample, matrix: Matrix, canvas: Size) -> None:
        """Warp a sample: its picture, masks (by the nearest pixel, 0 beyond) and places."""
        if matrix == IDENTITY and canvas == sample.size:
            return
        sample.picture = self.picture(sample.picture, matrix, canvas)
        nearest = Warp("NEAREST", self.border)
        sample.targets = [
            replace(target, values=nearest.picture(target.values, matrix, canvas))
            if target.kind == "MASK"
            else target.moved(matrix, canvas)
            for target in sample.targets
        ]

    def picture(self, picture: NDArray[Any], matrix: Matrix, canvas: Size) -> NDArray[Any]:
        """C×H×W to C×h×w, of the same kind of numbers.

        Where a picture is made less than half as large, its pixels are first averaged, so that no
        pixel is passed over.
        """
        if _mirrors(matrix, canvas, picture.shape[-2:]):
            return picture[:, :: int(matrix[4]), :: int(matrix[0])]
        if self.interpolation != "NEAREST":
            picture, matrix = _reduced(picture, matrix)
        height, width = canvas
        back = np.array(inverse(matrix), np.float64).reshape(2, 3)
        flags = _METHODS[self.interpolation] | cv2.WARP_INVERSE_MAP
        fill = self.fill if len(self.fill) > 1 else (self.fill or (0.0,)) * MOST_CHANNELS
        rows = picture.transpose(1, 2, 0)
        made = [
            cv2.warpAffine(
                np.ascontiguousarray(rows[..., i : i + MOST_CHANNELS]),
                back,
                (width, height),
                flags=flags,
                borderMode=_BORDERS[self.border],
                borderValue=fill[i : i + MOST_CHANNELS],
            ).reshape(height, width, -1)
            for i in range(0, rows.shape[2], MOST_CHANNELS)
        ]
        whole = made[0] if len(made) == 1 else np.concatenate(made, axis=2)
        return whole.transpose(2, 0, 1)


def _mirrors(matrix: Matrix, canvas: Size, size: Size) -> bool:
    """Whether a matrix only mirrors: nothing is resampled."""
    a, b, c, d, e, f = matrix
    ends = {1.0: (0.0, 0.0), -1.0: (size[1] - 1.0, size[0] - 1.0)}
    return (
        canvas == size
        and b == d == 0.0
        and a in ends
        and e in ends
        and (c, f) == (ends[a][0], ends[e][1])
    )


def _reduced(picture: NDArray[Any], matrix: Matrix) -> tuple[NDArray[Any], Matrix]:
    """A picture whose pixels were averaged by whole numbers, and the matrix for it."""
    a, b, _, d, e, _ = matrix
    x, y = (max(1, int(1 / max(math.hypot(*pair), 1e-9))) for pair in ((a, d), (b, e)))
    if x == y == 1:
        return picture, matrix
    height, width = picture.shape[-2:]
    small = max(1, height // y), max(1, width // x)
    rows = np.ascontiguousarray(picture.transpose(1, 2, 0))
    made = cv2.resize(rows, small[::-1], interpolation=cv2.INTER_AREA).reshape(*small, -1)
    up, across = height / small[0], width / small[1]
    grown = (across, 0.0, (across - 1) / 2, 0.0, up, (up - 1) / 2)
    return made.transpose(2, 0, 1), after(matrix, grown)
