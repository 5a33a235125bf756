"""What a source holds as a whole: the mean of its pictures, its labels and sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from torrefy.data.sources.source import Source
from torrefy.errors import DataError, PictureError, Place, RecordError

CAPTION = 14
"""Pixels of a line below a picture on a sheet."""
CROSS = (200, 40, 40)
"""The colour of what is missing from a sheet."""
MOST_TOLD = 20
"""Numbers of a label that are written on a sheet, at most."""


@dataclass
class Summary:
    """What all items of a source have in common, and what not."""

    count: int = 0
    labels: Counter[float] = field(default_factory=Counter)
    shapes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    """How many pictures there are of each CxHxW."""
    bad: dict[str, str] = field(default_factory=dict)
    """Where the items are named that can't be read, and what is wrong with each."""


def mean_of(
    source: Source,
    told: Callable[[int], None] | None = None,
    skipped: dict[str, str] | None = None,
) -> NDArray[np.float32]:
    """The mean of all pictures of a source, C×H×W, as Caffe's compute_image_mean.

    The mean of each channel, for mean_value, is its mean over H and W.

    Args:
        source: the pictures.
        told: called with the number of pictures done.
        skipped: gets where the pictures are named that can't be read, and what is wrong with
            each; None: one is an error.

    Raises:
        RecordError: a picture has another size than the first.
        TorrefyError: an item can't be read, or none can.
    """
    total: NDArray[np.float64] | None = None
    count = 0
    for index, picture in _pictures(source, told, skipped):
        count += 1
        if total is None:
            total = np.zeros(picture.shape, np.float64)
        if picture.shape != total.shape:
            raise RecordError(
                f"the picture is {_text(picture.shape)}, and the first one {_text(total.shape)}; "
                "a mean image takes pictures of one size",
                place=source.place(index),
                hint="Resize them, or use mean_value.",
            )
        total += picture
    if total is None:
        raise DataError("there is no picture to take the mean of")
    return (total / count).astype(np.float32)


def channel_means(
    source: Source,
    told: Callable[[int], None] | None = None,
    skipped: dict[str, str] | None = None,
) -> NDArray[np.float64]:
    """The mean of each channel over all pixels of all pictures, which may differ in size.

    Arguments and errors as `mean_of`, but for sizes: a picture must have the channels of the first.
    """
    total: NDArray[np.float64] | None = None
    pixels = 0
    for index, picture in _pictures(source, told, skipped):
        sums = picture.sum(axis=(1, 2), dtype=np.float64)
        if total is not None and len(sums) != len(total):
            raise RecordError(
                f"the picture has {len(sums)} channels, and the first one {len(total)}",
                place=source.place(index),
            )
        total = sums if total is None else total + sums
        pixels += picture.shape[1] * picture.shape[2]
    if total is None:
        raise DataError("there is no picture to take the mean of")
    means: NDArray[np.float64] = total / pixels
    return means


def _pictures(
    source: Source, told: Callable[[int], None] | None, skipped: dict[str, str] | None
) -> Iterator[tuple[int, NDArray[Any]]]:
    """The pictures of a source by number."""
    for index in range(len(source)):
        try:
            yield index, source.item(index)[0]
        except (PictureError, RecordError) as error:
            if skipped is None:
                raise
            skipped[str(source.place(index))] = str(error)
        if told is not None:
            told(index + 1)


def summarize(source: Source, told: Callable[[int], None] | None = None) -> Summary:
    """Read every item and count labels and sizes; what can't be read is told in the summary."""
    found = Summary(len(source))
    for index in range(len(source)):
        try:
            picture, *rest = source.item(index)
            found.shapes[picture.shape] += 1
            for label in rest[:1]:
                if label.ndim == 0:
                    found.labels[float(label)] += 1
        except (PictureError, RecordError) as error:
            found.bad[str(source.place(index))] = str(error)
        if told is not None:
            told(index + 1)
    return found


def contact_sheet(
    source: Source, count: int, size: int = 96, columns: int = 10, classes: Sequence[str] = ()
) -> NDArray[np.uint8]:
    """The first pictures of a source as one, H×W×3 bytes in RGB, each within size×size.

    Below each stands its label, or its class where `classes` has the names; numbers that don't
    fit are cut short. One that can't be read has a cross.
    Pictures of floats are stretched from their smallest value to their largest; of other than 1
    or 3 channels the first is shown.
    """
    count = min(count, len(source))
    columns = min(columns, count)
    rows = -(-count // columns)
    font = ImageFont.load_default(CAPTION - 3)
    sheet = Image.new("RGB", (columns * (size + 2), rows * (size + 2 + CAPTION)), "white")
    pen = ImageDraw.Draw(sheet)
    for index in range(count):
        row, column = divmod(index, columns)
        left, top = column * (size + 2) + 1, row * (size + 2 + CAPTION) + 1
        try:
            picture, *rest = source.item(index)
        except (PictureError, RecordError):
            right, bottom = left + size - 1, top + size - 1
            pen.line((left, top, right, bottom), CROSS)
            pen.line((left, bottom, right, top), CROSS)
            continue
        tile = as_image(picture, source.place(index))
        tile.thumbnail((size, size))
        sheet.paste(tile, (left, top))
        told = _caption(rest[0], classes) if rest else ""
        while pen.textlength(told, font) > size:
            told = told[:-1]
        pen.text((left, top + size), told, "black", font)
    return np.asarray(sheet)


def as_image(picture: NDArray[Any], place: Place) -> Image.Image:
    """A picture to look at: bytes as they are, floats from their smallest value to their largest.

    Raises:
        DataError: it is none; `place` tells which.
    """
    if picture.ndim != 3:
        raise DataError("its items are no pictures", place=place)
    if picture.dtype != np.uint8:
        low, high = float(picture.min()), float(picture.max())
        picture = ((picture - low) * (255 / ((high - low) or 1))).astype(np.uint8)
    shown = picture[::-1] if len(picture) == 3 else picture[:1].repeat(3, axis=0)
    return Image.fromarray(np.ascontiguousarray(shown.transpose(1, 2, 0)))


def _caption(label: NDArray[Any], classes: Sequence[str]) -> str:
    """A label as it is written below a picture."""
    values = label.flatten().tolist()
    if len(values) == 1 and values[0] in range(len(classes)):
        name = classes[int(values[0])].encode("utf-8", "replace").decode()  # of any folder
        return " ".join(f"{values[0]:g} {name}".split())
    return " ".join(f"{value:g}" for value in values[:MOST_TOLD])


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
