"""Features by many machines: batches of pictures go to workers of a Ray cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.examples import Examples
from torrefy.errors import DataError, PictureError, Place, TorrefyError
from torrefy.features.extract import Extractor, Part
from torrefy.features.extract import parts as made

ROW, ERROR, PLACE = "torrefy_row", "torrefy_error", "torrefy_place"


class Worker:
    """Opens a model once, and makes features of batches of pictures."""

    def __init__(self, settings: dict[str, Any], examples: Any, first: int, size: int) -> None:
        """Take what `Extractor` takes, the examples or where Ray keeps them, and the batches."""
        import ray
        import torch

        torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
        self.extractor = Extractor(**settings)
        is_kept = isinstance(examples, ray.ObjectRef)
        self.examples: Examples = ray.get(examples) if is_kept else examples
        self.first, self.size = first, size
        self.sample = self.extractor(np.zeros((1, *self.extractor.preprocessor.shape), np.float32))

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, Any]:
        """Features of the pictures of some numbers; of one that can't be read, why."""
        rows = [self.first + int(row) for row in batch["id"]]
        whole: dict[str, NDArray[Any]] = {
            blob: np.zeros((len(rows), *array.shape[1:]), array.dtype)
            for blob, array in self.sample.items()
        }
        errors, places = [""] * len(rows), [""] * len(rows)
        for part in made(self.extractor, self.examples.take(rows), range(len(rows)), self.size):
            for blob, array in part.arrays.items():
                whole[blob][part.good] = array
            for row, error in part.bad.items():
                problem = error.problems[0]
                errors[row], places[row] = problem.message, str(problem.place)
        return {ROW: np.asarray(rows, np.int64), ERROR: errors, PLACE: places, **whole}


def parts(
    settings: dict[str, Any],
    examples: Examples,
    left: range,
    size: int,
    *,
    workers: int = 2,
    address: str | None = None,
) -> Iterator[Part]:
    """Features of pictures in their order, made by workers of a Ray cluster.

    A worker that dies is started again, and what it was at is done again. The files must lie where
    every machine finds them.

    Args:
        settings: what `Extractor` takes, by name.
        examples: the pictures.
        left: their numbers.
        size: pictures to a batch.
        workers: how many there are.
        address: the cluster's: "auto", "ray://host:10001"; None: one on this machine is started.

    Raises:
        DataError: Ray is not installed, or there is no cluster.
    """
    try:
        import ray
        import ray.data
    except ImportError:
        raise DataError(
            "the engine ray needs Ray", hint="pip install 'torrefy[ray]' brings it."
        ) from None
    logging.getLogger("ray").setLevel(logging.ERROR)  # it tells of its plans
    begun = not ray.is_initialized()
    if begun:
        own: dict[str, Any] = {
            "include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR,
        }  # fmt: skip
        if address is None:
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
            own["num_cpus"] = workers + 1
        try:
            ray.init(address, **own)
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            told = str(error).splitlines()[0]
            raise DataError(f"there is no Ray cluster at {address}: {told}") from None
    # Workers begin in other folders, and on a cluster on other machines.
    whole = tuple(str(Path(file).absolute()) for file in examples.files)
    examples = replace(examples, files=whole)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.execution_options.preserve_order = True
        rows = ray.data.range(len(left))
        kept = ray.put(examples)  # as long as this is held, a worker that starts anew finds them
        found = rows.repartition(max(1, -(-len(left) // size))).map_batches(
            Worker,
            batch_size=size,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=1,
            fn_constructor_args=(settings, kept, left.start, size),
        )
        for batch in found.iter_batches(batch_size=None, batch_format="numpy"):
            yield _part(batch)
    finally:
        if begun:
            ray.shutdown()


def _part(batch: dict[str, Any]) -> Part:
    errors, places = list(batch[ERROR]), list(batch[PLACE])
    good = [i for i, error in enumerate(errors) if not error]
    rows = [int(row) for row in batch[ROW]]
    arrays = {
        name: np.asarray(values)[good]
        for name, values in batch.items()
        if name not in (ROW, ERROR, PLACE)
    }
    bad: dict[int, TorrefyError] = {
        row: PictureError(str(error), place=Place(str(place)))
        for row, place, error in zip(rows, places, errors, strict=True)
        if error
    }
    return Part(rows, [rows[i] for i in good], arrays, bad)
