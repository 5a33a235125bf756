"""Pictures by number, and what is to be learned of each."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.pictures import decode_picture, grey_of, read_picture
from torrefy.data.sources.datum import DatumSource, read_datum
from torrefy.data.sources.image_list import named_at
from torrefy.errors import DataError, PictureError, Place, RecordError

KINDS = ("classes", "tags", "numbers", "points", "none")
"""What may be known of a picture: one of some classes; any of some tags; numbers; points, x and y
of each; nothing."""
_READING = threading.Lock()
"""Of databases, whose files have one place that is read at; pictures are decoded outside of it."""


@dataclass(frozen=True)
class Examples:
    """Pictures by number, and what is to be learned of each."""

    kind: str
    """One of KINDS."""
    names: tuple[str, ...]
    """What each is called: its path in the folder, as the list has it, or its key."""
    files: tuple[str, ...]
    """Their files; of a database empty."""
    targets: NDArray[Any]
    """N class numbers as int64; N rows of float32 for tags (0 or 1), numbers or points; of "none"
    empty."""
    classes: tuple[str, ...] = ()
    """The names of the classes, or of the targets' columns."""
    groups: tuple[str, ...] = ()
    """What must stay together when they are divided; empty: each stands alone."""
    parts: tuple[str, ...] = ()
    """ "train", "val" or "test" of each, where the data say so; else empty."""
    origin: str = ""
    """The path that they were read from."""
    database: DatumSource | None = None
    """The database that they lie in; None: in files."""
    numbers: tuple[int, ...] = ()
    """Their numbers in the database."""
    lines: tuple[int, ...] = ()
    """The lines that name them in a list or table, from 1."""
    arrays: tuple[NDArray[np.uint8], ...] = ()
    """The pictures themselves, where they are in memory: in RGB, or of one channel."""

    def __len__(self) -> int:
        return len(self.names)

    def place(self, index: int) -> Place:
        """Where an error about a picture points."""
        if self.lines:
            return Place(self.origin, self.lines[index], 1)
        if self.database is not None:
            return self.database.place(self.numbers[index])
        return Place(self.files[index] if self.files else self.names[index])

    def picture(self, index: int, colour: str = "RGB") -> NDArray[np.uint8]:
        """A picture as H×W×C bytes in the order of `colour`: "RGB", "BGR" or "GRAY".

        Raises:
            PictureError, RecordError: it can't be read.
        """
        if self.arrays:
            return _coloured(self.arrays[index], colour)
        if self.database is not None:
            return _stored(self.database, self.numbers[index], colour)
        try:
            return read_picture(self.files[index], colour, streams=False)
        except PictureError as error:
            raise (named_at(self.place(index), error) if self.lines else error) from None

    def take(self, indices: Sequence[int] | NDArray[Any]) -> Examples:
        """Some of them, in that order."""
        rows = [int(i) for i in indices]

        def some(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[i] for i in rows) if values else ()

        return replace(
            self,
            names=some(self.names),
            files=some(self.files),
            targets=self.targets[rows] if len(self.targets) else self.targets,
            groups=some(self.groups),
            parts=some(self.parts),
            numbers=some(self.numbers),
            lines=some(self.lines),
            arrays=some(self.arrays),
        )


def _stored(source: DatumSource, index: int, colour: str) -> NDArray[np.uint8]:
    """A database's picture, as `read_picture` gives one: what is stored is grey or BGR."""
    with _READING:
        record, key = source.record(index), source.key(index)
    array = read_datum(record, lambda: key, source.colour)[0]
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[0] not in (1, 3):
        shape = "x".join(map(str, array.shape))
        raise RecordError(
            f"expected a picture of 1 or 3 channels in bytes, found {shape} of {array.dtype}",
            place=source.place(index),
        )
    return _coloured(array.transpose(1, 2, 0)[..., ::-1], colour)


def _coloured(picture: NDArray[np.uint8], colour: str) -> NDArray[np.uint8]:
    """H×W×3 in RGB, or H×W×1, in other colours."""
    if colour == "GRAY" and picture.shape[2] == 3:
        return grey_of(picture)
    if colour != "GRAY" and picture.shape[2] == 1:
        return np.repeat(picture, 3, axis=2)
    return np.ascontiguousarray(picture[..., ::-1] if colour == "BGR" else picture)


def pixels_of(picture: Any, index: int, colour: str, origin: str = "pictures") -> NDArray[np.uint8]:
    """A picture that a program has in memory as H×W×C bytes in the order of `colour`.

    Args:
        picture: a file's bytes; an array of bytes, H×W×3 in RGB, H×W×1 or H×W; or Pillow's.
        index: its number, for errors.
        colour: "RGB", "BGR" or "GRAY".
        origin: what errors call all of them.

    Raises:
        PictureError: a file's bytes, or Pillow's picture of a file, can't be read.
        DataError: it is something else.
    """
    place = Place(f"{origin}[{index}]")
    if isinstance(picture, bytes):
        return decode_picture(picture, place, colour)
    try:
        return _coloured(_array(picture, index, Place(origin)), colour)
    except OSError as error:  # Pillow reads a file when its pixels are asked for
        raise PictureError(f"the picture is broken: {error}", place=place) from None


def examples_of(pictures: Any, labels: Any = None, *, origin: str = "X") -> Examples:
    """Examples of what a program has: scikit-learn's X and y.

    Args:
        pictures: the names of files; or arrays of bytes, H×W×3 in RGB, H×W×1 or H×W each, all in
            one array or not; or Pillow's pictures.
        labels: a class for each, any that can be sorted; or N×T numbers; None: not known.
        origin: what messages call them.

    Raises:
        DataError: they are something else, none, or labels are more or fewer.
    """
    place = Place(origin)
    if isinstance(pictures, (str, Path, bytes)) or not hasattr(pictures, "__len__"):
        raise DataError("expected a list of pictures", place=place)
    if not len(pictures):
        raise DataError("there are no pictures", place=place)
    files: tuple[str, ...] = ()
    arrays: tuple[NDArray[np.uint8], ...] = ()
    if all(isinstance(one, (str, Path)) for one in pictures):
        names = files = tuple(map(str, pictures))
    else:
        arrays = tuple(_array(one, i, place) for i, one in enumerate(pictures))
        names = tuple(f"{origin}[{i}]" for i in range(len(arrays)))
    kind, targets = "none", np.zeros(0, np.int64)
    classes: tuple[str, ...] = ()
    if labels is not None:
        given = np.asarray(labels)
        if given.ndim not in (1, 2) or len(given) != len(names):
            raise DataError(
                f"{len(names)} pictures, but labels of {'x'.join(map(str, given.shape))}",
                place=place,
            )
        if given.ndim == 1:
            kind = "classes"
            values, targets = np.unique(given, return_inverse=True)
            classes = tuple(map(str, values))
        else:
            kind = "tags" if set(np.unique(given).tolist()) <= {0, 1} else "numbers"
            classes = tuple(str(i) for i in range(given.shape[1]))
            targets = given.astype(np.float32)
    return Examples(kind, names, files, targets, classes, origin=origin, arrays=arrays)


def _array(picture: Any, index: int, place: Place) -> NDArray[np.uint8]:
    if hasattr(picture, "convert"):  # Pillow's
        picture = picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    array = np.asarray(picture)
    array = array[..., np.newaxis] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in (1, 3) or array.dtype != np.uint8 or not array.size:
        shape = "x".join(map(str, array.shape))
        raise DataError(
            f"expected names of files or pictures of HxWx3 bytes, found {array.dtype} of {shape} "
            f"at {index}",
            place=place,
        )
    return array
