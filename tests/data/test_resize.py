"""Resizing to the bit as OpenCV; whole pictures of OpenCV's are compared in tests/golden."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrefy.data.resize import resize
from torrefy.errors import PictureError

SIZES = st.integers(1, 40)


def one_by_one(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """OpenCV's loops, pixel by pixel."""

    def weights(old: int, new: int, at: int, edges: bool) -> tuple[int, int, int, int]:
        place = np.float32((at + 0.5) * (1 / (new / old)) - 0.5)
        first = int(np.floor(place))
        rest = np.float32(place - np.float32(first))
        if edges and (first < 0 or first >= old - 1):
            rest = np.float32(0)
        pair = [int(np.rint(w * np.float32(2048))) for w in (np.float32(1) - rest, rest)]
        return min(max(first, 0), old - 1), min(max(first + 1, 0), old - 1), pair[0], pair[1]

    made = np.empty((height, width, picture.shape[2]), np.uint8)
    old = picture.astype(int)
    for y in range(height):
        top, bottom, y0, y1 = weights(picture.shape[0], height, y, False)
        for x in range(width):
            left, right, x0, x1 = weights(picture.shape[1], width, x, True)
            upper = old[top, left] * x0 + old[top, right] * x1
            lower = old[bottom, left] * x0 + old[bottom, right] * x1
            made[y, x] = ((y0 * (upper >> 4) >> 16) + (y1 * (lower >> 4) >> 16) + 2) >> 2
    return made


@given(SIZES, SIZES, SIZES, SIZES, st.integers(0, 2**32 - 1))
def test_every_size_is_that_of_the_loops(
    height: int, width: int, new_height: int, new_width: int, seed: int
) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 2), np.uint8)
    found = resize(picture, new_height, new_width)
    if (height, width) == (new_height, new_width):
        expected = picture
    elif (height, width) == (2 * new_height, 2 * new_width):
        quarters = picture.reshape(new_height, 2, new_width, 2, 2).astype(int)
        expected = ((quarters.sum(axis=(1, 3)) + 2) >> 2).astype(np.uint8)
    else:
        expected = one_by_one(picture, new_height, new_width)
    np.testing.assert_array_equal(found, expected, strict=True)


def test_a_picture_that_would_be_huge_is_refused() -> None:
    with pytest.raises(PictureError) as error:
        resize(np.zeros((1, 2, 1), np.uint8), 1 << 15, 1 << 15)
    assert str(error.value) == "resized to 32768x32768, the picture would be too large"
