"""Resizing as OpenCV does it, to the bit; and as Pillow does it."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from torrefy.errors import PictureError

MOST_PIXELS = 1 << 28
"""The largest picture that is made."""
_ONE = 2048
"""OpenCV's weights are whole numbers of 1/2048."""


RESAMPLING = {
    "BILINEAR": Image.Resampling.BILINEAR,
    "NEAREST": Image.Resampling.NEAREST,
    "BICUBIC": Image.Resampling.BICUBIC,
}
"""Pillow's kinds by the names that cards have for them."""


def covering(width: int, height: int, to_width: int, to_height: int) -> tuple[int, int]:
    """Width and height of the smallest picture of an aspect that covers a size.

    The longer side is rounded.
    """
    scale = max(to_width / width, to_height / height)
    return max(to_width, round(width * scale)), max(to_height, round(height * scale))


def averaged(picture: NDArray[np.uint8], height: int, width: int, kind: str) -> NDArray[np.uint8]:
    """Resize H×W×C bytes by Pillow, which averages over all the pixels that a new one covers.

    Args:
        picture: the picture; one channel or three.
        height: of what is made.
        width: of what is made.
        kind: one of RESAMPLING.

    Raises:
        PictureError: more than MOST_PIXELS.
    """
    old_height, old_width, channels = picture.shape
    if (old_height, old_width) == (height, width):
        return picture
    if height * width > MOST_PIXELS:
        raise PictureError(f"resized to {width}x{height}, the picture would be too large")
    image = Image.fromarray(picture[..., 0] if channels == 1 else picture)
    made = np.asarray(image.resize((width, height), RESAMPLING[kind]))
    return made.reshape(height, width, channels)


def resize(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize H×W×C bytes as cv::resize with INTER_LINEAR, whatever the aspect.

    A new pixel is made of the four old ones next to its centre, however much smaller the picture
    gets, with weights rounded to 1/2048; at half the size each way it is their mean. OpenCV 4.6,
    resize.cpp.

    Raises:
        PictureError: more than MOST_PIXELS.
    """
    old_height, old_width = picture.shape[:2]
    if (old_height, old_width) == (height, width):
        return picture
    if max(height * width, height * old_width) > MOST_PIXELS:
        raise PictureError(f"resized to {width}x{height}, the picture would be too large")
    if (old_height, old_width) == (2 * height, 2 * width):
        return _halved(picture)
    left, right, x0, x1 = _weights(old_width, width, edges=True)
    top, bottom, y0, y1 = _weights(old_height, height, edges=False)
    rows, places = np.unique(np.concatenate((top, bottom)), return_inverse=True)
    used = picture if len(rows) == old_height else picture[rows]
    # Weights of 11 bits times bytes make 19 bits; OpenCV drops 4 before the second product.
    across = used[:, left] * x0[:, np.newaxis]
    across += used[:, right] * x1[:, np.newaxis]
    across >>= 4
    upper, lower = across[places[:height]], across[places[height:]]
    upper *= y0[:, np.newaxis, np.newaxis]
    upper >>= 16
    lower *= y1[:, np.newaxis, np.newaxis]
    lower >>= 16
    upper += lower
    upper += 2
    upper >>= 2
    return upper.astype(np.uint8)


def _halved(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    total = picture[0::2, 0::2].astype(np.uint16)
    for y, x in ((0, 1), (1, 0), (1, 1)):
        total += picture[y::2, x::2]
    return ((total + 2) >> 2).astype(np.uint8)


@functools.lru_cache(maxsize=256)
def _weights(
    old: int, new: int, edges: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """For each new place the two old ones, and their weights in 1/2048.

    Beyond the edges both are the outermost one. Across, OpenCV gives it the whole weight; down it
    keeps both weights, and rounds both products.
    """
    # In doubles, rounded to floats where OpenCV does.
    scale = 1.0 / (new / old)
    place = ((np.arange(new) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(place).astype(np.int64)
    rest = place - first.astype(np.float32)
    if edges:
        rest[(first < 0) | (first >= old - 1)] = 0
    one = np.float32(1)
    weights = [np.rint(w * np.float32(_ONE)).astype(np.int32) for w in (one - rest, rest)]
    return first.clip(0, old - 1), (first + 1).clip(0, old - 1), weights[0], weights[1]
