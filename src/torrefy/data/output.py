"""What HDF5Output layers write: two blobs of every pass, row after row."""

from __future__ import annotations

import secrets
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from torrefy.errors import DataError, Place

NAMES = ("data", "label")
"""The datasets that Caffe writes, of the layer's two bottoms."""


class HDF5Output:
    """An HDF5 file with the datasets "data" and "label", written whole or not at all.

    As Caffe writes them, arrays have four axes at least: N labels are Nx1x1x1. Caffe can run the
    layer once; here the rows of each pass go behind those before. HDF5Data
    layers, Caffe's too, read the file.

    Example:
        with HDF5Output("features.h5") as output:
            for batch in itertools.islice(loader, 10):
                tops = net.run(batch, blobs=["fc7", "label"])
                output.write(tops["fc7"], tops["label"])
    """

    def __init__(self, path: Path | str) -> None:
        """Take the file's name; it is written when the output is closed."""
        self.path = Path(path)
        self._part = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
        self._file: Any = None

    def write(self, data: Tensor | NDArray[Any], label: Tensor | NDArray[Any]) -> None:
        """Write a pass: N×… each, of the same N.

        Raises:
            DataError: the rows differ in number or from those before in shape, or the disk
                refuses.
        """
        import h5py

        arrays = [_array(data), _array(label)]
        place = Place(str(self.path))
        if any(not a.ndim for a in arrays) or len(arrays[0]) != len(arrays[1]):
            told = " and ".join("x".join(map(str, a.shape)) or "a scalar" for a in arrays)
            raise DataError(f"two blobs of as many rows are written, found {told}", place=place)
        arrays = [array.reshape(array.shape + (1,) * (4 - array.ndim)) for array in arrays]
        try:
            if self._file is None:
                self._file = h5py.File(self._part, "w", locking=False)
                for name, array in zip(NAMES, arrays, strict=True):
                    self._file.create_dataset(
                        name, data=array, maxshape=(None, *array.shape[1:]), chunks=True
                    )
                return
            for name, array in zip(NAMES, arrays, strict=True):
                held = self._file[name]
                if held.shape[1:] != array.shape[1:]:
                    raise DataError(f'the rows of "{name}" have another shape now', place=place)
                held.resize(len(held) + len(array), axis=0)
                held[-len(array) :] = array
        except OSError as error:
            raise DataError(f"can't be written: {error.strerror or error}", place=place) from None

    def close(self) -> None:
        """Put the file in its place; without a pass nothing is written.

        Raises:
            DataError: the disk refuses.
        """
        if self._file is None:
            return
        try:
            self._file.close()
            self._part.replace(self.path)
        except OSError as error:
            raise DataError(
                f"can't be written: {error.strerror or error}", place=Place(str(self.path))
            ) from None
        finally:
            self._drop()

    def __enter__(self) -> HDF5Output:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._drop()

    def _drop(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._part.unlink(missing_ok=True)


def _array(values: Tensor | NDArray[Any]) -> NDArray[np.float32]:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    return np.asarray(array, np.float32)
