"""Boxes: numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from torrefy_ssd.boxes import (
    IGNORED,
    UNMATCHED,
    Code,
    decode,
    encode,
    match,
    overlap,
    split_priors,
    suppress,
)

PRIOR = torch.tensor([[0.2, 0.2, 0.6, 0.4]])  # 0.4 wide, 0.2 high, centre (0.4, 0.3)
VARIANCE = torch.tensor([[0.1, 0.1, 0.2, 0.2]])


@pytest.mark.parametrize(
    ("code", "numbers", "box"),
    [
        # 0.2 + 0.1 · 1, 0.2 + 0.1 · 2, 0.6 + 0.2 · 1, 0.4 + 0.2 · (−1)
        ("CORNER", [1, 2, 1, -1], [0.3, 0.4, 0.8, 0.2]),
        # 0.2 + 0.1 · 1 · 0.4, 0.2 + 0.1 · 2 · 0.2, 0.6 + 0.2 · 1 · 0.4, 0.4 + 0.2 · (−1) · 0.2
        ("CORNER_SIZE", [1, 2, 1, -1], [0.24, 0.24, 0.68, 0.36]),
        # centre (0.4 + 0.1 · 1 · 0.4, 0.3 + 0.1 · (−1) · 0.2) = (0.44, 0.28), 0.8 wide, 0.2 high
        ("CENTER_SIZE", [1, -1, math.log(2) / 0.2, 0], [0.04, 0.18, 0.84, 0.38]),
    ],
)
def test_each_code_means_what_the_paper_says(
    code: Code, numbers: list[float], box: list[float]
) -> None:
    coded, expected = torch.tensor([numbers], dtype=torch.float32), torch.tensor([box])
    torch.testing.assert_close(decode(code, coded, PRIOR, VARIANCE), expected)
    if code != "CORNER":  # that box is upside down, but can be encoded
        torch.testing.assert_close(encode(code, expected, PRIOR, VARIANCE), coded)
    # With the variances in the numbers themselves the same box is told by their product.
    torch.testing.assert_close(decode(code, coded * VARIANCE, PRIOR, None), expected)
    torch.testing.assert_close(encode(code, expected, PRIOR, None), coded * VARIANCE)


@pytest.mark.parametrize(
    ("box", "share"),
    [
        ([0.1, 0.0, 0.5, 0.4], 0.6),  # 0.3 · 0.4 = 0.12 of 0.16 + 0.16 − 0.12 = 0.2
        ([0.2, 0.2, 0.4, 0.4], 0.25),  # inside: 0.04 of 0.16
        ([0.4, 0.0, 0.8, 0.4], 0.0),  # side by side
        ([0.6, 0.6, 0.8, 0.8], 0.0),  # apart
        ([0.3, 0.1, 0.1, 0.2], 0.0),  # the wrong way round
    ],
)
def test_overlap_is_intersection_over_union(box: list[float], share: float) -> None:
    one = torch.tensor([0.0, 0.0, 0.4, 0.4])
    assert overlap(one, torch.tensor(box)).item() == pytest.approx(share, abs=1e-6)


def test_priors_stand_before_their_variances() -> None:
    boxes, variances = split_priors(torch.arange(16.0).reshape(1, 2, 8))
    assert boxes.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert variances.tolist() == [[8, 9, 10, 11], [12, 13, 14, 15]]


BOXES = torch.tensor(
    [[0.0, 0.0, 0.4, 0.4], [0.1, 0.0, 0.5, 0.4], [0.6, 0.6, 0.8, 0.8], [-0.1, 0.0, 0.3, 0.4]]
)


def test_each_object_gets_a_box_and_then_each_box_that_overlaps_enough() -> None:
    # The first box is both objects' best (1, and 0.0900 / 0.1600 = 0.5625). The pair with the
    # largest overlap is box 0 and object 0. Object 1 (0.05, 0, 0.3, 0.36) then takes the box
    # that it overlaps most of those left: box 3 by 0.09 / 0.16 = 0.5625 (box 1 by
    # 0.072 / 0.178 = 0.404).
    objects = torch.tensor([[0.0, 0.0, 0.4, 0.4], [0.05, 0.0, 0.3, 0.36]])
    found, most = match(BOXES, objects, None)
    assert found.tolist() == [0, UNMATCHED, UNMATCHED, 1]
    torch.testing.assert_close(most, torch.tensor([1.0, 0.6, 0.0, 0.5625]))
    # Box 1 overlaps object 0 by 0.6.
    assert match(BOXES, objects, 0.59)[0].tolist() == [0, 0, UNMATCHED, 1]
    assert match(BOXES, objects, 0.61)[0].tolist() == [0, UNMATCHED, UNMATCHED, 1]


def test_boxes_over_the_border_can_be_ignored() -> None:
    objects = BOXES[3:]
    assert match(BOXES, objects, 0.5)[0].tolist() == [0, UNMATCHED, UNMATCHED, 0]
    # Box 0 overlaps it by 0.12 / 0.2.
    assert match(BOXES, objects, 0.5, ignore_crossing=True)[0].tolist() == [
        0, UNMATCHED, UNMATCHED, IGNORED,
    ]  # fmt: skip


def test_no_object_matches_nothing() -> None:
    found, most = match(BOXES, torch.zeros(0, 4), 0.5)
    assert found.tolist() == [UNMATCHED] * 4
    assert most.tolist() == [0.0] * 4


def left(threshold: float, eta: float = 1.0, valid: list[bool] | None = None) -> list[bool]:
    mask = torch.tensor([valid or [True] * 4])
    kept: list[bool] = suppress(BOXES.unsqueeze(0), mask, threshold, eta)[0].tolist()
    return kept


def test_boxes_that_overlap_a_better_one_go() -> None:
    # 0-1 and 0-3 overlap by 0.6, 1-3 by 0.08 / 0.24 = 1/3.
    assert left(0.7) == [True, True, True, True]
    assert left(0.5) == [True, False, True, False]
    assert left(0.5, valid=[False, True, True, True]) == [False, True, True, True]
    assert left(0.3, valid=[False, True, True, True]) == [False, True, True, False]


def test_the_threshold_falls_by_eta_while_it_is_above_a_half() -> None:
    # 0.7 · 0.8 = 0.56 after box 0, which takes boxes 1 and 3.
    assert left(0.7, 0.8) == [True, False, True, False]
    # It doesn't fall from 0.5 on: 1 and 3 overlap by 1/3.
    assert left(0.5, 0.5, [False, True, True, True]) == [False, True, True, True]


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator)
    return torch.cat([low, low + 0.4 * torch.rand(count, 2, generator=generator)], 1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("threshold", "eta"), [(0.3, 1.0), (0.7, 0.9), (0.9, 0.5)])
def test_suppression_is_its_definition_for_many_boxes(
    seed: int, threshold: float, eta: float
) -> None:
    boxes = random_boxes(120, seed)
    kept: list[int] = []
    limit = threshold
    for i in range(len(boxes)):
        if all(overlap(boxes[i], boxes[k]) <= limit for k in kept):
            kept.append(i)
            if eta < 1 and limit > 0.5:
                limit *= eta
    everything = torch.ones(1, len(boxes), dtype=torch.bool)
    found = suppress(boxes.unsqueeze(0), everything, threshold, eta)[0]
    assert found.nonzero().flatten().tolist() == kept


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [None, 0.2])
def test_matching_is_its_definition_for_many_boxes(seed: int, threshold: float | None) -> None:
    boxes, objects = random_boxes(60, seed), random_boxes(9, seed + 100)
    shares = [[float(overlap(b, o)) for o in objects] for b in boxes]
    expected = [UNMATCHED] * len(boxes)
    left = set(range(len(objects)))
    while left:
        pairs = [
            (shares[b][o], -b, -o)
            for b in range(len(boxes))
            for o in left
            if expected[b] == UNMATCHED and shares[b][o] > 1e-6
        ]
        if not pairs:
            break
        _, b, o = max(pairs)
        expected[-b] = -o
        left.remove(-o)
    for b, row in enumerate(shares):
        if threshold is not None and expected[b] == UNMATCHED and max(row) >= threshold:
            expected[b] = row.index(max(row))
    assert match(boxes, objects, threshold)[0].tolist() == expected
