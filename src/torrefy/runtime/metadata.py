"""What an ONNX file says of itself, read without its weights."""

from __future__ import annotations

import mmap
from pathlib import Path

from torrefy.errors import Place, TorrefyError
from torrefy.weights.wire import BYTES, Wire

PROPERTIES = 14
"""The field of ONNX's ModelProto that has the metadata: entries of a key, 1, and a value, 2."""


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of an ONNX file: texts by name.

    Only the pages that say where its fields are get read, however large the file is.

    Raises:
        TorrefyError: it can't be read, or is no protobuf message.
    """
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            memoryview(data) as view,
        ):
            return _properties(Wire(view, str(path), "ONNX file"))
    except (OSError, ValueError) as error:  # ValueError: an empty file
        reason = getattr(error, "strerror", None) or error
        raise TorrefyError(f"can't be read: {reason}", place=Place(str(path))) from None


def _properties(wire: Wire) -> dict[str, str]:
    found: dict[str, str] = {}
    for field in wire.fields():
        if field.number != PROPERTIES or field.kind != BYTES:
            continue
        entry = {
            one.number: wire.text(one)
            for one in wire.fields(field.start, field.end)
            if one.kind == BYTES
        }
        found[entry.get(1, "")] = entry.get(2, "")
    return found
