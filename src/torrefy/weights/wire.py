"""Protobuf's wire format, walked field by field without a schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from torrefy.errors import Place, WeightsError

VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)
WIDTHS = {FIXED32: 4, FIXED64: 8}

MOST_FIELDS = 1 << 20
"""Fields that are walked in one file: fifty times a thousand-layer net, yet soon counted."""
DEEPEST_GROUP = 100
"""How deep groups may nest; protobuf's own limit."""
_RUN_STEP = 1 << 16
"""Most fields compared at once when looking for the end of a run."""


class Field(NamedTuple):
    """A field of a message and where it lies in the buffer.

    Fixed-width fields of one number that follow each other directly come as one `Field`: a
    million numbers that are not packed are found at numpy's speed.
    """

    number: int
    kind: int
    """The wire type."""
    tag: int
    """Offset of the field's first byte."""
    start: int
    """Offset of its content."""
    end: int
    value: int = 0
    """What a varint holds, unsigned."""


class _OverrunError(Exception):
    """The field at `tag` reaches to `end`, past the end of its message."""

    def __init__(self, tag: int, end: int) -> None:
        self.tag, self.end = tag, end


class Wire:
    """A buffer in the wire format; `file` and `what` ("caffemodel") are for messages.

    Whatever the bytes are, every method ends, allocates nothing that the buffer doesn't pay for,
    and raises nothing but `WeightsError`.
    """

    def __init__(self, data: memoryview, file: str, what: str = "message") -> None:
        self.data = data
        self.file = file
        self.what = what
        self._left = MOST_FIELDS

    def fields(self, start: int = 0, end: int | None = None) -> Iterator[Field]:
        """The fields of the message between two offsets. Groups are passed over.

        Raises:
            WeightsError: the bytes are no message, or cut off.
        """
        stop = len(self.data) if end is None else end
        open_groups: list[int] = []
        at = start
        while at < stop:
            try:
                field = self._field(at, stop)
            except _OverrunError as overrun:
                raise self._too_long(overrun, stop, whole=end is None) from None
            at = field.end
            if field.kind == GROUP:
                open_groups.append(field.number)
                if len(open_groups) > DEEPEST_GROUP:
                    raise self.error(f"groups nest deeper than {DEEPEST_GROUP}", field.tag)
            elif field.kind == END_GROUP:
                if not open_groups or open_groups.pop() != field.number:
                    raise self.error("a group ends that did not begin", field.tag)
            elif not open_groups:
                yield field
        if open_groups:
            raise self.error("a group does not end", stop)

    def numbers(self, field: Field, dtype: DTypeLike) -> NDArray[Any]:
        """The fixed-width numbers of a field, packed or not: a read-only view of the buffer.

        Raises:
            WeightsError: the bytes are no whole number of them.
        """
        size = np.dtype(dtype).itemsize
        if field.kind == BYTES:
            stride = size
            count, rest = divmod(field.end - field.start, size)
            if rest:
                raise self.error(
                    f"{field.end - field.start} bytes are no array of numbers of {size} bytes",
                    field.start,
                )
        else:
            stride = field.start - field.tag + size
            count = (field.end - field.tag) // stride
        return np.ndarray((count,), dtype, buffer=self.data, offset=field.start, strides=(stride,))

    def integers(self, field: Field) -> Iterator[int]:
        """The signed varints of a field, packed or not."""
        if field.kind == VARINT:
            yield signed(field.value, 64)
        elif field.kind == BYTES:
            at = field.start
            while at < field.end:
                try:
                    value, at = self._varint(at, field.end, at)
                except _OverrunError as overrun:
                    raise self._too_long(overrun, field.end, whole=False) from None
                yield signed(value, 64)

    def text(self, field: Field) -> str:
        """A field of bytes as text; what is not UTF-8 is replaced."""
        return bytes(self.data[field.start : field.end]).decode("utf-8", "replace")

    def error(self, what: str, at: int) -> WeightsError:
        """An error about the bytes at an offset."""
        return WeightsError(
            f"damaged, or not a {self.what}: {what} at byte {at}", place=Place(self.file)
        )

    def _field(self, tag: int, stop: int) -> Field:
        if not self._left:
            raise self.error(f"more than {MOST_FIELDS} fields", tag)
        self._left -= 1
        key, start = self._varint(tag, stop, tag)
        number, kind = key >> 3, key & 7
        if not 0 < number < 1 << 29 or kind > FIXED32:
            raise self._no_field(tag)
        value = 0
        end = start
        if kind == BYTES:
            length, start = self._varint(start, stop, tag)
            end = start + length
        elif kind == VARINT:
            value, end = self._varint(start, stop, tag)
        elif kind in WIDTHS:
            end += WIDTHS[kind]
        if end > stop:
            raise _OverrunError(tag, end)
        if kind in WIDTHS:
            end = self._end_of_run(tag, start, end, stop)
        return Field(number, kind, tag, start, end, value)

    def _varint(self, at: int, stop: int, tag: int) -> tuple[int, int]:
        """A varint of the field at `tag`, and the offset after it."""
        data = self.data
        value = 0
        for shift in range(0, 70, 7):
            if at >= stop:
                raise _OverrunError(tag, at + 1)
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & (1 << 64) - 1, at
        raise self.error("an integer of more than ten bytes", tag)

    def _end_of_run(self, tag: int, start: int, end: int, stop: int) -> int:
        """Where the last of the same fields that follow a fixed-width field directly ends."""
        stride = end - tag
        key = np.frombuffer(self.data[tag:start], np.uint8)
        step = 1
        while self.data[end : end + len(key)] == self.data[tag:start]:
            count = min(step, (stop - end) // stride)
            if not count:
                break
            tags = np.ndarray(
                (count, len(key)), np.uint8, buffer=self.data, offset=end, strides=(stride, 1)
            )
            same = (tags == key).all(axis=1)
            if not same.all():
                return end + int(same.argmin()) * stride
            end += count * stride
            step = min(step * 8, _RUN_STEP)
        return end

    def _no_field(self, tag: int) -> WeightsError:
        if tag and not np.frombuffer(self.data[tag:], np.uint8).any():
            return WeightsError(
                f"the file is zeros from byte {tag} on",
                place=Place(self.file),
                hint="A download that was never finished? Get it again.",
            )
        return self.error(f"no field can begin with 0x{self.data[tag]:02x}", tag)

    def _too_long(self, overrun: _OverrunError, stop: int, *, whole: bool) -> WeightsError:
        what = "the file is cut off, or" if whole else "damaged, or"
        return WeightsError(
            f"{what} not a {self.what}: the field at byte {overrun.tag} would reach to byte "
            f"{overrun.end}, but {'the file' if whole else 'its message'} ends at byte {stop}",
            place=Place(self.file),
        )


def signed(value: int, bits: int) -> int:
    """An unsigned varint as the signed integer of so many bits that it stands for."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value
