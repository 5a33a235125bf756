"""LMDB databases, read page by page without the LMDB library.

The library is no reader for files from strangers: of sixty small databases with twenty bytes
changed at random, five killed the process (LMDB 0.9.36). It also opens a database once in a
process, while a training and a testing net may well read the same. Here every offset is checked.
"""

from __future__ import annotations

import os
import struct
from array import array
from io import FileIO
from pathlib import Path
from typing import Any

from torrefy.data.pictures import STORED
from torrefy.data.sources.datum import DatumSource
from torrefy.errors import DataError, Place, nearest_file

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEAD = struct.Struct("<QHHHH")
"""A page: number, padding, flags, end of the pointers, start of the nodes."""
_META = struct.Struct("<IIQQ")
"""Magic, version, address, size of the map; then two databases, the free pages and the main one."""
_DATABASE = struct.Struct("<IHHQQQQQ")
"""Padding, flags, depth, pages of three kinds, entries, root. The first's padding is the page size.
"""
_NODE = struct.Struct("<HHHH")
"""Low and high half of a size, flags, size of the key; in branches a page number in three parts."""
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4
_BIG, _SUB, _DUPLICATES = 1, 2, 4
_NOWHERE = (1 << 64) - 1
_SIZES = tuple(1 << power for power in range(8, 17))


