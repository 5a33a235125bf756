"""idx files: arrays of bytes, and what is refused before it is read."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from torrefy.data.idx import read_idx
from torrefy.errors import DataError


def idx(*lengths: int, data: bytes | None = None, kind: int = 8) -> bytes:
    """An idx file's bytes; without data as many zeros as its header says."""
    size = int(np.prod(lengths))
    head = struct.pack(f">BBBB{len(lengths)}I", 0, 0, kind, len(lengths), *lengths)
    return head + (bytes(size) if data is None else data)


def told(tmp_path: Path, data: bytes, items: int = 2, axes: int = 3) -> str:
    path = tmp_path / "pictures"
    path.write_bytes(data)
    with pytest.raises(DataError) as error:
        read_idx(path, items, axes)
    return str(error.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("packed", [False, True])
def test_pictures_and_labels_are_read_plain_or_packed(tmp_path: Path, packed: bool) -> None:
    values = np.arange(24, dtype=np.uint8)
    for lengths in ((2, 3, 4), (24,)):
        data = idx(*lengths, data=values.tobytes())
        (tmp_path / "file").write_bytes(gzip.compress(data) if packed else data)
        found = read_idx(tmp_path / "file", lengths[0], len(lengths))
        np.testing.assert_array_equal(found, values.reshape(lengths))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "this is no idx file"),
        (b"PK\3\4 and more", "this is no idx file"),
        (idx(2, 3, 4, kind=13), "an idx file of bytes is read, found type 0x0d"),
        (idx(2), "expected 3 axes, found 1"),
        (idx(2, 3, 4)[:12], "the file ends within its header"),
        (idx(3, 3, 4), "expected 2 items, found 3 in the header"),
        (idx(2, 3, 4)[:-1], "the header tells of 24 values, and there are 23"),
        (idx(2, 3, 4) + b"x", "the header tells of 24 values, and there are more"),
        (idx(2, 0, 4), "pictures of 0x4 pixels, 2 of them, are not read"),
        (idx(2, 5000, 1, data=b""), "pictures of 5000x1 pixels, 2 of them, are not read"),
    ],
)
def test_what_is_no_such_file_is_told(tmp_path: Path, data: bytes, message: str) -> None:
    assert told(tmp_path, data) == message


def test_a_header_that_claims_billions_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    huge = idx(1 << 31, 28, 28, data=b"")
    assert told(tmp_path, huge) == "expected 2 items, found 2147483648 in the header"
    assert told(tmp_path, huge, items=1 << 31) == (
        "pictures of 28x28 pixels, 2147483648 of them, are not read"
    )


def test_a_packed_file_that_unpacks_to_more_is_not_read_on(tmp_path: Path) -> None:
    bomb = gzip.compress(idx(2, 3, 4, data=bytes(1 << 26)))
    assert told(tmp_path, bomb) == "the header tells of 24 values, and there are more"


def test_a_packed_file_that_is_cut_off_or_damaged_is_told(tmp_path: Path) -> None:
    packed = gzip.compress(idx(2, 3, 4, data=np.random.default_rng(0).bytes(24)))
    assert told(tmp_path, packed[:-10]).startswith("can't be unpacked: ")
    assert told(tmp_path, packed[:-8] + bytes(8)).startswith("can't be unpacked: CRC check failed")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can't be read: No such file or directory"):
        read_idx(tmp_path / "none", 1, 1)
