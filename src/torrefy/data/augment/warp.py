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
from torrefy.errors import RecordError

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
LARGEST = (1 << 15) - 2
"""Pixels a side; OpenCV's places are 16 bits."""


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
        """Warp a sample: its picture, masks (by the nearest pixel) and places.

        Raises:
            RecordError: the picture is or becomes too large, or has not as many channels as `fill`.
        """
        if matrix == IDENTITY and canvas == sample.size:
            return
        sample.picture = self.picture(sample.picture, matrix, canvas)
        sample.targets = [
            replace(
                target, values=self._nearest(target.fill).picture(target.values, matrix, canvas)
            )
            if target.kind == "MASK"
            else target.moved(matrix, canvas)
            for target in sample.targets
        ]

    def _nearest(self, fill: float) -> Warp:
        return Warp("NEAREST", self.border, (fill,))

    def picture(self, picture: NDArray[Any], matrix: Matrix, canvas: Size) -> NDArray[Any]:
        """C×H×W to C×h×w, of the same kind of numbers.

        Where a picture is made less than half as large, its pixels are first averaged, so that no
        pixel is passed over. Where pixels stay what they are, mirrored or cut, it is a view.
        """
        cut = _cut(matrix, canvas, picture.shape[-2:])
        if cut is not None:
            return picture[:, cut[0], cut[1]]
        self._check(picture.shape, canvas)
        if self.interpolation != "NEAREST":
            picture, matrix = _reduced(picture, matrix)
        height, width = canvas
        back = np.array(inverse(matrix), np.float64).reshape(2, 3)
        flags = _METHODS[self.interpolation] | cv2.WARP_INVERSE_MAP
        fill = self.fill if len(self.fill) > 1 else (self.fill or (0.0,)) * MOST_CHANNELS
        made = np.empty((len(picture), height, width), picture.dtype)
        for i in range(0, len(picture), MOST_CHANNELS):
            part = cv2.warpAffine(
                _interleaved(picture[i : i + MOST_CHANNELS]),
                back,
                (width, height),
                flags=flags,
                borderMode=_BORDERS[self.border],
                borderValue=fill[i : i + MOST_CHANNELS],
            )
            cv2.split(part, list(made[i : i + MOST_CHANNELS]))
        return made

    def _check(self, shape: tuple[int, ...], canvas: Size) -> None:
        for height, width in (shape[-2:], canvas):
            if max(height, width) > LARGEST:
                raise RecordError(
                    f"a picture of {width}x{height} is too large to be warped",
                    hint=f"Its sides may have {LARGEST} pixels.",
                )
        if len(self.fill) not in (0, 1, shape[0]):
            raise RecordError(
                f"the picture has {shape[0]} channel{'s' * (shape[0] > 1)}, but the warp's fill is "
                f"given {len(self.fill)} times"
            )


def _cut(matrix: Matrix, canvas: Size, size: Size) -> tuple[slice, slice] | None:
    """The rows and columns that a matrix only mirrors and cuts; None: pixels must be made."""
    a, b, c, d, e, f = matrix
    if b or d or abs(a) != 1 or abs(e) != 1:
        return None
    rows, columns = _range(e, f, canvas[0], size[0]), _range(a, c, canvas[1], size[1])
    return None if rows is None or columns is None else (rows, columns)


def _range(factor: float, shift: float, made: int, given: int) -> slice | None:
    """Along one axis: what is made comes from first − shift on, forwards or backwards."""
    first = -shift if factor > 0 else shift
    last = first + factor * (made - 1)
    if first != int(first) or not (0 <= first < given and 0 <= last < given):
        return None
    stop = int(last + factor)
    return slice(int(first), stop if stop >= 0 else None, int(factor))


def _reduced(picture: NDArray[Any], matrix: Matrix) -> tuple[NDArray[Any], Matrix]:
    """A picture whose pixels were averaged by whole numbers, and the matrix for it."""
    a, b, _, d, e, _ = matrix
    x, y = (max(1, int(1 / max(math.hypot(*pair), 1e-9))) for pair in ((a, d), (b, e)))
    if x == y == 1:
        return picture, matrix
    height, width = picture.shape[-2:]
    small = max(1, height // y), max(1, width // x)
    made = cv2.resize(_interleaved(picture), small[::-1], interpolation=cv2.INTER_AREA)
    up, across = height / small[0], width / small[1]
    grown = (across, 0.0, (across - 1) / 2, 0.0, up, (up - 1) / 2)
    return made.reshape(*small, -1).transpose(2, 0, 1), after(matrix, grown)


def _interleaved(picture: NDArray[Any]) -> NDArray[Any]:
    """C×H×W as OpenCV has pictures, H×W×C; for what numpy needs 0.5 ms it needs 0.005."""
    rows = picture.transpose(1, 2, 0)
    if rows.flags.c_contiguous:
        return rows
    return cv2.merge([np.ascontiguousarray(channel) for channel in picture])
