"""What threads make ahead of whoever takes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from torrefy.data.ahead import made_ahead


def test_what_is_made_comes_in_the_order_of_the_items() -> None:
    def make(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        return item * item

    batches = list(made_ahead(range(8), make, 3, workers=4))
    assert batches == [
        [(0, 0), (1, 1), (2, 4)], [(3, 9), (4, 16), (5, 25)], [(6, 36), (7, 49)],
    ]  # fmt: skip
    assert list(made_ahead([], make, 3)) == []


def test_what_fails_is_raised_in_its_turn() -> None:
    def make(item: int) -> int:
        if item == 5:
            raise KeyError(item)
        return item

    batches = made_ahead(range(8), make, 2, workers=4)
    assert [next(batches), next(batches)] == [[(0, 0), (1, 1)], [(2, 2), (3, 3)]]
    with pytest.raises(KeyError):
        next(batches)


def test_of_endless_items_a_few_are_asked_for() -> None:
    asked = 0

    def endless() -> Iterator[int]:
        nonlocal asked
        while True:
            asked += 1
            yield asked

    batches = made_ahead(endless(), str, 4, workers=2)
    next(batches)
    assert asked <= 4 + 2 * 2 + 4
    batches.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("pictures")]


def test_a_batch_of_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="size must be 1 or more, found 0"):
        list(made_ahead([1], str, 0))
