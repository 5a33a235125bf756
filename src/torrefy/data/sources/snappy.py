"""Snappy, the compression of LevelDB's blocks, undone."""

from __future__ import annotations

MOST_EXPANDED = 64
"""How many times its size Snappy can expand: a copy of 64 bytes takes two or three."""


def uncompress(data: bytes) -> bytes:
    """The bytes that were compressed.

    Raises:
        ValueError: the data are not Snappy's, or cut off.
    """
    try:
        return _uncompress(data)
    except IndexError:
        raise ValueError("cut off") from None


def _uncompress(data: bytes) -> bytes:
    size, at = varint(data, 0)
    if size > MOST_EXPANDED * len(data):
        raise ValueError("longer than it can be")
    made = bytearray()
    end = len(data)
    while at < end and len(made) <= size:
        tag = data[at]
        at += 1
        kind, length = tag & 3, (tag >> 2) + 1
        if kind == 0:
            if length > 60:
                width = length - 60
                length = int.from_bytes(data[at : at + width], "little") + 1
                at += width
            if at + length > end:
                raise ValueError("cut off")
            made += data[at : at + length]
            at += length
            continue
        if kind == 1:
            length = (tag >> 2 & 7) + 4
            offset = tag >> 5 << 8 | data[at]
            at += 1
        else:
            width = 2 if kind == 2 else 4
            offset = int.from_bytes(data[at : at + width], "little")
            at += width
        if not 0 < offset <= len(made):
            raise ValueError("a copy of what is not there")
        start = len(made) - offset
        if offset >= length:
            made += made[start : start + length]
        else:
            made += (made[start:] * (length // offset + 1))[:length]
    if len(made) != size:
        raise ValueError(f"{len(made)} bytes of {size}")
    return bytes(made)


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, and the offset after it.

    Raises:
        ValueError: it is longer than 64 bits.
        IndexError: it is cut off.
    """
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number of more than ten bytes")
