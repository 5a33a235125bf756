"""Datasets made ready to learn from: fetched, verified, and written, each split by itself."""

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
from torrefy.zoo.datasets import ALL, FOLDER, Dataset, find_dataset
from torrefy.zoo.folders import count_pictures, write_folder
from torrefy.zoo.sources import Sources

SEED = 1
"""Of the pairs that are drawn."""

Told = Callable[[int], None]


@dataclass(frozen=True)
class Made:
    """A split that is there now."""

    split: str
    path: Path
    kind: str
    """ "lmdb", or "folder": of pictures, with one for each class."""
    records: int
    written: bool
    """Whether it was written now; else it was there before."""


def fetch_dataset(
    name: str, folder: Path | str | None = None, told: Callable[[str, int], Told] | None = None
) -> list[Made]:
    """Fetch a dataset and write each of its splits: `FOLDER/train_lmdb`, or a folder of pictures.

    Records are raw Datum messages of 1×H×W bytes (2×H×W of pairs) in the order of the files,
    keys a number of eight digits; `FOLDER/labels.txt` has the classes, a line each. Pictures are
    PNGs: `FOLDER/train/CLASS/….png`, of a split called "all" `FOLDER/CLASS/….png`. Each split is
    written whole or not at all; one that is there with as many records is left as it is.

    Args:
        name: the dataset.
        folder: where its splits go; None: `data/NAME` in the working folder.
        told: called with what begins and its number of records; what it returns is called with
            the number done.

    Raises:
        ZooError: no such dataset, or its files can't be had; each source and why is told.
        DataError: a file is not what its declaration says, or a split can't be written.
        PictureError: a picture can't be read.

    Example:
        fetch_dataset("mnist")  # data/mnist/train_lmdb, data/mnist/test_lmdb
        fetch_dataset("textures")  # data/textures/train/brick/brick_0000_0000.png, …
    """
    dataset = find_dataset(name)
    target = Path("data", name) if folder is None else Path(folder)
    if any(split.cut or split.HasField("listed") for split in dataset.message.split):
        with Sources(name, dataset.path.parent, kind=FOLDER) as sources:
            return [
                _folder(dataset, split, sources, target, told) for split in dataset.message.split
            ]
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


def _folder(
    dataset: Dataset,
    split: Any,
    sources: Sources,
    folder: Path,
    told: Callable[[str, int], Told] | None,
) -> Made:
    path = folder if split.name == ALL else folder / split.name
    if path.exists():
        count = count_pictures(path)
        if count != split.items:
            raise _other(dataset, split, path, f"{count} pictures")
        return Made(split.name, path, "folder", count, written=False)
    count = write_folder(dataset, split, sources, path, told)
    return Made(split.name, path, "folder", count, written=True)


def _other(dataset: Dataset, split: Any, path: Path, holds: str) -> DataError:
    return DataError(
        f"this holds {holds}, and {dataset.name} has {split.items}",
        place=Place(str(path)),
        hint="Remove it, or give another folder.",
    )


def _database(
    dataset: Dataset,
    split: Any,
    files: _Files,
    folder: Path,
    told: Callable[[str, int], Told] | None,
) -> Made:
    path = folder / f"{split.name}_lmdb"
    if path.exists():
        count = len(LMDBSource(path))
        if count != split.items:
            raise _other(dataset, split, path, f"{count} records")
        return Made(split.name, path, "lmdb", count, written=False)
    pictures, labels = files.read()
    if dataset.message.pairs_of:
        records = _pairs(pictures, labels, split)
    else:
        records = _singles(pictures, labels)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"can't be made: {error.strerror}", place=Place(str(folder))) from None
    done = told(f"writing {path.name}", split.items) if told else None
    count = write_lmdb(path, _telling(records, done))
    return Made(split.name, path, "lmdb", count, written=True)


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
