"""What is found in data before a net learns from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from torrefy.data.sources.image_list import list_source
from torrefy.data.sources.lmdb import LMDBSource
from torrefy.data.sources.memory import ArraySource
from torrefy.data.verify import verify


def arrays(pictures: list[int], labels: list[int], name: str = "a") -> ArraySource:
    pixels = np.array(pictures, np.uint8).reshape(-1, 1, 1, 1)
    return ArraySource(pixels, np.array(labels, np.float32), name=name)


def test_good_data_are_told_to_be_looked_at(digits: Path) -> None:
    found = verify(LMDBSource(digits), classes=10)
    assert not found.wrong
    assert list(found.lines()) == ["looked at 30 items"]


def test_everything_that_spoils_a_training_is_found() -> None:
    found = verify(
        arrays([1, 2, 1, 3, 1, 4], [0, 1, 0, 7, 255, 0]),
        arrays([9, 4, 3], [0, 0, 0], "b"),
        classes=4,
        ignore_label=255,
    )
    assert found.wrong
    assert list(found.lines()) == [
        "1 label is no class:",
        "  a (row 3): label 7",
        "2 pictures are in both sources:",
        "  b (row 1) is a (row 5)",
        "  b (row 2) is a (row 3)",
        "1 picture is there twice:",
        "  a (row 0) is a (row 2) is a (row 4)",
        "2 classes have no item: 2, 3",
        "looked at 6 items",
    ]


def test_uneven_classes_are_told() -> None:
    found = verify(arrays(list(range(23)), [0] * 21 + [1] * 2))
    assert not found.wrong
    assert list(found.lines()) == [
        "the classes are uneven: 21 items of class 0, 2 of class 1",
        "looked at 23 items",
    ]


def test_bad_pictures_are_named_up_to_five(photos: Path) -> None:
    for path in photos.glob("*.png"):
        path.write_bytes(b"")
    lines = list(verify(list_source(photos / "list.txt", f"{photos}/")).lines())
    assert lines[0] == "6 items can't be read:"
    assert lines[1] == f"  {photos}/list.txt:1:1: {photos}/p 0.png: the file is empty"
    assert lines[6:] == ["  and 1 more", "looked at 6 items"]


@pytest.mark.parametrize("sample", [7, 30, 99])
def test_a_sample_is_looked_at_where_one_is_asked_for(digits: Path, sample: int) -> None:
    seen: list[int] = []
    found = verify(LMDBSource(digits), classes=40, sample=sample, told=seen.append)
    assert found.looked_at == min(sample, 30)
    assert seen == list(range(1, found.looked_at + 1))
    assert bool(found.missing) == (sample >= 30)
    if sample < 30:
        assert list(found.lines())[-1] == (
            "looked at 7 items of 30, a sample: what it has not is not told"
        )
