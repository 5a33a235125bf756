"""BlobProtos by themselves, as files of means and of InfogainLoss hold them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from torrefy.errors import DataError, Place
from torrefy.schema.compose import new_message

OLD = ("num", "channels", "height", "width")
"""What a shape is told by in old blobs; it counts where one of them is there, as in Caffe."""


def read_blob(data: bytes, place: Place) -> NDArray[np.float32]:
    """The array of a BlobProto.

    Raises:
        DataError: these are no BlobProto's bytes, or its values don't fill its shape.
    """
    blob: Any = new_message("caffe.BlobProto")
    try:
        blob.ParseFromString(data)
    except DecodeError:
        raise DataError("this is no BlobProto", place=place) from None
    old = any(map(blob.HasField, OLD))
    shape = tuple(getattr(blob, name) for name in OLD) if old else tuple(blob.shape.dim)
    values = np.array(blob.data or blob.double_data, np.float32)
    if min(shape, default=1) < 0 or math.prod(shape) != len(values):
        told = "x".join(map(str, shape)) or "a scalar"
        raise DataError(f"a blob of {told} that holds {len(values)} values", place=place)
    return values.reshape(shape)


def write_blob(array: NDArray[Any]) -> bytes:
    """A BlobProto's bytes of an array of up to four axes, as Caffe's tools write means."""
    blob: Any = new_message("caffe.BlobProto")
    shape = (1,) * (4 - array.ndim) + array.shape
    blob.num, blob.channels, blob.height, blob.width = shape
    blob.data.extend(array.astype(np.float32).ravel().tolist())
    written: bytes = blob.SerializeToString()
    return written
