"""The numbers of an HDF5 dataset, once it is sure that the file holds all of them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from torrefy.errors import WeightsError
from torrefy.weights.hdf5_file import SHARED, Cursor, HDF5File, Message

MOST_EXPANDED = 1032
"""How many times its size deflate can expand."""

# Messages of a dataset's header.
_SPACE, _TYPE, _EXTERNAL, _LAYOUT, _FILTERS = 1, 3, 7, 8, 11
_COMPACT, _CONTIGUOUS, _CHUNKED, _VIRTUAL = range(4)
_INTEGER, _FLOAT = 0, 1
_CLASSES = {
    2: "times", 3: "texts", 4: "bit fields", 5: "opaque bytes", 6: "compounds", 7: "references",
    8: "enumerated values", 9: "lists", 10: "arrays", 11: "complex numbers",
}  # fmt: skip
_IEEE = {
    # size: sign, (bit offset, precision, exponent at, its size, mantissa at, its size, bias)
    2: (15, (0, 16, 10, 5, 0, 10, 15)),
    4: (31, (0, 32, 23, 8, 0, 23, 127)),
    8: (63, (0, 64, 52, 11, 0, 52, 1023)),
}
_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3


def read_dataset(file: HDF5File, address: int, what: str) -> NDArray[Any]:
    """A dataset's numbers, read-only: a view of the file's bytes, or a copy if it is in chunks.

    Floats stay as they are, integers become float32. Checksums are not checked.

    Args:
        file: the file.
        address: of the dataset's header.
        what: what it is, for messages: "blob 0".

    Raises:
        WeightsError: it is no dataset, holds no numbers or not all of them, keeps them in another
            file, or needs a filter that is not built into HDF5.
    """
    return _Dataset(file, address, what).values()


def dataset_shape(file: HDF5File, address: int, what: str) -> tuple[int, ...]:
    """A dataset's shape, as its header tells it; arguments and errors as `read_dataset`."""
    return _Dataset(file, address, what).shape


def read_integer(file: HDF5File, address: int, what: str) -> int:
    """The one integer that a dataset holds, exactly.

    Raises:
        WeightsError: as `read_dataset`; or it holds something else.
    """
    dataset = _Dataset(file, address, what)
    if dataset.dtype.kind not in "iu" or math.prod(dataset.shape) != 1:
        raise file.refusal(f"{what} is not one integer")
    values = dataset.assembled() if dataset.kept == _CHUNKED else dataset.whole()
    return int(values.reshape(-1)[0])


class _Filter(NamedTuple):
    code: int
    name: str


