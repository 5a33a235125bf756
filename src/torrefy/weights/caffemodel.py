"""The .caffemodel format: Caffe's binary NetParameter of any age."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from torrefy.errors import Place, WeightsError
from torrefy.net.stored import StoredLayer, StoredNet, WeightFormat
from torrefy.schema import new_message
from torrefy.schema.v0 import V0_TYPES
from torrefy.schema.v1 import v1_type
from torrefy.weights.files import HEAD, read_whole, replacing
from torrefy.weights.wire import BYTES, VARINT, WIDTHS, Field, Wire, signed

MOST_AXES = 32
"""The axes a blob can have; Caffe's own limit."""


class _Numbers(NamedTuple):
    """The field numbers of a layer message's parts; `inner` is a V0 layer within a V1 layer."""

    name: int
    type: int
    blobs: int
    inner: int = 0


_V2 = _Numbers(name=1, type=2, blobs=7)
_V1 = _Numbers(name=4, type=5, blobs=6, inner=1)
_V0 = _Numbers(name=1, type=2, blobs=50)

# The parts of a NetParameter and of a BlobProto that the reader uses.
_NET_NAME, _NET_LAYERS, _NET_LAYER = 1, 2, 100
_LEGACY_SHAPE, _DATA, _SHAPE, _DOUBLE_DATA = range(1, 5), 5, 7, 8
_NET_KNOWN = {*range(1, 9), _NET_LAYER}
# NVIDIA's Caffe and OpenCV (`shrinkCaffeModel`) keep values as bytes of a declared type.
_RAW_TYPE, _RAW_DATA = 10, 12
_BLOB_KNOWN = set(range(1, 14))
_RAW_DTYPES = {0: "<f8", 1: "<f4", 2: "<f2"}


def read_caffemodel(path: Path) -> StoredNet:
    """Read a .caffemodel: V2 `layer`, V1 `layers`, or V0 layers within these.

    Only names, types and blobs are decoded. Everything else is passed over by its wire type, so
    that the fields of unknown forks are in nobody's way. A blob is a view of the file's bytes
    where its values are packed, a copy where they are not; the peak of memory stays below twice
    the file. `spec` of the layers is None.

    Raises:
        WeightsError: the file is something else, cut off or damaged, or a blob's shape
            contradicts its number of values.
    """
    data = read_whole(path, "a caffemodel", ".caffemodel")
    try:
        net = _Reading(Wire(data, str(path), "caffemodel")).net()
    except WeightsError as error:
        raise _named(bytes(data[:HEAD]), str(path)) or error from None
    return net


def write_caffemodel(path: Path, stored: StoredNet) -> None:
    """Write a .caffemodel of V2 layers that Caffe 1.0 reads, all of it or nothing.

    Blobs are written as packed float32, float64 ones as packed `double_data`, with a BlobShape.
    A layer's `spec` is written with it, so that the file holds the net's definition too, as
    Caffe's snapshots do. Caffe itself reads no file of 2 GiB or more; `read_caffemodel` does.

    Raises:
        WeightsError: it can't be written, a blob is not of floats, or one is left out.
    """
    with replacing(path) as file:
        net = new_message("caffe.NetParameter")
        net.name = stored.name
        file.write(net.SerializePartialToString())
        for layer in stored.layers:
            message = new_message("caffe.LayerParameter")
            if layer.spec is not None:
                message.CopyFrom(layer.spec)
                message.ClearField("blobs")
            message.name, message.type = layer.name, layer.type
            _check_complete(layer, path)
            part = message.SerializePartialToString()
            dtypes = [_dtype(blob, i, layer.name, path) for i, blob in enumerate(layer.blobs)]
            heads = [_blob_head(b.shape, d) for b, d in zip(layer.blobs, dtypes, strict=True)]
            values = sum(b.size * d.itemsize for b, d in zip(layer.blobs, dtypes, strict=True))
            file.write(_prefix(_NET_LAYER, len(part) + sum(map(len, heads)) + values) + part)
            for blob, dtype, head in zip(layer.blobs, dtypes, heads, strict=True):
                file.write(head)
                file.write(np.ascontiguousarray(blob, dtype).reshape(-1).view(np.uint8).data)


CAFFEMODEL = WeightFormat("caffemodel", (".caffemodel",), read_caffemodel, write_caffemodel)


