"""Records of Caffe's databases: Datum messages as items."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from torrefy.data.pictures import STORED, decode_picture
from torrefy.data.sources.source import Item, Source, label_of
from torrefy.errors import PictureError, Place, RecordError
from torrefy.schema import new_message

LIGHT = 1 << 15
"""Bytes of a record that is made in tens of microseconds, less than it takes to send it."""


class DatumSource(Source):
    """A database whose values are Datum messages, in the order of its keys.

    Encoded pictures are decoded in the colours that they have; `colour` "BGR" or "GRAY" turns
    all into one kind, as force_color and force_gray do in Caffe. What is not encoded stays as it
    is.
    """

    colour: str = STORED
    path: str

    @abstractmethod
    def name(self, index: int) -> bytes:
        """The key of a record."""

    @abstractmethod
    def record(self, index: int) -> bytes:
        """The bytes of a Datum."""

    @property
    def heavy(self) -> bool:
        """Whether its first record is an encoded picture, or more than LIGHT bytes."""
        record = self.record(0)
        datum: Any = new_message("caffe.Datum")
        try:
            datum.ParseFromString(record)
        except DecodeError:
            return False
        return len(record) > LIGHT or bool(datum.encoded)

    def key(self, index: int) -> str:
        """The database and the record's key."""
        return f'{self.path} (key "{self.name(index).decode("utf-8", "replace")}")'

    def label(self, index: int) -> int:
        """A record's label; its picture is not decoded.

        Raises:
            RecordError: it is no Datum.
        """
        return int(_datum(self.record(index), lambda: self.key(index)).label)

    def item(self, index: int) -> Item:
        """C×H×W bytes or float32, and the label."""
        return read_datum(self.record(index), lambda: self.key(index), self.colour)


def read_datum(data: bytes, name: Callable[[], str], colour: str = STORED) -> Item:
    """A Datum as an item: C×H×W bytes or float32, and the label, 0 where it has none.

    Args:
        data: the bytes of the message.
        name: tells what the record is called, for errors.
        colour: as `DatumSource`.

    Raises:
        RecordError: these are no Datum's bytes, or it holds more or fewer numbers than its
            channels, height and width say.
        PictureError: its encoded picture can't be read.
    """
    datum = _datum(data, name)
    label = label_of(datum.label)
    if datum.encoded:
        try:
            return decode_picture(datum.data, Place(""), colour).transpose(2, 0, 1), label
        except PictureError as error:
            raise PictureError([replace(p, place=Place(name())) for p in error.problems]) from None
    shape = (datum.channels, datum.height, datum.width)
    values: NDArray[Any]
    if datum.data or not datum.float_data:
        values = np.frombuffer(datum.data, np.uint8)
    else:
        values = np.array(datum.float_data, np.float32)
    count = shape[0] * shape[1] * shape[2]
    if min(shape) < 1 or len(values) != count:
        raise RecordError(
            f"a Datum of {'x'.join(map(str, shape))} has {len(values)} numbers",
            place=Place(name()),
        )
    return values.reshape(shape), label


def _datum(data: bytes, name: Callable[[], str]) -> Any:
    datum: Any = new_message("caffe.Datum")
    try:
        datum.ParseFromString(data)
    except DecodeError:
        raise RecordError("this record is no Datum", place=Place(name())) from None
    return datum


def write_datum(picture: NDArray[Any] | bytes, label: int) -> bytes:
    """The bytes of a Datum, the same as Caffe writes.

    Args:
        picture: C×H×W bytes or floats, or the bytes of a JPEG, PNG, … kept as they are.
        label: the class.
    """
    datum: Any = new_message("caffe.Datum")
    datum.encoded = isinstance(picture, bytes)
    if isinstance(picture, bytes):
        datum.data = picture
    else:
        datum.channels, datum.height, datum.width = picture.shape
        if picture.dtype == np.uint8:
            datum.data = picture.tobytes()
        else:
            datum.float_data.extend(picture.ravel().tolist())
    datum.label = label
    message: Message = datum
    return message.SerializeToString()
