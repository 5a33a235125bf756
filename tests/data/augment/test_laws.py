"""What augmentations draw follows the laws that they state, over 100,000 draws each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from torrefy.data.augment.affine import Flip, Rescaling, Rotation, Shear, Stretch, Translation
from torrefy.data.augment.augmentation import Augmentation
from torrefy.data.augment.colour import Brightness, Distort, Hue, Lighting
from torrefy.data.augment.crops import BatchSampler, Expand, MultiScale, RandomResizedCrop
from torrefy.data.augment.pipeline import Augmenter
from torrefy.data.augment.pixels import JPEG, Blur, Cutout, Noise
from torrefy.data.draws import Draws

COUNT = 100_000
CERTAIN = 1e-3
"""Laws that give such numbers more rarely than this are not theirs."""


def drawn(one: Augmentation, *names: str, size: tuple[int, int] = (96, 128)) -> NDArray[np.float64]:
    """COUNT rows of what is drawn, one for each position of a stream."""
    rows = (one.draw(Draws(5, position), size) for position in range(COUNT))
    return np.array([[row[name] for name in names] for row in rows])


def uniform(values: NDArray[np.float64], low: float, high: float) -> None:
    assert values.min() >= low and values.max() <= high
    assert stats.kstest(values, "uniform", (low, high - low)).pvalue > CERTAIN


@pytest.mark.parametrize(
    ("one", "name", "low", "high"),
    [
        (Rotation(), "degrees", 0, 360),
        (Rotation(min=-15.0, max=15.0), "degrees", -15, 15),
        (Translation(pixels=10.0), "x", -10, 10),
        (Translation(fraction=0.25), "x", -32, 32),
        (Translation(fraction=0.25), "y", -24, 24),
        (Shear(), "degrees", -20, 20),
        (Expand(), "factor", 1, 4),
        (Brightness(min=0.5, max=1.5), "factor", 0.5, 1.5),
        (Hue(), "degrees", -36, 36),
        (Blur(), "sigma", 0.1, 2),
        (Noise(), "sigma", 0, 10),
    ],
    ids=lambda value: getattr(value, "type_name", None),
)
def test_it_is_uniform(one: Augmentation, name: str, low: float, high: float) -> None:
    uniform(drawn(one, name)[:, 0], low, high)


@pytest.mark.parametrize(
    ("one", "most"), [(Rescaling(), 1.6), (Stretch(), 1.3)], ids=["Rescaling", "Stretch"]
)
def test_it_is_log_uniform(one: Augmentation, most: float) -> None:
    uniform(np.log(drawn(one, "factor")[:, 0]), -math.log(most), math.log(most))


def test_a_part_has_a_uniform_area_a_log_uniform_aspect_and_any_place() -> None:
    # Of a square picture; below 3/4 of the area each part fits at once.
    one = RandomResizedCrop(height=8, width=8, max_area=0.75)
    left, top, width, height = drawn(one, "left", "top", "width", "height", size=(100, 100)).T
    uniform(width * height / 100**2, 0.08, 0.75)
    uniform(np.log(width / height), math.log(3 / 4), math.log(4 / 3))
    uniform(left / (100 - width), 0, 1)
    uniform(top / (100 - height), 0, 1)


def test_the_lighting_is_normal_in_three_independent_numbers() -> None:
    numbers = drawn(Lighting(sigma=0.1), "a1", "a2", "a3")
    for column in numbers.T:
        assert stats.kstest(column, "norm", (0, 0.1)).pvalue > CERTAIN
    assert np.abs(np.corrcoef(numbers.T) - np.eye(3)).max() < 0.015


def even(values: NDArray[np.float64], kinds: int) -> None:
    counts = Counter(values.tolist())
    assert len(counts) == kinds
    assert stats.chisquare(list(counts.values())).pvalue > CERTAIN


@pytest.mark.parametrize(
    ("one", "name", "kinds"),
    [
        (MultiScale(min=256, max=480), "side", 225),
        (MultiScale(size=[256, 384, 512]), "side", 3),
        (JPEG(min=30, max=95), "quality", 66),
        (Cutout(pixels=16), "x", 128),
        (Cutout(pixels=16), "y", 96),
    ],
    ids=lambda value: getattr(value, "type_name", None),
)
def test_each_is_as_often(one: Augmentation, name: str, kinds: int) -> None:
    even(drawn(one, name)[:, 0], kinds)


def share(done: int, probability: float) -> None:
    assert stats.binomtest(done, COUNT, probability).pvalue > CERTAIN


def test_it_is_mirrored_as_often_as_is_said() -> None:
    horizontal, vertical = drawn(Flip(horizontal=0.5, vertical=0.1), "horizontal", "vertical").T
    share(int(horizontal.sum()), 0.5)
    share(int(vertical.sum()), 0.1)
    assert abs(np.corrcoef(horizontal, vertical)[0, 1]) < 0.015


def test_it_is_distorted_as_often_as_ssd_does() -> None:
    one = Distort()
    rows = [one.draw(Draws(5, i), (8, 8)) for i in range(COUNT)]
    share(sum(int(row["contrast_first"]) for row in rows), 0.5)
    for name, low, high in (
        ("brightness", -32, 32), ("contrast", 0.5, 1.5), ("saturation", 0.5, 1.5), ("hue", -18, 18)
    ):  # fmt: skip
        found = np.array([row[name] for row in rows if name in row])
        share(len(found), 0.5)
        uniform(found, low, high)


def test_an_augmentation_is_done_by_its_probability() -> None:
    one = Flip()
    one.probability = 0.3
    augmenter, picture = Augmenter([one]), np.zeros((1, 2, 2), np.uint8)
    seen = (augmenter.sample(picture, Draws(5, i)).drawn[0][1] for i in range(COUNT))
    share(sum(drawn is not None for drawn in seen), 0.3)


def test_parts_around_boxes_are_of_each_overlap_as_often() -> None:
    # A box that is nearly all of the picture: every overlap is found.
    box = np.array([[1, 1, 99, 99]], np.float32)
    found = Counter(
        BatchSampler(min_scale=0.9, trials=1000).draw_around(Draws(5, i), (100, 100), lambda: box)[
            "overlap"
        ]
        for i in range(10_000)
    )
    assert sorted(found) == pytest.approx([-1, 0, 0.1, 0.3, 0.5, 0.7, 0.9])
    assert stats.chisquare(list(found.values())).pvalue > CERTAIN


ANGLE = Rotation()


def _first(position: int) -> float:
    return ANGLE.draw(Draws(5, position), (8, 8))["degrees"]


@pytest.mark.parametrize(
    "other", [lambda i: _first(i + 1), lambda i: ANGLE.draw(Draws(6, i), (8, 8))["degrees"]],
    ids=["position", "seed"],
)  # fmt: skip
def test_neighbouring_positions_and_seeds_are_independent(other: Callable[[int], float]) -> None:
    pairs = np.array([(_first(i), other(i)) for i in range(COUNT)])
    assert abs(stats.spearmanr(pairs).statistic) < 0.015
