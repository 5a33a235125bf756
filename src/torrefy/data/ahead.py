"""Examples read ahead by threads, as a net sees them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from os import cpu_count
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.examples import Examples
from torrefy.data.preprocess import Preprocessor
from torrefy.errors import PictureError, RecordError, TorrefyError

if TYPE_CHECKING:
    from torrefy.data.augment.versions import Versions

BATCH = 32
"""Pictures that go through a net together."""


def read_ahead(
    examples: Examples,
    preprocessor: Preprocessor,
    rows: Sequence[int],
    size: int = BATCH,
    *,
    versions: Versions | None = None,
) -> Iterator[list[tuple[int, NDArray[np.float32] | TorrefyError]]]:
    """Pictures as a net sees them, a batch at a time; of one that can't be read, why.

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

    waiting: deque[tuple[int, Future[Any]]] = deque()
    left = iter(rows)
    try:
        batch: list[tuple[int, Any]] = []
        while True:
            while len(waiting) < size + 2 * workers and (row := next(left, None)) is not None:
                waiting.append((row, pool.submit(made, row)))
            if not waiting:
                break
            row, future = waiting.popleft()
            batch.append((row, future.result()))
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)