class _Dataset:
    """One dataset, from its header to its values."""

    def __init__(self, file: HDF5File, address: int, what: str) -> None:
        self.file = file
        self.what = what
        found: dict[int, Message] = {}
        for message in file.messages(address):
            found.setdefault(message.kind, message)
        if not {_SPACE, _TYPE, _LAYOUT} <= found.keys():
            raise file.refusal(f"{what} is no dataset")
        if any(found[kind].flags & SHARED for kind in (_SPACE, _TYPE, _LAYOUT)):
            raise file.refusal(f"{what} has a named type, which is not read")
        self.layout = file.cursor(found[_LAYOUT])
        version, self.kept = self.layout.number(1), self.layout.number(1)
        if self.kept == _VIRTUAL or _EXTERNAL in found:
            raise file.refusal(f"the values of {what} are kept in another file")
        newest = 3 if self.kept == _CHUNKED else 4
        if not 3 <= version <= newest or self.kept > _CHUNKED:
            raise file.refusal(
                f"{what} is kept in a way that is not read (layout {version})",
                'Write it with h5py\'s libver="earliest", or repack it: h5repack -l CONTI.',
            )
        shape = file.shape(file.cursor(found[_SPACE]))
        if shape is None:
            raise file.refusal(f"{what} is empty: it has no shape")
        self.shape = shape
        self.dtype = _dtype(file, file.cursor(found[_TYPE]), what)
        self.size = math.prod(shape) * self.dtype.itemsize
        self.filters = _filters(file.cursor(found[_FILTERS])) if _FILTERS in found else []

    def values(self) -> NDArray[Any]:
        """All of its numbers as `read_dataset` gives them."""
        if not self.size:
            if math.prod(dim for dim in self.shape if dim) > 1 << 56:
                raise self.file.refusal(f"{self.what} is {_text(self.shape)}: too large")
            values = np.empty(self.shape, self.dtype)
        else:
            values = self.assembled() if self.kept == _CHUNKED else self.whole()
        if self.dtype.kind != "f":
            self.file.pay(self.size, self.what)
            values = values.astype("f4")
        values.setflags(write=False)
        return values

    def whole(self) -> NDArray[Any]:
        """Values in one piece, where they lie in the file's bytes."""
        file, layout = self.file, self.layout
        if self.kept == _COMPACT:
            held = layout.number(2)
            start, end = layout.at, layout.end
        else:
            start, held = layout.number(file.offset), layout.number(file.length)
            end = len(file.data)
            if start == file.nowhere:
                held = 0
        if held < self.size:
            raise self.missing(held)
        if start + self.size > end:
            raise file.error(
                f"{self.what} would reach to byte {start + self.size} and begins", start
            )
        return np.ndarray(self.shape, self.dtype, buffer=file.data, offset=start)

    def assembled(self) -> NDArray[Any]:
        """Values in chunks, each of them perhaps compressed, put together."""
        for code, name in self.filters:
            if code not in (_DEFLATE, _SHUFFLE, _FLETCHER32):
                raise self.file.refusal(
                    f"{self.what} needs the HDF5 filter {code}{f' ({name})' if name else ''}, "
                    "which is not built in",
                    "Repack it: h5repack -f NONE old.h5 new.h5.",
                )
        chunk, pieces = self.chunks()
        size = math.prod(chunk) * self.dtype.itemsize
        values = np.empty(self.shape, self.dtype)
        for corner, (start, stored, skipped) in pieces.items():
            raw = Cursor(self.file, start, len(self.file.data)).raw(stored)
            for i, (code, _) in reversed(list(enumerate(self.filters))):
                if not skipped >> i & 1:
                    raw = self.undo(code, raw, size, start)
            if len(raw) != size:
                raise self.file.error(
                    f"a chunk of {self.what} has {len(raw)} bytes, not {size},", start
                )
            ends = [min(c + n, d) for c, n, d in zip(corner, chunk, self.shape, strict=True)]
            place = tuple(slice(c, end) for c, end in zip(corner, ends, strict=True))
            inside = tuple(slice(0, end - c) for c, end in zip(corner, ends, strict=True))
            values[place] = np.frombuffer(raw, self.dtype).reshape(chunk)[inside]
        return values

    def chunks(self) -> tuple[tuple[int, ...], dict[tuple[int, ...], tuple[int, int, int]]]:
        """The shape of a chunk, and where each is.

        By the first place of each: its address, its size in the file, and a bit for each filter
        that it went without.
        """
        file, layout = self.file, self.layout
        rank = layout.number(1) - 1
        tree = layout.number(file.offset)
        chunk = tuple(layout.number(4) for _ in range(max(rank, 0)))
        if rank != len(self.shape) or not all(chunk) or layout.number(4) != self.dtype.itemsize:
            raise file.error(f"{self.what} does not agree with its chunks", layout.at)
        pieces: dict[tuple[int, ...], tuple[int, int, int]] = {}
        if tree != file.nowhere:
            for at, start in file.leaves(tree, 1, 8 + 8 * (rank + 1)):
                key = Cursor(file, at, len(file.data))
                stored, skipped = key.number(4), key.number(4)
                pieces[tuple(key.number(8) for _ in range(rank))] = start, stored, skipped
        held = sum(stored for _, stored, _ in pieces.values())
        steps = list(zip(self.shape, chunk, strict=True))
        complete = len(pieces) == math.prod(-(-dim // step) for dim, step in steps) and all(
            c < dim and not c % step
            for corner in pieces
            for c, (dim, step) in zip(corner, steps, strict=True)
        )
        most = MOST_EXPANDED if any(f.code == _DEFLATE for f in self.filters) else 1
        if not complete or len(pieces) * math.prod(chunk) * self.dtype.itemsize > most * held:
            raise self.missing(held)
        file.pay(held, self.what)
        return chunk, pieces

    def undo(self, code: int, raw: bytes, size: int, at: int) -> bytes:
        """A chunk as it was before a filter."""
        if code == _FLETCHER32:
            return raw[:-4]
        if code == _SHUFFLE:
            if len(raw) % self.dtype.itemsize:
                raise self.file.error(f"a chunk of {self.what} is cut off", at)
            return np.frombuffer(raw, np.uint8).reshape(self.dtype.itemsize, -1).T.tobytes()
        try:
            return zlib.decompressobj().decompress(raw, size + 4)  # 4: a checksum
        except zlib.error as error:
            raise self.file.error(f"a chunk of {self.what} is damaged ({error})", at) from None

    def missing(self, held: int) -> WeightsError:
        return self.file.refusal(
            f"{self.what} is {_text(self.shape)} ({self.size} bytes), but the file holds {held} "
            "bytes of it"
        )


def _dtype(file: HDF5File, content: Cursor, what: str) -> np.dtype[Any]:
    kind = content.number(1) & 15
    flags, sign = content.number(1), content.number(1)
    content.skip(1)
    size = content.number(4)
    order = ">" if flags & 1 else "<"
    if kind == _FLOAT:
        layout = tuple(content.number(width) for width in (2, 2, 1, 1, 1, 1, 4))
        if not flags & 64 and _IEEE.get(size) == (sign, layout):
            return np.dtype(f"{order}f{size}")
        raise file.refusal(
            f"{what} is of an odd kind of float of {8 * size} bits; weights are float16, float32 "
            "or float64"
        )
    if kind == _INTEGER:
        if size in (1, 2, 4, 8) and (content.number(2), content.number(2)) == (0, 8 * size):
            return np.dtype(f"{order}{'i' if flags & 8 else 'u'}{size}")
        raise file.refusal(f"{what} is of an odd kind of integer of {8 * size} bits")
    raise file.refusal(f"{what} holds {_CLASSES.get(kind, 'something else')}, not numbers")


def _filters(content: Cursor) -> list[_Filter]:
    """What was done to each chunk, in this order, when it was written."""
    version, count = content.number(1), content.number(1)
    content.skip(6 if version == 1 else 0)
    filters = []
    for _ in range(count):
        code = content.number(2)
        size = content.number(2) if version == 1 or code >= 256 else 0
        content.skip(2)
        numbers = content.number(2)
        name = content.raw(size).rstrip(b"\0").decode("utf-8", "replace")
        content.skip(4 * (numbers + (numbers & 1 if version == 1 else 0)))
        filters.append(_Filter(code, name))
    return filters


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"
