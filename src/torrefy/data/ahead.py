"""Examples read ahead by threads, as a net sees them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from torrefy.data.examples import Examples
from torrefy.data.preprocess import Preprocessor
from torrefy.errors import PictureError, RecordError, TorrefyError

if TYPE_CHECKING:
    from torrefy.data.augment.versions import Versions

BATCH = 32
"""Pictures that go through a net together."""


@dataclass(frozen=True)
class Read:
    """Some examples, read."""

    rows: list[int]
    """The numbers of all of them, in their order."""
    good: list[int]
    """Of those that could be read."""
    pictures: NDArray[np.float32]
    """Of these as a net sees them; with versions an axis of these is second."""
    bad: dict[int, TorrefyError]
    """Of the others why."""


def read_ahead(
    examples: Examples,
    preprocessor: Preprocessor,
    rows: Sequence[int],
    size: int = BATCH,
    *,
    versions: Versions | None = None,
) -> Iterator[Read]:
    """Pictures as a net sees them, a batch at a time, read by threads.

    Args:
        examples: the pictures.
        preprocessor: what is done to each.
        rows: their numbers, in the order in which they come.
        size: how many there are in a batch; the last may have fewer.
        versions: what is made of each, V and then its channels; None: it alone.
    """
    workers = min(8, cpu_count() or 1)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="pictures")

    def made(index: int) -> NDArray[np.float32] | TorrefyError:
        try:
            picture = examples.picture(index, preprocessor.colour)
            if versions is not None:
                return preprocessor.versions(picture, versions)
            return preprocessor(picture)
        except (PictureError, RecordError) as error:
            return error.within(place=examples.place(index))

    waiting: deque[tuple[int, Future[NDArray[np.float32] | TorrefyError]]] = deque()
    left = iter(rows)
    try:
        while True:
            while len(waiting) < size + 2 * workers and (row := next(left, None)) is not None:
                waiting.append((row, pool.submit(made, row)))
            if not waiting:
                return
            count = min(size, len(waiting))
            yield _read([waiting.popleft() for _ in range(count)], preprocessor, versions)
    finally:
        pool.shutdown(cancel_futures=True)


def _read(
    batch: Sequence[tuple[int, Future[NDArray[np.float32] | TorrefyError]]],
    preprocessor: Preprocessor,
    versions: Versions | None,
) -> Read:
    found = [(row, future.result()) for row, future in batch]
    good = [(row, one) for row, one in found if not isinstance(one, TorrefyError)]
    bad = {row: one for row, one in found if isinstance(one, TorrefyError)}
    shape = preprocessor.shape if versions is None else (len(versions), *preprocessor.shape)
    pictures = np.stack([one for _, one in good]) if good else np.zeros((0, *shape), np.float32)
    return Read([row for row, _ in found], [row for row, _ in good], pictures, bad)
