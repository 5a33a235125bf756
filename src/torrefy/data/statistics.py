"""What a source holds as a whole: the mean of its pictures, its labels and sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from torrefy.data.sources.source import Source
from torrefy.errors import DataError, PictureError, Place, RecordError


@dataclass
class Summary:
    """What all items of a source have in common, and what not."""

    count: int = 0
    labels: Counter[float] = field(default_factory=Counter)
    shapes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    """How many pictures there are of each CxHxW."""
    bad: dict[str, str] = field(default_factory=dict)
    """The items that can't be read, by their keys, and what is wrong with each."""


def mean_of(source: Source, told: Callable[[int], None] | None = None) -> NDArray[np.float32]:
    """The mean of all pictures of a source, C×H×W, as Caffe's compute_image_mean.

    The mean of each channel, for mean_value, is its mean over H and W.

    Raises:
        RecordError: a picture has another size than the first.
        TorrefyError: an item can't be read.
    """
    total: NDArray[np.float64] | None = None
    for index in range(len(source)):
        picture = source.item(index)[0]
        if total is None:
            total = np.zeros(picture.shape, np.float64)
        if picture.shape != total.shape:
            raise RecordError(
                f"the picture is {_text(picture.shape)}, and the first one {_text(total.shape)}; "
                "a mean image takes pictures of one size",
                place=Place(source.key(index)),
                hint="Resize them, or use mean_value.",
            )
        total += picture
        if told is not None:
            told(index + 1)
    if total is None:
        raise DataError("there is no picture to take the mean of")
    return (total / len(source)).astype(np.float32)


def channel_means(source: Source, told: Callable[[int], None] | None = None) -> NDArray[np.float64]:
    """The mean of each channel over all pixels of all pictures, which may differ in size.

    Raises:
        RecordError: a picture has other channels than the first.
        TorrefyError: an item can't be read.
    """
    total: NDArray[np.float64] | None = None
    pixels = 0
    for index in range(len(source)):
        picture = source.item(index)[0]
        sums = picture.sum(axis=(1, 2), dtype=np.float64)
        if total is not None and len(sums) != len(total):
            raise RecordError(
                f"the picture has {len(sums)} channels, and the first one {len(total)}",
                place=Place(source.key(index)),
            )
        total = sums if total is None else total + sums
        pixels += picture.shape[1] * picture.shape[2]
        if told is not None:
            told(index + 1)
    if total is None:
        raise DataError("there is no picture to take the mean of")
    means: NDArray[np.float64] = total / pixels
    return means


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
            found.bad[source.key(index)] = str(error)
        if told is not None:
            told(index + 1)
    return found


def contact_sheet(
    source: Source, count: int, size: int = 96, columns: int = 10
) -> NDArray[np.uint8]:
    """The first pictures of a source as one, H×W×3 bytes in RGB, each within size×size.

    One that can't be read leaves its place empty.
    Pictures of floats are stretched from their smallest value to their largest; of other than 1
    or 3 channels the first is shown.
    """
    count = min(count, len(source))
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * (size + 2), rows * (size + 2)), "white")
    for index in range(count):
        try:
            picture = source.item(index)[0]
        except (PictureError, RecordError):
            continue
        tile = as_image(picture, source.key(index))
        tile.thumbnail((size, size))
        row, column = divmod(index, columns)
        sheet.paste(tile, (column * (size + 2) + 1, row * (size + 2) + 1))
    return np.asarray(sheet)


def as_image(picture: NDArray[Any], key: str) -> Image.Image:
    """A picture to look at: bytes as they are, floats from their smallest value to their largest.

    Raises:
        DataError: it is none; `key` names it.
    """
    if picture.ndim != 3:
        raise DataError("its items are no pictures", place=Place(key))
    if picture.dtype != np.uint8:
        low, high = float(picture.min()), float(picture.max())
        picture = ((picture - low) * (255 / ((high - low) or 1))).astype(np.uint8)
    shown = picture[::-1] if len(picture) == 3 else picture[:1].repeat(3, axis=0)
    return Image.fromarray(np.ascontiguousarray(shown.transpose(1, 2, 0)))


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
