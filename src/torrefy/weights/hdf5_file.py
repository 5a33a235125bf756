"""HDF5 files, read part by part without the HDF5 library.

The library is no reader for files from strangers: of six runs that changed bytes of small files of
weights at random, five ended within minutes in its segmentation fault and one in its endless loop
(HDF5 2.0.0). Here every offset is checked: whatever the bytes are, all ends, and memory is paid
for by the file. What is read is what Caffe, h5repack, and h5py by default write; the rest is
refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torrefy.errors import Place, WeightsError

MOST_STEPS = 1 << 20
"""Messages, links and chunks that are looked at in one file."""
MOST_AXES = 32
"""The axes a dataset can have; HDF5's own limit."""
SHARED = 2
"""The flag of a message whose content lies elsewhere in the file."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Messages of an object's header.
_LINK_INFO, _LINK, _ATTRIBUTE, _CONTINUATION, _SYMBOLS = 2, 6, 12, 16, 17
_TEXT = 3
"""The class of a type of texts of fixed length."""
_SOFT_ENTRY = 2
_HARD, _SOFT = 0, 1


class Link(NamedTuple):
    """One name in a group and what it leads to."""

    name: bytes
    address: int | None
    """Of the object's header; None for a link that is not a hard one."""
    target: bytes | None = None
    """The path of a soft link; None for a link that leaves the file."""


class Message(NamedTuple):
    """One piece of an object's header, and where its content lies."""

    kind: int
    flags: int
    start: int
    end: int


