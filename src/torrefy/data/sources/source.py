"""What all sources have in common: items by number, and the order in which they are taken."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.order import InOrder, Order, Shuffled, skipped
from torrefy.errors import Place

Item = tuple[NDArray[Any], ...]
"""What a source holds under one number: first the picture as CxHxW bytes or float32 (an array of
any shape from sources without pictures), then what else there is, a label as an array of no axes.
"""


def label_of(value: float) -> NDArray[np.float32]:
    """A label as sources give it: Caffe's labels are floats."""
    return np.asarray(value, np.float32)


class Source(ABC):
    """Items by number.

    A source is opened in one process and read in others: it keeps what its files say, and opens
    the files themselves when it reads them.
    """

    shuffle: bool = False
    """Whether each epoch has an order of its own."""
    rand_skip: int = 0
    """Below how many items are passed over at the start, by chance."""

    @abstractmethod
    def __len__(self) -> int:
        """How many items there are."""

    @abstractmethod
    def item(self, index: int) -> Item:
        """An item.

        Raises:
            PictureError, RecordError: this item can't be read.
            DataError: the source can't be read.
        """

    @abstractmethod
    def key(self, index: int) -> str:
        """What an item is called in messages: its file, or its key in a database."""

    def place(self, index: int) -> Place:
        """Where an error about an item points: at its key, or where a text names it."""
        return Place(self.key(index))

    def order(self, seed: int, batch_size: int) -> Order:
        """The order of a run of this seed; only windows are drawn batch by batch."""
        del batch_size
        skip = skipped(min(self.rand_skip, len(self)), seed)
        return Shuffled([len(self)], seed, skip) if self.shuffle else InOrder(len(self), skip)

    @property
    def heavy(self) -> bool:
        """Whether an item takes so long to make that worker processes pay."""
        return True

    def instead(self, index: int) -> int:
        """The item that is tried where this one is bad and bad ones are passed over."""
        return (index + 1) % len(self)

    def close(self) -> None:  # noqa: B027  most sources hold nothing open
        """Close the files; the source can still be read, and opens them again."""
