"""Arrays in memory, and any dataset of PyTorch's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from torrefy.data.sources.source import Item, Source
from torrefy.errors import DataError, Place, RecordError


class ArraySource(Source):
    """Rows of arrays, the first N×C×H×W where it is to be transformed, then labels."""

    def __init__(self, *arrays: ArrayLike, shuffle: bool = False, name: str = "<arrays>") -> None:
        """Take arrays of as many rows; they are not copied.

        Raises:
            DataError: no array, no row, or arrays of other lengths.
        """
        self.arrays: list[NDArray[Any]] = [np.asarray(array) for array in arrays]
        self.shuffle = shuffle
        self.name = name
        rows = {len(array) if array.ndim else 0 for array in self.arrays}
        if len(rows) != 1 or not max(rows):
            told = ", ".join(str(array.shape) for array in self.arrays) or "none"
            raise DataError(
                f"expected arrays of as many rows, found {told}", place=Place(self.name)
            )

    def __len__(self) -> int:
        return len(self.arrays[0])

    @property
    def heavy(self) -> bool:
        """No: what is in memory is faster taken than sent."""
        return False

    def key(self, index: int) -> str:
        """The row, counted from 0."""
        return f"{self.name} (row {index})"

    def item(self, index: int) -> Item:
        """A row of each array."""
        return tuple(array[index] for array in self.arrays)


class DatasetSource(Source):
    """Any random-access dataset of PyTorch's: `len(dataset)`, and `dataset[i]` as a tuple.

    What it gives is tensors, arrays, numbers, or pictures of Pillow's, which become C×H×W bytes
    in BGR (grey ones 1×H×W), as Caffe's are.
    """

    def __init__(self, dataset: Any, *, shuffle: bool = False) -> None:
        """Take a dataset.

        Raises:
            DataError: it has no length, or is empty.
        """
        self.dataset = dataset
        self.shuffle = shuffle
        self.name = type(dataset).__name__
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise DataError(
                "a dataset must have a length and items by number", place=Place(self.name)
            )
        if not len(dataset):
            raise DataError("the dataset is empty", place=Place(self.name))

    def __len__(self) -> int:
        return len(self.dataset)

    def key(self, index: int) -> str:
        """The class of the dataset and the number."""
        return f"{self.name}[{index}]"

    def item(self, index: int) -> Item:
        """What the dataset gives, as arrays."""
        found = self.dataset[index]
        parts: Sequence[Any] = found if isinstance(found, (tuple, list)) else (found,)
        return tuple(self._array(part, index) for part in parts)

    def _array(self, part: Any, index: int) -> NDArray[Any]:
        from PIL import Image

        if isinstance(part, Image.Image):
            if part.mode in ("1", "L"):
                return np.asarray(part.convert("L"))[np.newaxis]
            return np.asarray(part.convert("RGB"))[..., ::-1].transpose(2, 0, 1)
        array = np.asarray(part)
        if array.dtype.kind not in "biuf":
            raise RecordError(
                f"expected tensors, arrays, numbers or pictures, found {type(part).__name__}",
                place=Place(self.key(index)),
            )
        return array
