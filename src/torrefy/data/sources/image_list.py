"""Lists of pictures: a line for each, its file and its class."""

from __future__ import annotations

import stat
from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from torrefy.data.pictures import SUFFIXES, read_picture
from torrefy.data.resize import averaged, covering, resize
from torrefy.data.sources.source import Item, Source, label_of
from torrefy.errors import DataError, PictureError, Place, Problem, nearest_file
from torrefy.schema.source import kind_of

MOST_PROBLEMS = 10
"""The wrong lines of a list that are told."""


class Listed(NamedTuple):
    """Where a list names its pictures."""

    file: str
    lines: Sequence[int]
    """Of each picture, from 1."""

    def place(self, index: int) -> Place:
        """The line of a picture."""
        return Place(self.file, self.lines[index], 1)


class PictureSource(Source):
    """Pictures in files, and a label for each, read and resized as Caffe's ImageData does."""

    def __init__(
        self,
        files: Sequence[str],
        labels: Sequence[float],
        *,
        size: tuple[int, int] | None = None,
        colour: str = "BGR",
        shuffle: bool = False,
        rand_skip: int = 0,
        listed: Listed | None = None,
        resampling: str = "OPENCV",
        keep_aspect: bool = False,
    ) -> None:
        """Take the names of files, which are read when an item is.

        Args:
            files: the names.
            labels: one for each.
            size: height and width that pictures are resized to whatever their aspect; None: as
                they are.
            colour: "BGR", "RGB" or "GRAY".
            shuffle: whether each epoch has an order of its own.
            rand_skip: below how many items are passed over at the start, by chance.
            listed: where each is named; None: they were found in a folder.
            resampling: how they are resized: as Caffe's OpenCV does, or "PILLOW_BILINEAR", ….
            keep_aspect: whether they are made so large that they cover the size.
        """
        self.files = files
        self.labels = np.asarray(labels, np.float32)
        self.size = size
        self.colour = colour
        self.shuffle = shuffle
        self.rand_skip = rand_skip
        self.listed = listed
        self.resampling = resampling
        self.keep_aspect = keep_aspect

    def __len__(self) -> int:
        return len(self.files)

    def key(self, index: int) -> str:
        """The picture's file."""
        return self.files[index]

    def place(self, index: int) -> Place:
        """The line of the list, or the file."""
        return super().place(index) if self.listed is None else self.listed.place(index)

    def read(self, index: int) -> NDArray[np.uint8]:
        """The picture as H×W×C bytes, in its own size.

        Raises:
            PictureError: it can't be read.
        """
        try:
            return read_picture(self.files[index], self.colour, streams=False)
        except PictureError as error:
            raise error if self.listed is None else named_at(self.place(index), error) from None

    def item(self, index: int) -> Item:
        """C×H×W bytes, and the label."""
        return self.resized(self.read(index)).transpose(2, 0, 1), label_of(self.labels[index])

    def resized(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture of H×W×C bytes in the size that is asked for."""
        if self.size is None:
            return picture
        height, width = self.size
        if self.keep_aspect:
            width, height = covering(picture.shape[1], picture.shape[0], width, height)
        if self.resampling == "OPENCV":
            return resize(picture, height, width)
        return averaged(picture, height, width, self.resampling.removeprefix("PILLOW_"))


def named_at(place: Place, error: PictureError) -> PictureError:
    """The error of a picture that a text names, told there."""
    return PictureError(
        [replace(p, place=place, message=f"{p.place}: {p.message}") for p in error.problems]
    )


def read_list(path: Path | str) -> tuple[list[str], list[int], Listed]:
    """The names and classes of a list, lines of `name class` split at the last space; their places.

    A name may hold spaces. Empty lines are passed over. Caffe takes 0 where the class is no
    number; here it is an error.

    Raises:
        DataError: the list can't be read, is empty, or has lines without a whole number at the
            end; the first MOST_PROBLEMS are told.
    """
    names, labels, problems = [], [], []
    lines = array("I")
    for number, line in enumerate(text_lines(path), 1):
        if not line.strip():
            continue
        name, _, label = line.rstrip().rpartition(" ")
        try:
            labels.append(int(label))
            names.append(name)
            lines.append(number)
            if not name:
                raise ValueError
        except ValueError:
            problems.append(
                Problem(
                    f'expected a picture and its class ("cat.jpg 3"), found "{line.strip()[:80]}"',
                    Place(str(path), number, 1),
                )
            )
            if len(problems) == MOST_PROBLEMS:
                break
    if problems:
        raise DataError(problems)
    if not names:
        raise DataError("the list is empty", place=Place(str(path)))
    return names, labels, Listed(str(path), lines)


def text_lines(path: Path | str) -> list[str]:
    """The lines of a list. Bytes that are not UTF-8 stay what they are, as names of files may.

    Raises:
        DataError: no such file, a folder, or surely no text.
    """
    path = Path(path)
    place = Place(str(path))
    try:
        if stat.S_ISCHR(path.stat().st_mode):
            raise DataError("this is a device, not a list", place=place)
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError("no such file", place=place, hint=nearest_file(path)) from None
    except IsADirectoryError:
        raise DataError("this is a folder, not a list", place=place) from None
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror}", place=place) from None
    kind = kind_of(data[:4096])
    if kind:
        raise DataError(f"this is {kind}, not a list", place=place)
    return data.decode("utf-8-sig", "surrogateescape").splitlines()


def find_classes(folder: Path | str) -> tuple[list[str], list[str], list[int]]:
    """The pictures below a folder that has a sub-folder for each class.

    Classes are the sub-folders in the order of their names; pictures may lie deeper within. What
    is hidden is passed over.

    Returns:
        The classes, the files, and each file's class.

    Raises:
        DataError: no such folder, no sub-folder, or one without pictures.
    """
    folder = Path(folder)
    place = Place(str(folder))
    try:
        classes = sorted(
            entry.name
            for entry in folder.iterdir()
            if entry.is_dir() and not entry.name.startswith(".")
        )
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror}", place=place) from None
    if not classes:
        raise DataError(
            "there is no folder in this folder", place=place, hint="Give one for each class."
        )
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(
            str(path)
            for path in (folder / name).rglob("*")
            if path.name.lower().endswith(SUFFIXES)
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        )
        if not found:
            raise DataError(
                "there is no picture in this folder",
                place=Place(str(folder / name)),
                hint=f'Each folder in "{folder}" is a class: move away what is none.',
            )
        files.extend(found)
        labels.extend([label] * len(found))
    return classes, files, labels


def list_source(path: Path | str, root: str = "", **options: Any) -> PictureSource:
    """The pictures of a list, or of a folder with a sub-folder for each class.

    Args:
        path: the list, or the folder.
        root: what is put before each name as it is, as in Caffe: "images/" with its slash.
        options: as `PictureSource`.
    """
    if Path(path).is_dir():
        _, files, labels = find_classes(path)
        return PictureSource(files, labels, **options)
    names, labels, listed = read_list(path)
    return PictureSource([root + name for name in names], labels, listed=listed, **options)
