"""Datasets made ready to train on: fetched, verified, and written as a database a split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.create import write_lmdb
from torrefy.data.draws import Draws, named
from torrefy.data.idx import read_idx
from torrefy.data.sources.datum import write_datum
from torrefy.data.sources.lmdb import LMDBSource
from torrefy.errors import DataError, Place
from torrefy.weights.files import replacing
from torrefy.zoo.datasets import FOLDER, Dataset, find_dataset
from torrefy.zoo.sources import Sources

SEED = 1
"""Of the pairs that are drawn."""

Told = Callable[[int], None]


@dataclass(frozen=True)
class Database:
    """An LMDB that is there now."""

    split: str
    path: Path
    records: int
    written: bool
    """Whether it was written now; else it was there before."""


def fetch_dataset(
    name: str, folder: Path | str | None = None, told: Callable[[str, int], Told] | None = None
) -> list[Database]:
    """Fetch a dataset and write an LMDB for each of its splits: `FOLDER/train_lmdb`.

    Records are raw Datum messages of 1×H×W bytes (2×H×W of pairs) in the order of the files,
    keys a number of eight digits. `FOLDER/labels.txt` has the classes, a line each. Each database
    is written whole or not at all; one that is there with as many records is left as it is.

    Args:
        name: the dataset.
        folder: where the databases go; None: `data/NAME` in the working folder.
        told: called with what begins and its number of records; what it returns is called with
            the number done.

    Raises:
        ZooError: no such dataset, or its files can't be had; each source and why is told.
        DataError: a file is not what its declaration says, or a database can't be written.

    Example:
        fetch_dataset("mnist")  # data/mnist/train_lmdb, data/mnist/test_lmdb
    """
    dataset = find_dataset(name)
    target = Path("data", name) if folder is None else Path(folder)
    of = find_dataset(dataset.message.pairs_of) if dataset.message.pairs_of else dataset
    with Sources(of.name, of.path.parent, kind=FOLDER) as sources:
        files = {split.name: _Files(of, split, sources) for split in of.message.split}
        found = [
            _database(dataset, split, files[split.name], target, told)
            for split in dataset.message.split
        ]
    if dataset.message.label:
        with replacing(target / "labels.txt") as file:
            file.write("".join(f"{label}\n" for label in dataset.message.label).encode())
    return found


@dataclass(frozen=True)
class _Files:
    """A split's files, fetched when they are read."""

    dataset: Dataset
    split: Any
    sources: Sources

    def read(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The pictures, N×H×W, and their labels."""
        name, items = self.split.name, self.split.items
        path, _ = self.sources.get(self.split.pictures, f"{name} pictures")
        pictures = read_idx(path, items, 3)
        path, _ = self.sources.get(self.split.labels, f"{name} labels")
        labels = read_idx(path, items, 1)
        classes = len(self.dataset.message.label)
        if classes and labels.max() >= classes:
            raise DataError(
                f"a label is {labels.max()}, and there are {classes} classes",
                place=Place(str(path)),
            )
        return pictures, labels


def _database(
    dataset: Dataset,
    split: Any,
    files: _Files,
    folder: Path,
    told: Callable[[str, int], Told] | None,
) -> Database:
    path = folder / f"{split.name}_lmdb"
    if path.exists():
        count = len(LMDBSource(path))
        if count != split.items:
            raise DataError(
                f"this holds {count} records, and {dataset.name} has {split.items}",
                place=Place(str(path)),
                hint="Remove it, or give another folder.",
            )
        return Database(split.name, path, count, written=False)
    pictures, labels = files.read()
    if dataset.message.pairs_of:
        records = _pairs(pictures, labels, split)
    else:
        records = _singles(pictures, labels)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"can't be made: {error.strerror}", place=Place(str(folder))) from None
    done = told(path.name, split.items) if told else None
    return Database(split.name, path, write_lmdb(path, _telling(records, done)), written=True)


def _singles(
    pictures: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> Iterator[tuple[bytes, bytes]]:
    for i, (picture, label) in enumerate(zip(pictures, labels.tolist(), strict=True)):
        yield b"%08d" % i, write_datum(picture[np.newaxis], label)


def _pairs(
    pictures: NDArray[np.uint8], labels: NDArray[np.uint8], split: Any
) -> Iterator[tuple[bytes, bytes]]:
    """Two pictures by chance and whether they are of one class, as Caffe's siamese example."""
    seed = named(SEED, split.name)
    for i in range(split.items):
        draws = Draws(seed, i)
        one, other = draws.below(len(pictures)), draws.below(len(pictures))
        alike = int(labels[one] == labels[other])
        yield b"%08d" % i, write_datum(pictures[[one, other]], alike)


def _telling(
    records: Iterator[tuple[bytes, bytes]], told: Told | None
) -> Iterator[tuple[bytes, bytes]]:
    for done, record in enumerate(records, 1):
        yield record
        if told:
            told(done)
