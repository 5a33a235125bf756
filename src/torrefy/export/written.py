"""Writing an ONNX file in little memory: tensor by tensor, where protobuf would copy it twice."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from pathlib import Path
from typing import Any

_DELIMITED = 2
"""Protobuf's wire type of what has a length in front."""


def write_model(model: Any, path: Path) -> None:
    """Write a ModelProto with its weights in the file; the model is used up.

    The file is what `SerializeToString` would give but for the order of fields, which protobuf
    leaves open: the graph comes last in the model, and the weights last in the graph.

    Args:
        model: the ModelProto, of less than 2 GiB.
        path: the file.

    Raises:
        OSError: it can't be written.
    """
    graph = model.graph
    tensors = list(graph.initializer)
    heads = [_head(graph, "initializer", tensor.ByteSize()) for tensor in tensors]
    del graph.initializer[:]
    rest = graph.SerializeToString()
    size = len(rest) + sum(len(h) + t.ByteSize() for h, t in zip(heads, tensors, strict=True))
    graph_head = _head(model, "graph", size)
    model.ClearField("graph")
    with path.open("wb") as file:
        file.write(model.SerializeToString())
        file.write(graph_head)
        file.write(rest)
        for head, tensor in zip(heads, tensors, strict=True):
            file.write(head)
            file.write(tensor.SerializeToString())


def free_memory() -> None:
    """Give back what nothing refers to any more, to the operating system where that can be told.

    Without, an export would hold its weights once more than it needs: benchmarks/export.py.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc's; others have none


def _head(message: Any, field: str, length: int) -> bytes:
    """What stands before a message in a field: the field's tag, and the length."""
    number = message.DESCRIPTOR.fields_by_name[field].number
    return _varint(number << 3 | _DELIMITED) + _varint(length)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
