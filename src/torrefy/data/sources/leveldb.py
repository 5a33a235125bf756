"""LevelDB databases, read without the LevelDB library.

The library locks a database and rewrites its files when it only reads: it can't serve several
processes, or a read-only disk. What is read here is what it keeps: tables and logs, by the
manifest. Checksums are not checked.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

from torrefy.data.pictures import STORED
from torrefy.data.sources.datum import DatumSource
from torrefy.data.sources.snappy import uncompress, varint
from torrefy.errors import DataError, Place, nearest_file

_MAGIC = 0xDB4775248B80FB57
_FOOTER, _TRAILER = 48, 5
_BLOCK, _HEAD = 1 << 15, 7
"""Logs are written in blocks, in which each piece has a head: checksum, length, kind."""
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_VALUE = 1


class _Place(NamedTuple):
    """Where a value lies."""

    sequence: int
    kind: int
    file: str
    block: int
    """The offset of its block in a table; the number of its batch in a log."""
    size: int
    """Of the block, before it is uncompressed; -1 in a log."""
    start: int
    length: int


class LevelDBSource(DatumSource):
    """A LevelDB of Datum messages.

    All of it is read once when it is opened, and a compressed one is uncompressed by Python: for
    more than some thousand pictures, turn it into an LMDB.
    """

    def __init__(self, path: Path | str, colour: str = STORED) -> None:
        """Open a database and find its records.

        Args:
            path: the folder.
            colour: as `DatumSource`.

        Raises:
            DataError: no such folder, no LevelDB, cut off, damaged, or empty.
        """
        self.path = str(path)
        self.colour = colour
        self._opened: tuple[int, dict[str, FileIO]] = (0, {})
        self._batches: dict[tuple[str, int], list[tuple[int, int, int]]] = {}
        """Of each batch of a log its pieces: their start in it, their place and their length."""
        self._block: tuple[str, int, bytes] = ("", 0, b"")
        found: dict[bytes, _Place] = {}
        for key, place in self._all():
            if key not in found or found[key].sequence <= place.sequence:
                found[key] = place
        self._keys = sorted(key for key, place in found.items() if place.kind == _VALUE)
        self._places = [found[key] for key in self._keys]
        if not self._keys:
            raise self._refusal("the database is empty")

    def __len__(self) -> int:
        return len(self._keys)

    def name(self, index: int) -> bytes:
        """The key."""
        return self._keys[index]

    def record(self, index: int) -> bytes:
        """The bytes under a key."""
        place = self._places[index]
        if place.size < 0:
            return self._from_log(place)
        if self._block[:2] != (place.file, place.block):
            block = self._table_block(place.file, place.block, place.size)
            self._block = (place.file, place.block, block)
        return self._block[2][place.start : place.start + place.length]

    def close(self) -> None:
        """Close the files."""
        for file in self._opened[1].values():
            file.close()
        self._opened = (0, {})

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": (0, {})}

    # --- What there is ---

    def _all(self) -> Iterator[tuple[bytes, _Place]]:
        tables, first_log = self._manifest()
        for number in sorted(tables):
            yield from self._table(self._named(number, "ldb", "sst"))
        logs = sorted(
            int(path.stem)
            for path in Path(self.path).glob("*.log")
            if path.stem.isdecimal() and int(path.stem) >= first_log
        )
        for number in logs:
            yield from self._log(self._named(number, "log"))

    def _manifest(self) -> tuple[set[int], int]:
        """The numbers of the tables, and of the first log that is not in them yet."""
        folder, place = Path(self.path), Place(self.path)
        if not folder.is_dir():
            if folder.is_file():
                raise self._refusal("this is a file; a LevelDB is a folder")
            raise DataError("no such database", place=place, hint=nearest_file(folder))
        if not (folder / "CURRENT").is_file():
            hint = ""
            if (folder / "data.mdb").exists():
                hint = "It is an LMDB: give data_param { backend: LMDB }."
            raise DataError("this folder is no LevelDB", place=place, hint=hint)
        name = (folder / "CURRENT").read_bytes()[:64].strip().decode("ascii", "replace")
        if not name.startswith("MANIFEST-") or not name[9:].isdecimal():
            raise self._refusal("damaged: CURRENT names no manifest")
        tables: set[int] = set()
        first_log = 0
        for edit, _ in self._records(name):
            try:
                for tag, number in _changes(edit):
                    if tag == _LOG_NUMBER:
                        first_log = number
                    elif tag == _GONE:
                        tables.discard(number)
                    else:
                        tables.add(number)
            except (ValueError, IndexError):
                raise self._damaged(name, 0) from None
        return tables, first_log

    def _named(self, number: int, *suffixes: str) -> str:
        for suffix in suffixes:
            name = f"{number:06d}.{suffix}"
            if Path(self.path, name).is_file():
                return name
        raise self._refusal(f"the file {number:06d}.{suffixes[0]} is missing")

    def _table(self, name: str) -> Iterator[tuple[bytes, _Place]]:
        size = self._size(name)
        if size < _FOOTER:
            raise self._damaged(name, 0)
        footer = self._read(name, size - _FOOTER, _FOOTER)
        if struct.unpack_from("<Q", footer, _FOOTER - 8)[0] != _MAGIC:
            raise self._refusal(f"{name} is cut off or damaged: it has no end")
        last = -1
        try:
            at = varint(footer, varint(footer, 0)[1])[1]  # past what is not read
            index = self._table_block(name, *_pair(footer, at))
            for _, start, length in _entries(index):
                offset, held = _pair(index, start)
                if start + length > len(index) or offset <= last:
                    raise ValueError("not in order")
                last = offset
                block = self._table_block(name, offset, held)
                for key, value, count in _entries(block):
                    (told,) = struct.unpack("<Q", key[-8:])
                    yield (
                        key[:-8],
                        _Place(told >> 8, told & 255, name, offset, held, value, count),
                    )
        except (ValueError, IndexError, struct.error):
            raise self._damaged(name, max(last, 0)) from None

    def _log(self, name: str) -> Iterator[tuple[bytes, _Place]]:
        for number, (batch, pieces) in enumerate(self._records(name)):
            self._batches[name, number] = pieces
            try:
                sequence, count = struct.unpack_from("<QI", batch)
                at = 12
                for i in range(count):
                    kind = batch[at]
                    size, at = varint(batch, at + 1)
                    key = batch[at : at + size]
                    at += size
                    start, length = at, 0
                    if kind == _VALUE:
                        length, start = varint(batch, at)
                        at = start + length
                    if at > len(batch):
                        raise ValueError("cut off")
                    yield key, _Place(sequence + i, kind, name, number, -1, start, length)
            except (ValueError, IndexError, struct.error):
                raise self._damaged(name, 0) from None

    def _records(self, name: str) -> Iterator[tuple[bytes, list[tuple[int, int, int]]]]:
        """The records of a log and where their pieces lie; a last one that is cut off is none."""
        size, at = self._size(name), 0
        parts: list[bytes] = []
        pieces: list[tuple[int, int, int]] = []
        while at + _HEAD <= size:
            left = _BLOCK - at % _BLOCK
            if left < _HEAD:
                at += left
                continue
            _, length, kind = struct.unpack("<IHB", self._read(name, at, _HEAD))
            if not kind and not length:  # space that was reserved
                at += left
                continue
            if not _FULL <= kind <= _LAST or length > left - _HEAD:
                raise self._damaged(name, at)
            if at + _HEAD + length > size:
                return
            if kind in (_FULL, _FIRST):
                parts, pieces = [], []
            start = pieces[-1][0] + pieces[-1][2] if pieces else 0
            pieces.append((start, at + _HEAD, length))
            parts.append(self._read(name, at + _HEAD, length))
            at += _HEAD + length
            if kind in (_FULL, _LAST):
                yield b"".join(parts), pieces
                parts, pieces = [], []

    # --- Bytes ---

    def _table_block(self, name: str, offset: int, size: int) -> bytes:
        raw = self._read(name, offset, size + _TRAILER)
        kind = raw[size]
        if not kind:
            return raw[:size]
        if kind != 1:
            raise self._refusal(f"{name} is compressed in a way that is not read ({kind})")
        return uncompress(raw[:size])

    def _from_log(self, place: _Place) -> bytes:
        pieces = self._batches[place.file, place.block]
        parts: list[bytes] = []
        at, left = place.start, place.length
        i = bisect_right(pieces, at, key=lambda piece: piece[0]) - 1
        while left:
            start, offset, length = pieces[i]
            count = min(left, start + length - at)
            parts.append(self._read(place.file, offset + at - start, count))
            at, left, i = at + count, left - count, i + 1
        return b"".join(parts)

    def _size(self, name: str) -> int:
        try:
            return Path(self.path, name).stat().st_size
        except OSError as error:
            raise self._refusal(f"{name} can't be read: {error.strerror}") from None

    def _read(self, name: str, place: int, size: int) -> bytes:
        if self._opened[0] != os.getpid():
            self._opened = (os.getpid(), {})
        files = self._opened[1]
        try:
            if name not in files:
                files[name] = FileIO(Path(self.path, name))
            if place + size <= os.fstat(files[name].fileno()).st_size:
                files[name].seek(place)
                data = files[name].read(size)
                if len(data) == size:
                    return data
        except OSError as error:
            raise self._refusal(f"{name} can't be read: {error.strerror}") from None
        raise self._damaged(name, place)

    def _refusal(self, message: str) -> DataError:
        return DataError(message, place=Place(self.path))

    def _damaged(self, name: str, at: int) -> DataError:
        return self._refusal(f"{name} is cut off or damaged at byte {at}")


_COMPARATOR, _LOG_NUMBER, _NEXT, _SEQUENCE, _POINTER, _GONE, _NEW, _EARLIER = 1, 2, 3, 4, 5, 6, 7, 9


def _changes(edit: bytes) -> Iterator[tuple[int, int]]:
    """What one record of a manifest changes: its tag, and the number of a table or log.

    Raises:
        ValueError, IndexError: it is cut off or not known.
    """
    at = 0
    while at < len(edit):
        tag, at = varint(edit, at)
        if tag == _COMPARATOR:
            size, at = varint(edit, at)
            if edit[at : at + size] != b"leveldb.BytewiseComparator":
                raise ValueError("another order of keys")
            at += size
        elif tag in (_LOG_NUMBER, _NEXT, _SEQUENCE, _EARLIER):
            number, at = varint(edit, at)
            if tag == _LOG_NUMBER:
                yield tag, number
        elif tag == _POINTER:
            _, at = varint(edit, at)
            size, at = varint(edit, at)
            at += size
        elif tag in (_GONE, _NEW):
            _, at = varint(edit, at)
            number, at = varint(edit, at)
            yield tag, number
            if tag == _NEW:
                _, at = varint(edit, at)
                for _ in range(2):
                    size, at = varint(edit, at)
                    at += size
        else:
            raise ValueError("an unknown change")


def _pair(data: bytes, at: int) -> tuple[int, int]:
    offset, at = varint(data, at)
    return offset, varint(data, at)[0]


def _entries(block: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The keys of a block, and where the value of each begins in it and how long it is.

    Raises:
        ValueError, IndexError, struct.error: it is damaged.
    """
    (count,) = struct.unpack_from("<I", block, len(block) - 4)
    end = len(block) - 4 - 4 * count
    key = b""
    at = 0
    if end < 0:
        raise ValueError("no place for its list")
    while at < end:
        shared, at = varint(block, at)
        rest, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or at + rest + length > end:
            raise ValueError("an entry is cut off")
        key = key[:shared] + block[at : at + rest]
        yield key, at + rest, length
        at += rest + length
