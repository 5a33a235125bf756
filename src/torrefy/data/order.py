"""Orders: which item of a source stands at which position of the endless stream of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from torrefy.data.draws import Draws, mixed, permutation


class Order(Protocol):
    """A function from positions to items, so that any position can be gone on from."""

    def index(self, position: int) -> int:
        """The item at a position, which counts from 0 over all epochs."""


class InOrder:
    """Item after item, over and over; the first `skip` items are passed over once."""

    def __init__(self, count: int, skip: int = 0) -> None:
        self.count = count
        self.skip = skip

    def index(self, position: int) -> int:
        """The item at a position."""
        return (position + self.skip) % self.count


class Shuffled:
    """Every epoch in an order of its own.

    Of groups, as the files of an HDF5 source are, first the groups are shuffled and then the
    items within each, as Caffe does, so that no more than two are needed at a time.
    """

    def __init__(self, sizes: Sequence[int], seed: int, skip: int = 0) -> None:
        """Take the size of each group and what is passed over before the first item."""
        self.sizes = tuple(sizes)
        self.count = sum(sizes)
        self.seed = seed
        self.skip = skip
        self._epochs: dict[int, NDArray[np.int64]] = {}

    def index(self, position: int) -> int:
        """The item at a position."""
        epoch, place = divmod(position + self.skip, self.count)
        order = self._epochs.get(epoch)
        if order is None:
            while len(self._epochs) > 1:  # workers reach into the next epoch, not further
                del self._epochs[min(self._epochs)]
            order = self._epochs[epoch] = self._order(epoch)
        return int(order[place])

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if len(self.sizes) == 1:
            return permutation(self.count, self.seed, epoch)
        starts = np.cumsum([0, *self.sizes])
        return np.concatenate(
            [
                starts[group] + permutation(self.sizes[group], self.seed, epoch, int(group) + 1)
                for group in permutation(len(self.sizes), self.seed, epoch)
            ]
        )


def skipped(rand_skip: int, seed: int) -> int:
    """How many items `rand_skip` passes over: below it, by the seed."""
    return Draws(mixed(seed, 1), 0).below(rand_skip) if rand_skip > 1 else 0
