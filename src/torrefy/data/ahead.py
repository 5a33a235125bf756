"""Pictures read ahead by threads, as a net sees them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from torrefy.data.examples import Examples
from torrefy.data.preprocess import Preprocessor
from torrefy.errors import PictureError, RecordError, TorrefyError

if TYPE_CHECKING:
    from torrefy.data.augment.versions import Versions

Item = TypeVar("Item")
Made = TypeVar("Made")

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


def cores() -> int:
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # elsewhere than on Linux
        return os.cpu_count() or 1


def made_ahead(
    items: Iterable[Item],
    make: Callable[[Item], Made],
    size: int = BATCH,
    workers: int | None = None,
) -> Iterator[list[tuple[Item, Made]]]:
    """What is made of items by threads, in their order, `size` at a time; the last may be fewer.

    While one batch is used the next one is made, and no more: of endless items a few are asked for.
    What `make` raises is raised here, in the item's turn.

    Args:
        items: what something is made of.
        make: makes it; several threads call it at once.
        size: how many there are in a batch.
        workers: threads (Pillow decodes and resizes outside Python's lock); None: one for each
            processor, at most 8.
    """
    if size < 1:
        raise ValueError(f"size must be 1 or more, found {size}")
    workers = workers or min(8, cores())
    pool = ThreadPoolExecutor(workers, thread_name_prefix="pictures")
    waiting: deque[tuple[Item, Future[Made]]] = deque()
    left = iter(items)

    def ask(count: int) -> None:
        for item in islice(left, count):
            waiting.append((item, pool.submit(make, item)))

    try:
        ask(size + 2 * workers)
        while waiting:
            batch: list[tuple[Item, Made]] = []
            while waiting and len(batch) < size:
                item, future = waiting.popleft()
                ask(1)
                batch.append((item, future.result()))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


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

    def made(index: int) -> NDArray[np.float32] | TorrefyError:
        try:
            picture = examples.picture(index, preprocessor.colour)
            if versions is not None:
                return preprocessor.versions(picture, versions)
            return preprocessor(picture)
        except (PictureError, RecordError) as error:
            return error.within(place=examples.place(index))

    for batch in made_ahead(rows, made, size):
        yield _read(batch, preprocessor, versions)


def _read(
    found: Sequence[tuple[int, NDArray[np.float32] | TorrefyError]],
    preprocessor: Preprocessor,
    versions: Versions | None,
) -> Read:
    good = [(row, one) for row, one in found if not isinstance(one, TorrefyError)]
    bad = {row: one for row, one in found if isinstance(one, TorrefyError)}
    shape = preprocessor.shape if versions is None else (len(versions), *preprocessor.shape)
    pictures = np.stack([one for _, one in good]) if good else np.zeros((0, *shape), np.float32)
    return Read([row for row, _ in found], [row for row, _ in good], pictures, bad)