def read_blob(wire: Wire, field: Field, index: int) -> NDArray[Any]:
    """The array of a BlobProto: a view of the bytes where its values are packed.

    Args:
        wire: the bytes.
        field: the BlobProto's.
        index: its number among its kind, for messages.

    Raises:
        WeightsError: it is damaged, or its shape contradicts its number of values.
    """
    return _Reading(wire).blob("", index, field)


def write_blob(file: BinaryIO, number: int, blob: NDArray[Any]) -> None:
    """Write an array of floats as a BlobProto that is the field `number` of its message."""
    dtype = np.dtype("<f8" if blob.dtype.itemsize == 8 else "<f4")
    file.write(_blob_head(blob.shape, dtype, number))
    file.write(np.ascontiguousarray(blob, dtype).reshape(-1).view(np.uint8).data)


class _Reading:
    """One walk through a file."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.unknown: Counter[str] = Counter()
        self.raw = 0

    def net(self) -> StoredNet:
        name = ""
        new: list[StoredLayer] = []
        old: list[StoredLayer] = []
        for field in self.wire.fields():
            if field.number == _NET_NAME and field.kind == BYTES:
                name = self.wire.text(field)
            elif field.number == _NET_LAYER and field.kind == BYTES:
                new.append(self.layer(_V2, field))
            elif field.number == _NET_LAYERS and field.kind == BYTES:
                old.append(self.layer(_V1, field))
            elif field.number not in _NET_KNOWN:
                self.unknown["NetParameter"] += 1
        if not new and not old:
            raise WeightsError(
                "not a caffemodel: there is no layer in it", place=Place(self.wire.file)
            )
        notes = [
            f"unknown fields of {of} skipped: {count}" for of, count in sorted(self.unknown.items())
        ]
        if self.raw:
            notes.append(f"blobs read from `raw_data`, a field of NVIDIA's Caffe: {self.raw}")
        if new and old:
            # Caffe keeps `layers` and drops `layer`, with a message in its log.
            notes.append(
                "the file mixes `layer` and `layers`: as in Caffe `layers` is kept, `layer` dropped"
            )
        return StoredNet(name, tuple(old or new), self.wire.file, tuple(notes))

    def layer(self, numbers: _Numbers, field: Field) -> StoredLayer:
        name = kind = ""
        blobs = []
        inner = None
        for part in self.wire.fields(field.start, field.end):
            if part.number == numbers.blobs and part.kind == BYTES:
                blobs.append(part)
            elif part.number == numbers.name and part.kind == BYTES:
                name = self.wire.text(part)
            elif part.number == numbers.type and part.kind == BYTES:
                kind = self.wire.text(part)
            elif part.number == numbers.type and part.kind == VARINT:
                kind = v1_type(signed(part.value, 32))
            elif part.number == numbers.inner and part.kind == BYTES:
                inner = part
        if inner:
            # As Caffe's upgrade: what stands beside a V0 layer is only its bottoms and tops.
            return self.layer(_V0, inner)
        if numbers is _V0:
            kind = V0_TYPES.get(kind, kind)
        return StoredLayer(
            name, kind, tuple(self.blob(name, i, part) for i, part in enumerate(blobs))
        )

    def blob(self, layer: str, index: int, field: Field) -> NDArray[Any]:
        parts = list(self.wire.fields(field.start, field.end))
        shape = self.shape(layer, index, parts)
        values = self.values(parts, _DOUBLE_DATA, "<f8")
        if not values.size:
            values = self.values(parts, _DATA, "<f4")
        if not values.size:
            values = self.raw_values(parts)
        count = math.prod(shape)
        if values.size != count:
            raise self.error(
                layer,
                f"blob {index} is {_text(shape)} ({count} value{'s' * (count != 1)}), but the file "
                f"holds {values.size}",
            )
        self.unknown.update("BlobProto" for part in parts if part.number not in _BLOB_KNOWN)
        try:
            return values.reshape(shape)
        except ValueError:  # no value, but axes whose product numpy can't count
            raise self.error(layer, f"blob {index} is {_text(shape)}: too large") from None

    def shape(self, layer: str, index: int, parts: Sequence[Field]) -> tuple[int, ...]:
        """A blob's shape; as in Caffe the legacy one wins, and none at all is a scalar's."""
        legacy: dict[int, int] = {}
        dims: list[int] = []
        for part in parts:
            if part.number in _LEGACY_SHAPE and part.kind == VARINT:
                legacy[part.number] = signed(part.value, 32)
            elif part.number == _SHAPE and part.kind == BYTES:
                for dim in self.wire.fields(part.start, part.end):
                    if dim.number != 1:
                        continue
                    for value in self.wire.integers(dim):
                        dims.append(value)
                        if len(dims) > MOST_AXES:
                            raise self.error(layer, f"blob {index} has more than {MOST_AXES} axes")
        shape = tuple(legacy.get(number, 0) for number in _LEGACY_SHAPE) if legacy else tuple(dims)
        if any(dim < 0 for dim in shape):
            raise self.error(layer, f"blob {index} is {_text(shape)}: an axis is negative")
        return shape

    def values(self, parts: Sequence[Field], number: int, dtype: str) -> NDArray[Any]:
        """The numbers of a repeated field: a view where they lie in one packed piece."""
        size = np.dtype(dtype).itemsize
        pieces = [
            self.wire.numbers(part, dtype)
            for part in parts
            if part.number == number and (part.kind == BYTES or WIDTHS.get(part.kind) == size)
        ]
        if len(pieces) == 1 and pieces[0].flags.c_contiguous:
            return pieces[0]
        values = np.concatenate(pieces) if pieces else np.empty(0, dtype)
        values.setflags(write=False)
        return values

    def raw_values(self, parts: Sequence[Field]) -> NDArray[Any]:
        """The numbers that a fork keeps as bytes of a declared type."""
        kinds = [part.value for part in parts if part.number == _RAW_TYPE and part.kind == VARINT]
        dtype = _RAW_DTYPES.get(kinds[-1]) if kinds else None
        values = [part for part in parts if part.number == _RAW_DATA and part.kind == BYTES]
        if dtype is None or not values:
            return self.values([], _DATA, "<f4")
        self.raw += 1
        return self.wire.numbers(values[-1], dtype)

    def error(self, layer: str, message: str) -> WeightsError:
        return WeightsError(message, place=Place(self.wire.file), layer=layer)


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def _named(head: bytes, file: str) -> WeightsError | None:
    """What a file that is no caffemodel is by its first bytes, if that can be told."""
    if not head.translate(None, bytes(range(32, 256)) + b"\t\n\r\f"):
        definition = re.search(rb"^\s*(layers?\s*:?\s*\{|name\s*:|input\s*:)", head, re.MULTILINE)
        if definition:
            return WeightsError(
                "this is a prototxt, not a caffemodel",
                place=Place(file),
                hint="A definition holds no weights: they are in a file of their own.",
            )
        return WeightsError("this is a text, not a caffemodel", place=Place(file))
    if head[0] == 0x08:
        return WeightsError(
            "this is no caffemodel",
            place=Place(file),
            hint="It begins like a solverstate, a mean image (binaryproto) or an ONNX model.",
        )
    return None


def _check_complete(layer: StoredLayer, path: Path) -> None:
    """The format has no way to leave out a blob before others."""
    for i, place in enumerate(layer.places):
        if place != i:
            raise WeightsError(
                f"blob {i} is left out, as a shared one can be in an .h5 file, but a caffemodel "
                "keeps all",
                place=Place(str(path)),
                layer=layer.name,
                hint="Load the weights into their net and save that.",
            )


def _dtype(blob: NDArray[Any], index: int, layer: str, path: Path) -> np.dtype[Any]:
    """How the format keeps a blob's values."""
    if blob.dtype.kind != "f" or blob.dtype.itemsize > 8:
        raise WeightsError(
            f"blob {index} is {blob.dtype}, but a caffemodel keeps float32 and float64",
            place=Place(str(path)),
            layer=layer,
        )
    return np.dtype("<f8" if blob.dtype.itemsize == 8 else "<f4")


def _blob_head(shape: Sequence[int], dtype: np.dtype[Any], number: int = _V2.blobs) -> bytes:
    """A BlobProto within its layer or another message, up to where its values begin."""
    size = math.prod(shape) * dtype.itemsize
    dims = b"".join(map(_varint, shape))
    packed = _prefix(1, len(dims)) + dims if dims else b""
    inside = _prefix(_SHAPE, len(packed)) + packed
    inside += _prefix(_DOUBLE_DATA if dtype.itemsize == 8 else _DATA, size)
    return _prefix(number, len(inside) + size) + inside


def _prefix(number: int, size: int) -> bytes:
    """Tag and length of a field of `size` bytes."""
    return _varint(number << 3 | BYTES) + _varint(size)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