class HDF5File:
    """The objects of a file, by the addresses of their headers.

    Every method raises a WeightsError where the file is damaged.
    """

    def __init__(self, data: memoryview, path: str) -> None:
        """Read the superblock.

        Raises:
            WeightsError: this is no HDF5 file, or it is cut off.
        """
        self.data = data
        self.path = path
        self.left = MOST_STEPS
        self.unpaid = len(data)
        """Bytes of the file that no copied values are made of yet."""
        self.headers: dict[int, list[Message]] = {}
        if data[: len(_SIGNATURE)] != _SIGNATURE:
            raise self.refusal("this is no HDF5 file")
        head = Cursor(self, len(_SIGNATURE), len(data))
        version = head.number(1)
        head.skip(4 if version < 2 else 0)
        self.offset, self.length = head.number(1), head.number(1)
        if version > 3 or not {self.offset, self.length} <= {2, 4, 8}:
            raise self.error("the superblock is not known", len(_SIGNATURE))
        head.skip((9, 13, 1, 1)[version])
        base, _, end = (head.number(self.offset) for _ in range(3))
        head.skip(2 * self.offset if version < 2 else 0)
        self.root = head.number(self.offset)
        if base:
            raise self.error("the base address is not 0", len(_SIGNATURE))
        if end > len(data):
            raise self.refusal(f"the file is cut off: it has {len(data)} bytes of {end}")

    @property
    def nowhere(self) -> int:
        """The address that means that there is nothing."""
        return (1 << 8 * self.offset) - 1

    def step(self, at: int, count: int = 1) -> None:
        """Count parts of the file that are looked at."""
        self.left -= count
        if self.left < 0:
            raise self.error(f"more than {MOST_STEPS} parts", at)

    def pay(self, size: int, what: str) -> None:
        """Set off copied values against the bytes of the file that they are made of."""
        self.unpaid -= size
        if self.unpaid < 0:
            raise self.refusal(f"{what} is made of the same bytes as others")

    def refusal(self, message: str, hint: str = "") -> WeightsError:
        """An error about the file."""
        return WeightsError(message, place=Place(self.path), hint=hint)

    def error(self, what: str, at: int) -> WeightsError:
        """An error about the bytes at an offset."""
        return self.refusal(f"damaged, or not an HDF5 file: {what} at byte {at}")

    # --- Headers ---

    def messages(self, address: int) -> list[Message]:
        """What the header of an object says, piece by piece."""
        if address not in self.headers:
            new = bytes(self.data[address : address + 4]) == b"OHDR"
            self.headers[address] = list(self._new(address) if new else self._old(address))
        self.step(address, len(self.headers[address]))
        return self.headers[address]

    def cursor(self, message: Message) -> Cursor:
        """The content of a message."""
        return Cursor(self, message.start, message.end)

    def shape(self, content: Cursor) -> tuple[int, ...] | None:
        """The shape that a message tells; None for the one that says that there is none."""
        at = content.at
        version, rank = content.number(1), content.number(1)
        content.skip(1)
        kind = content.number(1)
        content.skip(4 if version == 1 else 0)
        if version not in (1, 2) or rank > MOST_AXES:
            raise self.error("a shape is not known", at)
        if version == 2 and kind == 2:
            return None
        return tuple(content.number(self.length) for _ in range(rank))

    def text(self, address: int, name: str) -> str | None:
        """An attribute that is one text of fixed length; None where there is no such."""
        for message in self.messages(address):
            if message.kind != _ATTRIBUTE or message.flags & SHARED:
                continue
            content = self.cursor(message)
            version, flags = content.number(1), content.number(1)
            sizes = [content.number(2) for _ in range(3)]
            if version not in (1, 2, 3) or (version > 1 and flags):
                continue
            content.skip(1 if version == 3 else 0)
            parts = []
            for size in sizes:
                parts.append(content.part(size))
                content.skip(-size % 8 if version == 1 else 0)
            if parts[0].raw(sizes[0]).rstrip(b"\0") != name.encode():
                continue
            kind = parts[1].number(1) & 15
            parts[1].skip(3)
            size = parts[1].number(4)
            if kind == _TEXT and self.shape(parts[2]) == ():
                return content.raw(size).rstrip(b"\0").decode("utf-8", "replace")
        return None

    def _old(self, address: int) -> Iterator[Message]:
        head = Cursor(self, address, len(self.data))
        if head.number(1) != 1:
            raise self.error("there is no object", address)
        head.skip(7)
        size = head.number(4)
        head.skip(4)
        blocks = [head.part(size)]
        for block in blocks:
            while block.left >= 8:
                kind, size, flags = block.number(2), block.number(2), block.number(1)
                block.skip(3)
                message = self._message(kind, flags, block.part(size))
                if kind == _CONTINUATION:
                    blocks.append(self._continued(message, blocks))
                else:
                    yield message

    def _new(self, address: int) -> Iterator[Message]:
        head = Cursor(self, address + 4, len(self.data))
        if head.number(1) != 2:
            raise self.error("there is no object", address)
        flags = head.number(1)
        head.skip((16 if flags & 32 else 0) + (4 if flags & 16 else 0))
        blocks = [head.part(head.number(1 << (flags & 3)))]
        order = 2 if flags & 4 else 0
        for block in blocks:
            while block.left >= 4 + order:
                kind, size, told = block.number(1), block.number(2), block.number(1)
                block.skip(order)
                message = self._message(kind, told, block.part(size))
                if kind != _CONTINUATION:
                    yield message
                    continue
                more = self._continued(message, blocks)
                if more.raw(4) != b"OCHK":
                    raise self.error("an object does not go on", more.start)
                more.end -= 4  # the checksum
                blocks.append(more)

    def _message(self, kind: int, flags: int, content: Cursor) -> Message:
        self.step(content.at)
        return Message(kind, flags, content.at, content.end)

    def _continued(self, message: Message, before: Sequence[Cursor]) -> Cursor:
        content = self.cursor(message)
        start, size = content.number(self.offset), content.number(self.length)
        if any(block.start == start for block in before):
            raise self.error("an object goes round in circles", start)
        return Cursor(self, start, len(self.data)).part(size)

    # --- Groups ---

    def links(self, address: int) -> list[Link] | None:
        """The links of a group in the file's order; None if the object is no group.

        Raises:
            WeightsError: also where the group is kept as only newer libraries do.
        """
        links: list[Link] = []
        group = False
        for message in self.messages(address):
            content = self.cursor(message)
            if message.kind == _SYMBOLS:
                group = True
                tree, heap = content.number(self.offset), content.number(self.offset)
                links.extend(self._symbols(tree, self._heap(heap)))
            elif message.kind == _LINK_INFO:
                group = True
                content.skip(1)
                content.skip(8 if content.number(1) & 1 else 0)
                if content.number(self.offset) != self.nowhere:
                    raise self.refusal(
                        "its groups are kept in a newer way that is not read",
                        'Write it with h5py\'s libver="earliest" and without track_order.',
                    )
            elif message.kind == _LINK:
                links.append(self._link(content))
        return links if group else None

    def _heap(self, address: int) -> Cursor:
        """The names of a group."""
        head = Cursor(self, address, len(self.data))
        if head.raw(4) != b"HEAP":
            raise self.error("a group has no names", address)
        head.skip(4)
        size = head.number(self.length)
        head.skip(self.length)
        return Cursor(self, head.number(self.offset), len(self.data)).part(size)

    def _symbols(self, tree: int, heap: Cursor) -> Iterator[Link]:
        """The links of a group, from the leaves of its tree."""
        for _, address in self.leaves(tree, 0, self.length):
            node = Cursor(self, address, len(self.data))
            if node.raw(4) != b"SNOD":
                raise self.error("a group has no links", address)
            node.skip(2)
            for _ in range(node.number(2)):
                self.step(node.at)
                name = heap.text(node.number(self.offset))
                header = node.number(self.offset)
                kind = node.number(4)
                node.skip(4)
                scratch = node.part(16)
                if kind == _SOFT_ENTRY:
                    yield Link(name, None, heap.text(scratch.number(4)))
                else:
                    yield Link(name, header)

    def _link(self, content: Cursor) -> Link:
        at = content.at
        if content.number(1) != 1:
            raise self.error("a link is not known", at)
        flags = content.number(1)
        kind = content.number(1) if flags & 8 else _HARD
        content.skip((8 if flags & 4 else 0) + (1 if flags & 16 else 0))
        name = content.raw(content.number(1 << (flags & 3)))
        if kind == _HARD:
            return Link(name, content.number(self.offset))
        return Link(name, None, content.raw(content.number(2)) if kind == _SOFT else None)

    def leaves(self, tree: int, kind: int, key: int) -> Iterator[tuple[int, int]]:
        """Where the key of each leaf of a tree lies, and the leaf's address, in order.

        Args:
            tree: the address of its root.
            kind: 0 for a group's, 1 for a dataset's.
            key: bytes of a key.
        """
        waiting: list[tuple[int, int | None]] = [(tree, None)]
        seen = set()
        while waiting:
            address, above = waiting.pop()
            node = Cursor(self, address, len(self.data))
            if address in seen or node.raw(4) != b"TREE" or node.number(1) != kind:
                raise self.error("a tree is broken", address)
            seen.add(address)
            level, count = node.number(1), node.number(2)
            if above is not None and level >= above:
                raise self.error("a tree is broken", address)
            node.skip(2 * self.offset)
            below = []
            for _ in range(count):
                self.step(node.at)
                at = node.at
                node.skip(key)
                below.append((at, node.number(self.offset)))
            if level:
                waiting.extend((child, level) for _, child in reversed(below))
            else:
                yield from below


