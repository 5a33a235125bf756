"""Warps: pixels, points, boxes and masks go the same way, and many matrices are one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from torrefy.data.augment.affine import (
    IDENTITY,
    Flip,
    Matrix,
    Rescaling,
    Resize,
    Rotation,
    Shear,
    Stretch,
    Translation,
    after,
    centred,
    inverse,
)
from torrefy.data.augment.augmentation import Sample
from torrefy.data.augment.crops import MultiScale, RandomResizedCrop
from torrefy.data.augment.pipeline import Augmenter
from torrefy.data.augment.targets import GONE, Target
from torrefy.data.augment.warp import Warp
from torrefy.data.draws import Draws
from torrefy.errors import RecordError

HEIGHT, WIDTH = 72, 96
ZERO = Warp(border="CONSTANT")


def blob(x: float, y: float, sigma: float = 3.0) -> NDArray[Any]:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    far = (columns - x) ** 2 + (rows - y) ** 2
    made: NDArray[Any] = (200 * np.exp(-far / (2 * sigma**2))).astype(np.float32)[None]
    return made


def centre(picture: NDArray[Any]) -> tuple[float, float]:
    rows, columns = np.mgrid[: picture.shape[1], : picture.shape[2]]
    weight = picture[0] / picture[0].sum()
    return float((columns * weight).sum()), float((rows * weight).sum())


@st.composite
def matrices(draw: Any) -> Matrix:
    """Turned, stretched, sheared and mirrored, around the centre, and moved a little."""
    angle = draw(st.floats(0, 2 * math.pi))
    x, y = draw(st.floats(0.6, 1.6)), draw(st.floats(0.6, 1.6))
    lean, sign = draw(st.floats(-0.4, 0.4)), draw(st.sampled_from([-1, 1]))
    cos, sin = math.cos(angle), math.sin(angle)
    turned = centred(cos, sin, -sin, cos, (HEIGHT, WIDTH))
    made = after(turned, centred(sign * x, lean, 0, y, (HEIGHT, WIDTH)))
    shift = (1.0, 0.0, draw(st.floats(-4, 4)), 0.0, 1.0, draw(st.floats(-4, 4)))
    return after(shift, made)


@settings(max_examples=100, deadline=None)
@given(matrices())
def test_points_boxes_and_masks_land_where_the_pixels_do(matrix: Matrix) -> None:
    x, y = WIDTH / 2 + 6, HEIGHT / 2 - 5
    radius = 4
    picture = blob(x, y)
    disc = np.hypot(*(np.mgrid[:HEIGHT, :WIDTH] - np.array([y, x]).reshape(2, 1, 1))) <= radius
    targets = [
        Target("POINTS", np.array([[x, y]], np.float32)),
        Target("BOXES", np.array([[x - 4, y - 4, x + 5, y + 5]], np.float32)),
        Target("MASK", disc[None].astype(np.uint8)),
    ]
    sample = Sample(picture, targets)
    ZERO.sample(sample, matrix, (HEIGHT, WIDTH))
    found = centre(sample.picture)
    points, boxes, mask = (target.values for target in sample.targets)
    assert found == pytest.approx(points[0], abs=0.05)
    assert centre(mask.astype(np.float32)) == pytest.approx(points[0], abs=0.6)
    left, top, right, bottom = boxes[0]
    rows, columns = np.nonzero(mask[0])
    assert left - 1 <= columns.min() and columns.max() + 1 <= right + 1
    assert top - 1 <= rows.min() and rows.max() + 1 <= bottom + 1
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx(points[0] + 0.5, abs=0.01)


@settings(max_examples=100, deadline=None)
@given(matrices())
def test_a_matrix_and_its_inverse_are_nothing(matrix: Matrix) -> None:
    assert after(inverse(matrix), matrix) == pytest.approx(IDENTITY, abs=1e-9)


def waves(size: tuple[int, int] = (HEIGHT, WIDTH)) -> NDArray[Any]:
    """A smooth picture of three channels."""
    y, x = np.mgrid[: size[0], : size[1]] / 96
    planes = [np.sin(5 * x + 2 * y + i) * np.cos(4 * y - x) for i in range(3)]
    made: NDArray[Any] = (127 + 100 * np.stack(planes)).astype(np.float32)
    return made


ALL = [
    Rotation(), Translation(pixels=5.0), Rescaling(), Stretch(), Shear(), Flip(vertical=0.5),
    Resize(height=80, width=64), RandomResizedCrop(height=64, width=64, min_area=0.5),
    MultiScale(min=60, max=90),
]  # fmt: skip


@pytest.mark.parametrize("position", range(12))
def test_one_composed_warp_is_the_warps_one_after_another(position: int) -> None:
    picture, draws = waves(), Draws(3, position)
    chosen = [ALL[i] for i in range(len(ALL)) if draws.below(2)]
    composed = Augmenter(chosen, ZERO).sample(picture, Draws(4, position))
    marked = Augmenter(chosen, ZERO).sample(np.ones_like(picture), Draws(4, position))
    single = Sample(picture)
    inside = np.ones_like(picture)
    for one, (_, drawn) in zip(chosen, composed.drawn, strict=True):
        assert drawn is not None
        matrix = one.matrix(drawn, single.size)
        canvas = one.canvas(drawn, single.size)
        inside = ZERO.picture(inside, matrix, canvas)
        ZERO.sample(single, matrix, canvas)
    assert single.size == composed.size
    # Where both see the picture alone, no border; off by what several interpolations cost.
    both = (inside > 0.999) & (marked.picture > 0.999)
    assert both.mean() > 0.1
    assert np.abs(single.picture - composed.picture)[both].max() < 2.5
    assert np.abs(single.picture - composed.picture)[both].mean() < 0.3


def test_the_composed_warp_is_sharper_than_several() -> None:
    random = np.random.default_rng(0).normal(127, 40, (1, 64, 64)).astype(np.float32)
    turn = Rotation(min=10.0, max=10.0)
    back = Rotation(min=-10.0, max=-10.0)
    once = Augmenter([turn, back]).sample(random, Draws(0, 0)).picture
    np.testing.assert_allclose(once, random, atol=0.01)


@pytest.mark.parametrize(
    ("degrees", "turned"), [(90.0, 1), (180.0, 2), (270.0, 3)], ids=["90", "180", "270"]
)
def test_a_quarter_turn_is_to_the_left(degrees: float, turned: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (3, 21, 21), np.uint8)
    made = Augmenter([Rotation(min=degrees, max=degrees)]).sample(picture, Draws(0, 0)).picture
    np.testing.assert_array_equal(made, np.rot90(picture, turned, axes=(1, 2)))


def test_mirroring_and_cutting_resample_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (3, 9, 11), np.uint8)
    warp = Warp(interpolation="BICUBIC")
    mirrored = warp.picture(picture, (-1, 0, 10, 0, 1, 0), (9, 11))
    np.testing.assert_array_equal(mirrored, picture[:, :, ::-1])
    cut = warp.picture(picture, (1, 0, -2, 0, -1, 7), (5, 6))
    np.testing.assert_array_equal(cut, picture[:, 7:2:-1, 2:8])
    assert mirrored.base is picture and cut.base is picture


def test_a_cut_beyond_the_edge_shows_the_border() -> None:
    picture = np.arange(1, 5, dtype=np.uint8).reshape(1, 1, 4)
    move: Matrix = (1, 0, 2, 0, 1, 0)

    def shown(**options: Any) -> list[int]:
        return Warp("NEAREST", **options).picture(picture, move, (1, 8))[0, 0].tolist()

    assert shown(border="CONSTANT", fill=(9.0,)) == [9, 9, 1, 2, 3, 4, 9, 9]
    assert shown(border="REPLICATE") == [1, 1, 1, 2, 3, 4, 4, 4]
    assert shown(border="REFLECT") == [3, 2, 1, 2, 3, 4, 3, 2]
    assert shown(border="WRAP") == [3, 4, 1, 2, 3, 4, 1, 2]


def test_what_is_made_much_smaller_is_averaged() -> None:
    stripes = np.zeros((1, 64, 64), np.uint8)
    stripes[:, :, ::2] = 200
    small = Augmenter([Resize(height=16, width=16)]).sample(stripes, Draws(0, 0)).picture
    np.testing.assert_array_equal(small, np.full((1, 16, 16), 100, np.uint8))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_any_number_of_channels_is_warped_alike(dtype: Any, channels: int) -> None:
    one = np.random.default_rng(0).integers(0, 256, (1, 20, 30)).astype(dtype)
    picture = one.repeat(channels, axis=0)
    made = Augmenter([Rotation(min=30.0, max=30.0)]).sample(picture, Draws(0, 0)).picture
    assert (made.shape, made.dtype) == ((channels, 20, 30), np.dtype(dtype))
    np.testing.assert_array_equal(made, made[:1].repeat(channels, axis=0))


# --- Targets ---


def moved(kind: str, values: Any, matrix: Matrix, canvas: tuple[int, int], **options: Any) -> Any:
    target = Target(kind, np.array(values, np.float32), **options)
    return target.moved(matrix, canvas).values.tolist()


MIRROR: Matrix = (-1, 0, 99, 0, 1, 0)


def test_a_mirror_swaps_pairs_of_points() -> None:
    eyes_and_nose = [[20, 30], [80, 31], [50, 60]]
    found = moved("POINTS", eyes_and_nose, MIRROR, (100, 100), swap=((0, 1),))
    assert found == [[19, 31], [79, 30], [49, 60]]
    turned = (-1.0, 0.0, 99.0, 0.0, -1.0, 99.0)  # half a turn mirrors nothing
    assert moved("POINTS", eyes_and_nose, turned, (100, 100), swap=((0, 1),))[0] == [79, 69]


def test_a_point_that_is_not_there_stays_so_and_one_outside_is_kept() -> None:
    found = moved("POINTS", [[-1, -1], [95, 5]], (1, 0, 10, 0, 1, 0), (100, 100))
    assert found == [[-1, -1], [105, 5]]


def test_boxes_are_cut_at_the_edges_and_dropped_when_too_little_is_left() -> None:
    boxes = [[0, 0, 20, 20], [0, 30, 10, 40], [60, 60, 100, 100], [-1, -1, -1, -1]]
    gone = [GONE] * 4
    left: Matrix = (1, 0, -8, 0, 1, 0)
    assert moved("BOXES", boxes, left, (100, 100), visible=0.3) == [
        [0, 0, 12, 20], gone, [52, 60, 92, 100], gone,
    ]  # fmt: skip
    assert moved("BOXES", boxes, left, (100, 100), visible=0.1)[1] == [0, 30, 2, 40]
    assert moved("BOXES", boxes, left, (100, 100), visible=0.7)[0] == gone


def test_a_mirrored_box_covers_the_mirrored_pixels() -> None:
    assert moved("BOXES", [[10, 0, 30, 5]], MIRROR, (100, 100)) == [[70, 0, 90, 5]]


def test_a_mask_has_its_own_label_where_there_was_no_picture() -> None:
    mask = np.ones((1, 4, 4), np.uint8)
    sample = Sample(np.full((3, 4, 4), 50, np.uint8), [Target("MASK", mask, fill=255)])
    Warp(border="CONSTANT", fill=(7.0,)).sample(sample, (1, 0, 2, 0, 1, 0), (4, 4))
    assert sample.targets[0].values[0, 0].tolist() == [255, 255, 1, 1]
    assert sample.picture[0, 0].tolist() == [7, 7, 50, 50]


# --- Refused ---


def test_what_can_not_be_warped_is_told() -> None:
    picture = np.zeros((1, 8, 8), np.uint8)
    shift: Matrix = (1, 0, 0.5, 0, 1, 0)
    with pytest.raises(RecordError) as error:
        Warp(border="CONSTANT", fill=(1.0, 2.0, 3.0)).picture(picture, shift, (8, 8))
    assert str(error.value) == "the picture has 1 channel, but the warp's fill is given 3 times"
    with pytest.raises(RecordError) as error:
        Warp().picture(picture, shift, (8, 40_000))
    assert str(error.value) == (
        "a picture of 40000x8 is too large to be warped. Its sides may have 32766 pixels."
    )
