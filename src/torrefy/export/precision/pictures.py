"""Which pictures calibrate and which are held out; both decoded once, into files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from torrefy.data.ahead import read_ahead
from torrefy.data.examples import Examples
from torrefy.data.preprocess import Preprocessor
from torrefy.errors import DataError, Place, TorrefyError

LEAST = 8
"""Of fewer pictures nothing can be said."""
BATCH = 8
"""Pictures that are computed together: of a ResNet-50 all that they make takes 350 MB."""


@dataclass(frozen=True)
class Decoded:
    """Pictures as a net sees them, N×C×H×W, in a file that is mapped into memory."""

    array: NDArray[np.float32]
    bad: tuple[TorrefyError, ...] = ()
    """Why others could not be read."""

    def __len__(self) -> int:
        return len(self.array)

    def batches(self, most: int | None = None) -> Iterator[NDArray[np.float32]]:
        """They, or the first of them, some at a time."""
        end = len(self) if most is None else min(most, len(self))
        for first in range(0, end, BATCH):
            yield np.ascontiguousarray(self.array[first : min(first + BATCH, end)])


def choose(examples: Examples, count: int, seed: int) -> tuple[list[int], list[int]]:
    """The numbers of those that calibrate, and of all others; what is of one group stays together.

    Args:
        examples: all of them.
        count: how many calibrate, at most half of all.
        seed: of the choice.

    Raises:
        DataError: there are too few.
    """
    if len(examples) < 2 * LEAST:
        raise DataError(
            f"{len(examples)} pictures are too few to calibrate on some and measure on others",
            place=Place(examples.origin),
            hint=f"Give {2 * LEAST} or more; a hundred or more say something.",
        )
    groups = examples.groups or tuple(map(str, range(len(examples))))
    order = np.random.default_rng(seed).permutation(sorted(set(groups)))
    rank = {str(group): place for place, group in enumerate(order)}
    rows = sorted(range(len(examples)), key=lambda row: (rank[groups[row]], row))
    cut = min(count, len(rows) // 2)
    while cut < len(rows) and groups[rows[cut]] == groups[rows[cut - 1]]:
        cut += 1
    if len(rows) - cut < LEAST:
        raise DataError(
            f"a group of {groups[rows[0]]} leaves too few pictures to measure on",
            place=Place(examples.origin),
            hint="Give other pictures to measure on: held_out=…, or --held-out.",
        )
    return rows[:cut], rows[cut:]


def sample(examples: Examples, count: int, seed: int) -> list[int]:
    """The numbers of `count` of them, or of all where there are no more."""
    if len(examples) < LEAST:
        raise DataError(
            f"{len(examples)} pictures are too few; {LEAST} are needed",
            place=Place(examples.origin),
        )
    return [int(i) for i in np.random.default_rng(seed).permutation(len(examples))[:count]]


def decode(
    examples: Examples, preprocessor: Preprocessor, rows: Sequence[int], path: Path
) -> Decoded:
    """Read pictures and make of them what the net sees, in a file.

    Raises:
        DataError: hardly any can be read; the first reason is told.
    """
    shape = (len(rows), *preprocessor.shape)
    array = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    filled, bad = 0, {}
    for read in read_ahead(examples, preprocessor, rows):
        array[filled : filled + len(read.pictures)] = read.pictures
        filled += len(read.pictures)
        bad.update(read.bad)
    if filled < min(LEAST, len(rows)):
        first = next(iter(bad.values())).problems[0]
        raise DataError(
            f"only {filled} of {len(rows)} pictures can be read; the first that can't: {first}",
            place=Place(examples.origin),
        )
    return Decoded(array[:filled], tuple(bad.values()))
