"""Datasets made as folders of pictures: cut out of a few, or taken from a package."""

from __future__ import annotations

import csv
import io
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from torrefy.data.pictures import STORED, decode_picture
from torrefy.errors import DataError, Place, ZooError
from torrefy.zoo.datasets import Dataset, listing
from torrefy.zoo.listing import Entry
from torrefy.zoo.sources import Sources

TABLE = "pictures.csv"
"""The table of a folder that says which pictures belong together."""
WHITE = 255

Picture = tuple[str, NDArray[np.uint8]]
"""A path below the split's folder, and HxWx1, or HxWx3 in BGR."""


def count_pictures(folder: Path) -> int:
    """How many pictures a folder holds that was made here."""
    return sum(1 for _ in folder.rglob("*.png"))


def write_folder(
    dataset: Dataset,
    split: Any,
    sources: Sources,
    target: Path,
    told: Callable[[str, int], Callable[[int], None]] | None = None,
) -> int:
    """Write a split as a folder with one for each class, all of it or nothing.

    Every picture becomes a PNG, grey or RGB; where one is transparent it is laid on white.

    Args:
        dataset: whose split it is.
        split: the message, with `cut` or `listed`.
        sources: where files are had from.
        target: the folder to be made.
        told: called with what begins and the number of pictures; what it returns is called with
            the number done.

    Returns:
        How many there were.

    Raises:
        ZooError: files can't be had.
        DataError: they are not as many pictures as declared, or can't be cut so; the folder is
            there, or can't be written.
        PictureError: one can't be read.
    """
    place = Place(str(target))
    target = target.absolute()
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    entries = listing(dataset, split) if split.HasField("listed") else []
    if entries:
        reading = told("reading the package", len(entries)) if told else None
        sources.get_all(entries, f"{split.name} pictures", reading)
        pictures = _listed(entries, sources)
    else:
        pictures = _cut(split, sources)
    count = 0
    writing = told(f"writing {target.name}", split.items) if told else None
    try:
        part.mkdir(parents=True)
        for name, picture in pictures:
            _write_picture(part / name, picture)
            count += 1
            if writing:
                writing(count)
        if count != split.items:
            raise DataError(
                f"these make {count} pictures, and {split.items} are declared",
                place=dataset.text.place(
                    "split", list(dataset.message.split).index(split), "items"
                ),
            )
        if split.listed.grouped:
            (part / TABLE).write_text(_table(entries), encoding="utf-8")
        part.rename(target)
    except OSError as error:
        raise DataError(f"can't be written: {error.strerror}", place=place) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return count


def _listed(entries: list[Entry], sources: Sources) -> Iterator[Picture]:
    for entry in entries:
        yield entry.name, _read(sources.path(entry))


def _cut(split: Any, sources: Sources) -> Iterator[Picture]:
    for cut in split.cut:
        path, source = sources.get(cut.picture, f"{split.name} pictures")
        whole = _read(path)
        height, width = whole.shape[:2]
        right = cut.left + cut.width if cut.width else width
        bottom = cut.top + cut.height if cut.height else height
        if not (cut.left < right <= width and cut.top < bottom <= height):
            raise DataError(
                f"columns {cut.left} to {right} and rows {cut.top} to {bottom} can't be taken of "
                f"a picture of {width}x{height}",
                place=Place(str(path)),
            )
        stem = PurePosixPath(source.url.rpartition("/")[2]).stem
        tall, wide = cut.patch or bottom - cut.top, cut.patch or right - cut.left
        for top in range(cut.top, bottom - tall + 1, tall):
            for left in range(cut.left, right - wide + 1, wide):
                name = f"{cut.label}/{stem}_{top:04}_{left:04}.png"
                yield name, whole[top : top + tall, left : left + wide]


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ZooError(f"{path}: can't be read: {error.strerror}") from None
    return decode_picture(data, Place(str(path)), STORED, background=WHITE)


def _write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    seen = picture[..., 0] if picture.shape[2] == 1 else picture[..., ::-1]
    with path.open("xb") as file:
        Image.fromarray(np.ascontiguousarray(seen)).save(file, "PNG")


def _table(entries: list[Entry]) -> str:
    with io.StringIO() as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("picture", "label", "group"))
        writer.writerows((entry.name, entry.label, entry.group) for entry in entries)
        return file.getvalue()