class Cursor:
    """A place in a piece of the file, from which one thing is read after the other."""

    def __init__(self, file: HDF5File, start: int, end: int) -> None:
        """Take a piece between two offsets; the end is one that the file is known to have."""
        self.file = file
        self.start = self.at = start
        self.end = end

    @property
    def left(self) -> int:
        """How many bytes are left of the piece."""
        return self.end - self.at

    def skip(self, size: int) -> None:
        """Pass over bytes.

        Raises:
            WeightsError: the piece is shorter, as in all of these methods.
        """
        if size > self.left:
            raise self.file.error(f"{size} bytes more are expected than there are", self.at)
        self.at += size

    def raw(self, size: int) -> bytes:
        """The next bytes."""
        self.skip(size)
        return bytes(self.file.data[self.at - size : self.at])

    def number(self, size: int) -> int:
        """The next unsigned integer."""
        return int.from_bytes(self.raw(size), "little")

    def part(self, size: int) -> Cursor:
        """The next bytes as a piece of their own."""
        self.skip(size)
        return Cursor(self.file, self.at - size, self.at)

    def text(self, offset: int) -> bytes:
        """The bytes from an offset in the piece to the next zero."""
        start = self.start + offset
        for most in (1 << 8, 1 << 16):
            piece = bytes(self.file.data[start : min(self.end, start + most)])
            if b"\0" in piece:
                return piece[: piece.index(b"\0")]
        raise self.file.error("a name does not end", start)
