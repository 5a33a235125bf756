"""HDF5 files as Caffe's HDF5Data reads them: rows of arrays."""

from __future__ import annotations

import bisect
import mmap
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.order import InOrder, Order, Shuffled
from torrefy.data.sources.image_list import text_lines
from torrefy.data.sources.source import Item, Source
from torrefy.errors import DataError, Place, TorrefyError, did_you_mean
from torrefy.weights.files import opened, read_whole
from torrefy.weights.hdf5_dataset import dataset_shape, read_dataset
from torrefy.weights.hdf5_file import HDF5File

MOST_LOADED = 2
"""How many files are kept in memory."""


class HDF5Source(Source):
    """The rows of datasets, file after file; a file is loaded whole when a row of it is read.

    All numbers become float32, as in Caffe. Shuffled, the files come in another order in each
    epoch, and the rows of each file too; rows of two files are not mixed.
    """

    def __init__(
        self, files: Sequence[str], names: Sequence[str], *, shuffle: bool = False
    ) -> None:
        """Read the shapes of all files.

        Args:
            files: their names.
            names: the datasets that an item is made of, in this order.
            shuffle: whether each epoch has an order of its own.

        Raises:
            DataError: a file is missing, no HDF5 file or damaged; it lacks a dataset; datasets of
                a file differ in their rows; files differ in their shapes; there is no row.
        """
        self.files = list(files)
        self.names = list(names)
        self.shuffle = shuffle
        self._loaded: OrderedDict[int, list[NDArray[Any]]] = OrderedDict()
        self.starts = [0]
        shapes: list[tuple[int, ...]] = []
        for file in self.files:
            found = self._shapes(file)
            rows = {shape[0] if shape else 0 for shape in found}
            if len(rows) != 1 or not all(found):
                told = ", ".join(
                    f'"{name}" {"x".join(map(str, shape)) or "a scalar"}'
                    for name, shape in zip(self.names, found, strict=True)
                )
                raise DataError(
                    f"the datasets differ in their number of rows: {told}", place=Place(file)
                )
            now = [shape[1:] for shape in found]
            if shapes and now != shapes:
                raise DataError(
                    f"its rows have other shapes than those of {self.files[0]}", place=Place(file)
                )
            shapes = now
            self.starts.append(self.starts[-1] + rows.pop())
        if not self.starts[-1]:
            raise DataError("there is no row in these files", place=Place(self.files[0]))

    def __len__(self) -> int:
        return self.starts[-1]

    @property
    def heavy(self) -> bool:
        """No: what is in memory is faster taken than sent."""
        return False

    def key(self, index: int) -> str:
        """The file and the row, counted from 0."""
        file = bisect.bisect_right(self.starts, index) - 1
        return f"{self.files[file]} (row {index - self.starts[file]})"

    def item(self, index: int) -> Item:
        """A row of each dataset as float32."""
        file = bisect.bisect_right(self.starts, index) - 1
        row = index - self.starts[file]
        return tuple(np.asarray(array[row], np.float32) for array in self._arrays(file))

    def order(self, seed: int, batch_size: int) -> Order:
        """File after file."""
        del batch_size
        if not self.shuffle:
            return InOrder(len(self))
        sizes = [end - start for start, end in zip(self.starts, self.starts[1:], strict=False)]
        return Shuffled(sizes, seed)

    def close(self) -> None:
        """Forget what is loaded."""
        self._loaded.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": OrderedDict()}

    def _shapes(self, path: str) -> list[tuple[int, ...]]:
        try:
            with (
                opened(Path(path), "an HDF5 file", ".h5") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
                memoryview(mapped) as data,
            ):
                hdf5 = HDF5File(data, path)
                shapes = [
                    dataset_shape(hdf5, address, f'the dataset "{name}"')
                    for name, address in self._addresses(hdf5)
                ]
                del hdf5
                return shapes
        except TorrefyError as error:
            raise DataError(error.problems) from None

    def _arrays(self, file: int) -> list[NDArray[Any]]:
        if file in self._loaded:
            self._loaded.move_to_end(file)
            return self._loaded[file]
        path = self.files[file]
        while len(self._loaded) >= MOST_LOADED:
            self._loaded.popitem(last=False)
        try:
            hdf5 = HDF5File(read_whole(Path(path), "an HDF5 file", ".h5"), path)
            arrays = [
                read_dataset(hdf5, address, f'the dataset "{name}"')
                for name, address in self._addresses(hdf5)
            ]
        except TorrefyError as error:
            raise DataError(error.problems) from None
        rows = self.starts[file + 1] - self.starts[file]
        if any(len(array) != rows for array in arrays):
            raise DataError("the file has changed since it was opened", place=Place(path))
        self._loaded[file] = arrays
        return arrays

    def _addresses(self, file: HDF5File) -> list[tuple[str, int]]:
        links = {link.name.decode("utf-8", "replace"): link for link in file.links(file.root) or ()}
        found = []
        for name in self.names:
            link = links.get(name)
            if link is None or link.address is None:
                raise file.refusal(
                    f'there is no dataset "{name}" in it',
                    did_you_mean(name, links) or f"It holds {', '.join(sorted(links)[:8])}.",
                )
            found.append((name, link.address))
        return found


def read_files(path: Path | str, folder: Path | str = ".") -> list[str]:
    """The files that a list names, one a line, relative to a folder.

    Raises:
        DataError: the list can't be read or is empty.
    """
    files = [str(Path(folder, line.strip())) for line in text_lines(path) if line.strip()]
    if not files:
        raise DataError("the list is empty", place=Place(str(path)))
    return files
