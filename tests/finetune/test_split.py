"""How examples are divided into those that are learned from and those that are held out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torrefy.data.examples import Examples, examples_of
from torrefy.errors import DataError
from torrefy.finetune.split import divide


def some(labels: list[int]) -> Examples:
    return examples_of([f"{i}.png" for i in range(len(labels))], labels)


classes = st.lists(st.integers(0, 3), min_size=4, max_size=60).filter(lambda x: len(set(x)) > 1)


@settings(deadline=None)
@given(classes, st.floats(0.05, 0.6), st.integers(0, 99))
def test_each_class_gives_its_share(labels: list[int], share: float, seed: int) -> None:
    examples = some(labels)
    counts = np.bincount(examples.targets)
    if counts.max() < 2:
        return
    parts = divide(examples, share, seed)
    assert sorted([*parts.train.names, *parts.val.names]) == sorted(examples.names)
    assert sorted(parts.learned.names) == sorted(examples.names)
    held = np.bincount(parts.val.targets, minlength=len(counts))
    for count, gone in zip(counts, held, strict=True):
        assert abs(gone - share * count) <= 1
        assert gone >= 1 or count < 2
        assert gone < count
    assert divide(examples, share, seed).val.names == parts.val.names


@settings(deadline=None)
@given(st.data(), classes, st.integers(0, 99))
def test_a_group_is_never_divided(data: st.DataObject, labels: list[int], seed: int) -> None:
    groups = [f"g{data.draw(st.integers(0, 6))}" for _ in labels]
    examples = replace(some(labels), groups=tuple(groups))
    try:
        parts = divide(examples, 0.2, seed)
    except DataError as error:
        assert "can't be divided" in str(error)
        return
    assert not set(parts.train.groups) & set(parts.val.groups)


def test_what_the_data_say_is_done() -> None:
    examples = replace(some([0, 1] * 5), parts=("train",) * 6 + ("val",) * 2 + ("test",) * 2)
    parts = divide(examples)
    assert parts.given
    assert parts.test is not None
    assert [len(one) for one in (parts.train, parts.val, parts.test, parts.learned)] == [6, 2, 2, 8]
    parts = divide(replace(examples, parts=("train",) * 8 + ("test",) * 2))
    assert not parts.given
    assert (len(parts.train), len(parts.val), len(parts.learned)) == (6, 2, 8)
    with pytest.raises(DataError, match='none of the pictures is called "train"'):
        divide(replace(examples, parts=("val",) * 10))
