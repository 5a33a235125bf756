"""A text that someone wrote, and where in it each part of a message stands."""

from __future__ import annotations

import bisect
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torrefy.errors import DefinitionError, Place, names_in, nearest_file

MOST_BYTES = 64 << 20
"""The longest definition that is read; the longest net in the wild is under 1 MiB."""

SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG", "a PNG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program"),
    (b"<!doctype", "a web page (a download that failed?)"),
    (b"<html", "a web page (a download that failed?)"),
    (b"version https://git-lfs", "a git-lfs pointer (run `git lfs pull`)"),
)


class Mark:
    """The offset in the text of a message or value, and the marks of what is inside it."""

    __slots__ = ("fields", "offset")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.fields: dict[str, list[Mark]] = {}


@dataclass(frozen=True)
class Source:
    """A named text; offsets in it become lines and columns only when an error needs them."""

    file: str
    text: str

    @functools.cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        starts.extend(i + 1 for i, c in enumerate(self.text) if c == "\n")
        return starts

    def place(self, offset: int) -> Place:
        """File, line and column of an offset."""
        line = bisect.bisect_right(self._starts, offset)
        return Place(self.file, line, offset - self._starts[line - 1] + 1)


@dataclass(frozen=True)
class Definition:
    """A message read from a text, with the place of each of its parts.

    `message` is the protobuf message. A definition made in code, or read from binary, has no
    `root` mark, and its places are the file's name alone.
    """

    message: Any
    source: Source
    root: Mark | None = None
    notes: tuple[str, ...] = ()
    """What a reader or an upgrade did that the user may want to know."""
    dialect: str = ""
    """The plugin whose words it is in, where plugins differ; empty: none was named."""
    shapeless: tuple[str, ...] = ()
    """Legacy inputs that an upgrade dropped, as Caffe does, since they have no shape."""

    def place(self, *path: str | int) -> Place:
        """Where a part stands: `place("layer", 3, "bottom", 1)`; the nearest part that is known.

        A text in the path may be dotted ("convolution_param.kernel_size.1").
        """
        if self.root is None:
            return Place(self.source.file)
        return self.source.place(self.offset(*path))

    def offset(self, *path: str | int) -> int:
        """Where in the text a part begins: a value at its value, a message at its name."""
        mark = self.root or Mark(0)
        names: list[str | int] = []
        for step in path:
            parts = step.split(".") if isinstance(step, str) else [step]
            names.extend(int(part) if str(part).isdecimal() else part for part in parts)
        inside: list[Mark] | None = None
        for step in names:
            if isinstance(step, int):
                if inside is None or step >= len(inside):
                    break
                mark = inside[step]
                inside = None
            else:
                if step not in mark.fields:
                    break
                inside = mark.fields[step]
                mark = inside[0]
        return mark.offset


def read_source(path: Path | str) -> Source:
    """Read a text file, refusing at once what can't be a definition.

    Raises:
        DefinitionError: no such file, a directory, too long, empty, binary, or not UTF-8.
    """
    path = Path(path)
    place = Place(str(path))
    try:
        with path.open("rb") as file:
            data = file.read(4096)
            kind = kind_of(data)
            if kind:
                raise DefinitionError(f"this is {kind}, not a prototxt", place=place)
            data += file.read(MOST_BYTES + 1 - len(data))
    except FileNotFoundError:
        raise DefinitionError("no such file", place=place, hint=nearest_file(path)) from None
    except IsADirectoryError:
        hint = ""
        texts = [name for name in names_in(path) if name.endswith(".prototxt")]
        if texts:
            hint = f"It holds {', '.join(texts[:5])}."
        raise DefinitionError(
            "this is a directory, not a prototxt", place=place, hint=hint
        ) from None
    except OSError as error:
        raise DefinitionError(f"can't be read: {error.strerror}", place=place) from None
    if len(data) > MOST_BYTES:
        raise DefinitionError(
            f"more than {MOST_BYTES >> 20} MiB: too long for a prototxt", place=place
        )
    if not data.strip():
        raise DefinitionError("the file is empty", place=place)
    return decode(data, str(path))


def decode(data: bytes, file: str) -> Source:
    """Bytes to a Source: UTF-8 with or without a byte order mark."""
    if b"\0" in data:
        raise DefinitionError(
            "this is a binary file, not a prototxt",
            place=Place(file),
            hint="A caffemodel goes where weights are asked for.",
        )
    try:
        return Source(file, data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise DefinitionError(
            f"byte 0x{data[error.start]:02x} is not UTF-8 text",
            place=Place(file, line, column),
            hint="Save the file as UTF-8.",
        ) from None


def kind_of(head: bytes) -> str:
    """What a file is by its first bytes, where that is surely no text: "a JPEG picture"."""
    for signature, kind in SIGNATURES:
        if head.startswith(signature) or head.lstrip(b" \r\n\t").lower().startswith(signature):
            return kind
    if head and not head.strip(b"\0"):
        return "a file of zero bytes"
    if b"\0" in head:
        # A NetParameter starts with its name (field 1) or a layer (field 2 or 100).
        if head[:1] in (b"\x0a", b"\x12") or head[:2] == b"\xa2\x06":
            return "a binary caffemodel"
        return "a binary file"
    return ""
