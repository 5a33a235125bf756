"""Parts of pictures: where they lie, what of the targets is left, and what SSD asks of them."""

from __future__ import annotations

import numpy as np
import pytest

from torrefy.data.augment.affine import Resize
from torrefy.data.augment.augmentation import Augmentation
from torrefy.data.augment.crops import BatchSampler, Expand, MultiScale, RandomResizedCrop
from torrefy.data.augment.pipeline import Augmenter
from torrefy.data.augment.targets import GONE, Target
from torrefy.data.augment.warp import Warp
from torrefy.data.draws import Draws

PICTURE = np.random.default_rng(0).integers(0, 256, (3, 60, 90), np.uint8)
MEAN = Warp(border="CONSTANT", fill=(104.0, 117.0, 123.0))


def test_a_part_of_whole_pixels_that_keeps_its_size_is_cut() -> None:
    one = RandomResizedCrop(height=20, width=30)
    drawn = {"left": 11.0, "top": 7.0, "width": 30.0, "height": 20.0}
    made = Warp().picture(PICTURE, one.matrix(drawn, (60, 90)), (20, 30))
    np.testing.assert_array_equal(made, PICTURE[:, 7:27, 11:41])


def test_parts_lie_within_the_picture_and_no_border_is_seen() -> None:
    one = RandomResizedCrop(height=24, width=24)
    white = np.full((1, 60, 90), 255, np.uint8)
    for position in range(200):
        drawn = one.draw(Draws(0, position), (60, 90))
        assert drawn["left"] >= 0 and drawn["left"] + drawn["width"] <= 90
        assert drawn["top"] >= 0 and drawn["top"] + drawn["height"] <= 60
        assert drawn["width"] * drawn["height"] >= 0.08 * 60 * 90 - 1e-6
        made = Augmenter([one], Warp(border="CONSTANT")).sample(white, Draws(0, position))
        assert made.size == (24, 24)
        # At the picture's edge half a pixel is mixed with the border, where it is enlarged.
        assert (made.picture[:, 1:-1, 1:-1] == 255).all()


def test_where_no_part_fits_it_is_the_largest_in_the_centre() -> None:
    one = RandomResizedCrop(height=8, width=8, min_area=1.0, min_aspect=1.0, max_aspect=1.0)
    assert one.draw(Draws(0, 0), (60, 90)) == {"left": 15, "top": 0, "width": 60, "height": 60}
    assert one.draw(Draws(0, 0), (90, 60)) == {"left": 0, "top": 15, "width": 60, "height": 60}


def test_the_shorter_side_is_what_is_drawn_and_the_aspect_is_kept() -> None:
    one = MultiScale(size=[30])
    made = Augmenter([one]).sample(PICTURE, Draws(0, 0))
    assert made.size == (30, 45)
    assert made.drawn == [("MultiScale", {"side": 30})]


def test_an_expanded_picture_is_whole_within_the_mean() -> None:
    for position in range(20):
        made = Augmenter([Expand()], MEAN).sample(PICTURE, Draws(0, position))
        ((_, drawn),) = made.drawn
        assert drawn is not None
        top, left = int(drawn["top"]), int(drawn["left"])
        np.testing.assert_array_equal(made.picture[:, top : top + 60, left : left + 90], PICTURE)
        assert made.size == (int(60 * drawn["factor"]), int(90 * drawn["factor"]))
        around = made.picture.copy()
        around[:, top : top + 60, left : left + 90] = np.reshape([104, 117, 123], (3, 1, 1))
        assert (around == np.reshape([104, 117, 123], (3, 1, 1))).all()


def boxes(*rows: list[float]) -> Target:
    return Target("BOXES", np.array(rows, np.float32))


def overlap(part: tuple[float, ...], box: np.ndarray) -> float:
    width = min(part[2], box[2]) - max(part[0], box[0])
    height = min(part[3], box[3]) - max(part[1], box[1])
    inside = max(width, 0) * max(height, 0)
    areas = [(r - x) * (b - y) for x, y, r, b in (part, box)]
    return float(inside / (sum(areas) - inside))


def test_a_part_overlaps_a_box_as_much_as_was_asked() -> None:
    one = BatchSampler()
    both = boxes([10, 10, 40, 50], [50, 20, 80, 40])
    seen = set()
    for position in range(150):
        made = Augmenter([one]).sample(PICTURE, Draws(1, position), [both])
        ((_, drawn),) = made.drawn
        assert drawn is not None
        left, top = drawn["left"], drawn["top"]
        part = (left, top, left + drawn["width"], top + drawn["height"])
        seen.add(drawn["overlap"])
        assert max(overlap(part, box) for box in both.values) >= drawn["overlap"] - 1e-6
        aspect = (drawn["width"] / 90) / (drawn["height"] / 60)
        assert 0.5 - 0.05 <= aspect <= 2 + 0.1
        cut = PICTURE[:, int(top) : int(part[3]), int(left) : int(part[2])]
        np.testing.assert_array_equal(made.picture, cut)
    assert seen >= {-1, 0, 0.1, 0.3, 0.5}


def test_without_boxes_it_is_the_whole_picture_or_any_part() -> None:
    gone = boxes([GONE] * 4)
    for targets in ([], [gone]):
        seen = [
            Augmenter([BatchSampler()]).sample(PICTURE, Draws(1, i), targets).drawn[0][1]
            for i in range(50)
        ]
        assert {drawn["overlap"] for drawn in seen if drawn is not None} == {-1, 0}


def test_the_boxes_are_those_that_the_warps_before_it_have_moved() -> None:
    asked: list[list[list[float]]] = []

    class Looking(BatchSampler):
        def draw_around(self, draws, size, boxes):  # type: ignore[no-untyped-def]
            asked.append(boxes().tolist())
            return super().draw_around(draws, size, boxes)

    augmenter = Augmenter([Resize(height=120, width=180), Looking()])
    augmenter.sample(PICTURE, Draws(0, 0), [boxes([10, 10, 40, 50], [-1, -1, -1, -1])])
    assert asked == [[[20, 20, 80, 100]]]


@pytest.mark.parametrize("before", [[], [Expand()]], ids=["alone", "expanded"])
def test_ssd_makes_no_larger_picture_than_the_net_sees(
    before: list[Augmentation], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    real = Warp.picture

    def seen(self: Warp, picture: np.ndarray, matrix: object, canvas: tuple[int, int]) -> object:
        sizes.append(canvas)
        return real(self, picture, matrix, canvas)  # type: ignore[arg-type]

    monkeypatch.setattr(Warp, "picture", seen)
    chain = [*before, BatchSampler(), Resize(height=32, width=32)]
    Augmenter(chain, MEAN).sample(PICTURE, Draws(0, 1), [boxes([10, 10, 40, 50])])
    assert sizes == [(32, 32)]
