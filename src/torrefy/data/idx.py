"""MNIST's idx files: arrays of bytes with a short header."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from torrefy.errors import DataError, Place

BYTES = 8
"""The type of unsigned bytes, the only one that is read."""
MOST_SIDE = 4096
"""Pixels of a side, at most."""
MOST_BYTES = 1 << 30
"""An array is read into memory whole; a longer one is refused."""

_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20


def read_idx(path: Path | str, items: int, axes: int) -> NDArray[np.uint8]:
    """An idx file's array, plain or packed by gzip.

    The form: two zero bytes, the type, the number of axes, each axis' length as a big-endian
    32-bit number, the values (Y. LeCun, the MNIST database).

    Args:
        path: the file.
        items: how many the first axis must have.
        axes: how many axes there must be: 3 for pictures, 1 for labels.

    Returns:
        Bytes, items×height×width or items.

    Raises:
        DataError: the file can't be read, is no idx file of bytes, has other axes, or more or
            fewer values than its header says. No more is read than that.

    Example:
        pictures = read_idx("t10k-images-idx3-ubyte.gz", 10000, 3)
    """
    place = Place(str(path))
    try:
        with Path(path).open("rb") as file:
            packed = file.read(2) == _GZIP
            file.seek(0)
            if not packed:
                return _read(file, items, axes, place)
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read(unpacked, items, axes, place)  # type: ignore[arg-type]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"can't be unpacked: {error}", place=place) from None
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror or error}", place=place) from None


def _read(file: BinaryIO, items: int, axes: int, place: Place) -> NDArray[np.uint8]:
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0":
        raise DataError("this is no idx file", place=place)
    if head[2] != BYTES:
        raise DataError(f"an idx file of bytes is read, found type 0x{head[2]:02x}", place=place)
    if head[3] != axes:
        raise DataError(f"expected {_axes(axes)}, found {head[3]}", place=place)
    lengths = file.read(4 * axes)
    if len(lengths) < 4 * axes:
        raise DataError("the file ends within its header", place=place)
    count, *sides = np.frombuffer(lengths, ">u4").tolist()
    if count != items:
        raise DataError(f"expected {items} items, found {count} in the header", place=place)
    size = count
    for side in sides:
        size *= side
    if any(not 0 < side <= MOST_SIDE for side in sides) or size > MOST_BYTES:
        told = "x".join(map(str, sides))
        raise DataError(f"pictures of {told} pixels, {count} of them, are not read", place=place)
    data = bytearray()
    while len(data) <= size and (chunk := file.read(_CHUNK)):
        data += chunk
    if len(data) != size:
        found = "more" if len(data) > size else str(len(data))
        raise DataError(f"the header tells of {size} values, and there are {found}", place=place)
    return np.frombuffer(data, np.uint8).reshape(count, *sides)


def _axes(count: int) -> str:
    return f"{count} axes" if count > 1 else "1 axis"