class LMDBSource(DatumSource):
    """An LMDB of Datum messages, a folder that holds data.mdb or that file itself.

    Where each record lies is read when it is opened, in about 2 s and 24 MB for a million.
    Nothing is locked or written: databases may lie on read-only disks, and others may read them.
    """

    def __init__(self, path: Path | str, colour: str = STORED) -> None:
        """Open a database and find its records.

        Args:
            path: the folder or file.
            colour: as `DatumSource`.

        Raises:
            DataError: no such file, not an LMDB, cut off, damaged, or empty.
        """
        self.path = str(path)
        self.colour = colour
        self.file = str(_data_file(Path(path)))
        self._opened: tuple[int, FileIO] | None = None
        self._held = 0
        self._page_size = 0
        # Of each record where its key lies and how long it is, and the same of its value; a big
        # value's place is that of its overflow page, with the highest bit set.
        self._keys, self._values = array("Q"), array("Q")
        self._key_sizes, self._value_sizes = array("H"), array("I")
        self._find()
        if not self._keys:
            raise self._refusal("the database is empty")

    def __len__(self) -> int:
        return len(self._keys)

    def name(self, index: int) -> bytes:
        """The key."""
        return self._read(self._keys[index], self._key_sizes[index])

    def record(self, index: int) -> bytes:
        """The bytes under a key."""
        place, size = self._values[index], self._value_sizes[index]
        if place >> 63:
            place &= (1 << 63) - 1
            if not _HEAD.unpack(self._read(place, _HEAD.size))[2] & _OVERFLOW:
                raise self._damaged("a value is not where it should be", place)
            place += _HEAD.size
        return self._read(place, size)

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def _find(self) -> None:
        """Walk the tree and note where the records lie."""
        depth, entries, root = self._meta()
        if root == _NOWHERE:
            return
        waiting = [(root, 1)]
        seen = set()
        while waiting:
            number, level = waiting.pop()
            at = number * self._page_size
            if number in seen or number < 2 or level > depth:
                raise self._damaged("the tree is broken", at)
            seen.add(number)
            page = self._read(at, self._page_size)
            told, _, flags, lower, upper = _HEAD.unpack_from(page)
            if told != number or not _HEAD.size <= lower <= upper <= len(page) or lower & 1:
                raise self._damaged("a page is broken", at)
            nodes = struct.unpack_from(f"<{(lower - _HEAD.size) // 2}H", page, _HEAD.size)
            if nodes and not upper <= min(nodes) <= max(nodes) <= len(page) - _NODE.size:
                raise self._damaged("a page is broken", at)
            if flags & _BRANCH:
                below = []
                for node in nodes:
                    low, high, top, _ = _NODE.unpack_from(page, node)
                    below.append((low | high << 16 | top << 32, level + 1))
                waiting.extend(reversed(below))
            elif flags & _LEAF and level == depth:
                self._leaf(page, at, nodes)
            else:
                raise self._damaged("the tree is broken", at)
        if len(self._keys) != entries:
            raise self._refusal(f"damaged: it tells of {entries} records and has {len(self._keys)}")

    def _leaf(self, page: bytes, at: int, nodes: tuple[int, ...]) -> None:
        for node in nodes:
            low, high, flags, key = _NODE.unpack_from(page, node)
            size, start = low | high << 16, node + _NODE.size
            if flags & (_SUB | _DUPLICATES):
                raise self._refusal("its values are databases or lists; Caffe's are records")
            if start + key + (8 if flags & _BIG else size) > len(page):
                raise self._damaged("a record is cut off", at + node)
            place = at + start + key
            if flags & _BIG:
                (number,) = struct.unpack_from("<Q", page, start + key)
                place = number * self._page_size
                if place + _HEAD.size + size > self._held:
                    raise self._damaged("a value is not in the file", at + node)
                place |= 1 << 63
            self._keys.append(at + start)
            self._key_sizes.append(key)
            self._values.append(place)
            self._value_sizes.append(size)

    def _meta(self) -> tuple[int, int, int]:
        """Depth of the tree, number of records and root, by the newer of two pages that tell."""
        self._held = Path(self.file).stat().st_size
        newest = (-1, 0, 0, 0)
        last = 0
        head = self._read(0, min(self._held, 256))
        self._page_size = self._sized(head)
        for at in (0, self._page_size):
            page = head if not at else self._read(at, 256)
            if _META.unpack_from(page, _HEAD.size)[:2] != (_MAGIC, _VERSION):
                raise self._refusal("damaged: one of its first two pages is broken")
            start = _HEAD.size + _META.size + _DATABASE.size
            _, flags, depth, _, _, _, entries, root = _DATABASE.unpack_from(page, start)
            pages, transaction = struct.unpack_from("<QQ", page, start + _DATABASE.size)
            if transaction > newest[0]:
                newest, last = (transaction, depth, entries, root), pages
                if flags & _DUPLICATES:
                    raise self._refusal("its keys have several values; Caffe's have one")
        if (last + 1) * self._page_size > self._held:
            raise self._refusal(
                f"the database is cut off: it has {self._held} bytes of "
                f"{(last + 1) * self._page_size}"
            )
        return newest[1:]

    def _sized(self, head: bytes) -> int:
        """The size of its pages, from the first one."""
        if not head:
            raise self._refusal("the file is empty")
        if len(head) < 256:
            raise self._refusal(f"the database is cut off: it has {len(head)} bytes")
        magic, version, _, _ = _META.unpack_from(head, _HEAD.size)
        if magic != _MAGIC:
            raise self._refusal("this is no LMDB, or one of a machine of another kind")
        if version != _VERSION:
            raise self._refusal(f"an LMDB of the format {version}; 1 is read")
        size: int = _DATABASE.unpack_from(head, _HEAD.size + _META.size)[0]
        if size not in _SIZES:
            raise self._refusal(f"damaged: pages of {size} bytes")
        return size

    def _read(self, place: int, size: int) -> bytes:
        """Bytes of the file; every process has its own handle, so that each has its own place."""
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                self._opened = (os.getpid(), FileIO(self.file))
            except OSError as error:
                raise self._refusal(f"can't be read: {error.strerror}") from None
        file = self._opened[1]
        try:
            if place + size <= self._held:
                file.seek(place)
                data = file.read(size)
                if len(data) == size:
                    return data
        except OSError as error:
            raise self._refusal(f"can't be read: {error.strerror}") from None
        raise self._damaged(f"{size} bytes more are expected than there are", place)

    def _refusal(self, message: str) -> DataError:
        return DataError(message, place=Place(self.path))

    def _damaged(self, what: str, at: int) -> DataError:
        return self._refusal(f"damaged: {what} at byte {at}")


def _data_file(path: Path) -> Path:
    """The file of a database that a definition names."""
    place = Place(str(path))
    if not path.exists():
        raise DataError("no such database", place=place, hint=nearest_file(path))
    file = path / "data.mdb" if path.is_dir() else path
    if not file.is_file():
        hint = ""
        if (path / "CURRENT").exists():
            hint = "It is a LevelDB: give data_param { backend: LEVELDB }."
        raise DataError("there is no data.mdb in this folder", place=place, hint=hint)
    return file
