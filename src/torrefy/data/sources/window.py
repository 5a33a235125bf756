"""Windows of pictures, labelled by their overlap with objects: R-CNN's data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from torrefy.data.draws import Draws, mixed
from torrefy.data.order import Order
from torrefy.data.pictures import read_picture
from torrefy.data.resize import resize
from torrefy.data.sources.image_list import named_at, text_lines
from torrefy.data.sources.source import Item, Source, label_of
from torrefy.errors import DataError, PictureError, Place, RecordError

MOST_PIXELS = 1 << 31
"""What a window's edges are below."""


class Window(NamedTuple):
    """One window: its picture, class, and first and last column and row."""

    file: str
    label: int
    x1: int
    y1: int
    x2: int
    y2: int
    line: int = 0
    """Of the window file."""


class WindowSource(Source):
    """Windows that lie on objects (foreground) and ones that don't (background).

    An item is the whole picture as 3×H×W bytes, the label, and the window's x1, y1, x2, y2;
    `WindowTransformer` makes of it what the net sees. Background windows have label 0. In each
    batch the background windows come first, then `fg_fraction` of it, rounded down, from the
    foreground; each is drawn from all of its kind.
    """

    def __init__(
        self,
        foreground: Sequence[Window],
        background: Sequence[Window],
        fg_fraction: float,
        path: Path | str = "",
    ) -> None:
        """Take the windows of both kinds, and the file that they are from."""
        self.foreground = list(foreground)
        self.background = list(background)
        self.fg_fraction = fg_fraction
        self.path = str(path)

    def __len__(self) -> int:
        return len(self.background) + len(self.foreground)

    def window(self, index: int) -> Window:
        """A window; background windows have the first numbers."""
        first = len(self.background)
        return self.background[index] if index < first else self.foreground[index - first]

    def key(self, index: int) -> str:
        """The window's picture and place."""
        window = self.window(index)
        return f"{window.file} (window {window.x1} {window.y1} {window.x2} {window.y2})"

    def item(self, index: int) -> Item:
        """The picture, the label, and the window."""
        window = self.window(index)
        try:
            picture = read_picture(window.file, streams=False).transpose(2, 0, 1)
        except PictureError as error:
            raise error if not window.line else named_at(self.place(index), error) from None
        box = (window.x1, window.y1, window.x2, window.y2)
        return picture, label_of(window.label), np.array(box, np.int64)

    def place(self, index: int) -> Place:
        """The line of the window file."""
        line = self.window(index).line
        return Place(self.path, line, 1) if line else super().place(index)

    def instead(self, index: int) -> int:
        """The next window of the same kind."""
        first = len(self.background)
        if index < first:
            return (index + 1) % first
        return first + (index + 1 - first) % len(self.foreground)

    def order(self, seed: int, batch_size: int) -> Order:
        """Drawn batch by batch.

        Raises:
            DataError: a batch takes windows of a kind that there is none of.
        """
        drawn = WindowOrder(len(self.background), len(self.foreground), 0, seed)
        drawn.fill(batch_size, self.fg_fraction)
        return drawn


class WindowOrder:
    """Draws windows: `fresh` of each batch from the foreground, the others from the background."""

    def __init__(self, background: int, foreground: int, batch_size: int, seed: int) -> None:
        self.background, self.foreground = background, foreground
        self.batch_size = batch_size
        self.first = 0
        self.seed = mixed(seed, 2)

    def fill(self, batch_size: int, fg_fraction: float) -> None:
        """Say how a batch is made up."""
        fresh = int(np.float32(batch_size) * np.float32(fg_fraction))
        self.batch_size = batch_size
        self.first = batch_size - fresh
        for count, have, kind, field in (
            (fresh, self.foreground, "foreground", "fg_threshold"),
            (self.first, self.background, "background", "bg_threshold"),
        ):
            if count and not have:
                raise DataError(
                    f"a batch takes {count} {kind} windows, but there is none",
                    hint=f"Look at {field} and fg_fraction.",
                )

    def index(self, position: int) -> int:
        """The window at a position."""
        draws = Draws(self.seed, position)
        if position % self.batch_size < self.first:
            return draws.below(self.background)
        return self.background + draws.below(self.foreground)


class WindowTransformer:
    """Cuts a window out of its picture and warps it, as Caffe's WindowDataLayer.

    The window is widened until `context_pad` pixels of context surround it at crop×crop, and
    with `square` first made a square. It is resized to crop×crop; where it reaches beyond the
    picture is 0, after the mean. Half of the windows are mirrored. (Girshick et al. 2014,
    arXiv:1311.2524, appendix A.)
    """

    def __init__(
        self,
        *,
        crop: int,
        context_pad: int = 0,
        square: bool = False,
        scale: float = 1.0,
        mean: NDArray[np.float32] | Sequence[float] = (),
        mirror: bool = False,
    ) -> None:
        """Say what is done.

        Args:
            crop: height and width of what is made.
            context_pad: pixels of context on each side, of the crop's.
            square: whether the window keeps its aspect.
            scale: the factor after the mean.
            mean: an image of at least C×crop×crop, whose centre counts, one value for each
                channel, one for all, or none.
            mirror: whether half of the windows are mirrored.

        Raises:
            DataError: the context leaves nothing of the crop, or the mean image is too small.
        """
        if 2 * context_pad >= crop:
            raise DataError(
                f"context_pad {context_pad} leaves nothing of crop_size {crop} between both sides"
            )
        self.crop = crop
        self.context_pad = context_pad
        self.square = square
        self.scale = np.float32(scale)
        self.mirror = mirror
        array = np.asarray(mean, np.float32)
        if array.ndim == 3:
            height, width = array.shape[1:]
            # Caffe takes the offset of the columns for the rows too: means are squares.
            offset = (width - crop) // 2
            if offset < 0 or height < offset + crop:
                raise DataError(
                    f"the mean image is {width}x{height}, too small for crop_size {crop}"
                )
            self.mean = array[:, offset : offset + crop, offset : offset + crop]
        else:
            self.mean = array.reshape(-1, 1, 1)

    def __call__(self, item: Item, draws: Draws) -> Item:
        """The warped window as C×crop×crop float32, and the label.

        Raises:
            RecordError: the window is empty or leaves the picture, or the picture and the mean
                differ in their channels.
        """
        picture, label, window = item
        channels, height, width = picture.shape
        mirrored = bool(self.mirror and draws.below(2))
        x1, y1, x2, y2 = map(int, window)
        if not (0 <= x1 <= x2 < width and 0 <= y1 <= y2 < height):
            raise RecordError(
                f"the window {x1} {y1} {x2} {y2} is not within the picture of {width}x{height}"
            )
        if len(self.mean) not in (0, 1, channels):
            raise RecordError(f"the mean has {len(self.mean)} channels, the picture {channels}")
        across = down = self.crop
        left = top = 0
        if self.context_pad or self.square:
            wide, high = x2 - x1 + 1, y2 - y1 + 1
            x1, x2, across, left, right = self._span(x1, wide, max(wide, high), width)
            y1, y2, down, top, _ = self._span(y1, high, max(wide, high), height)
            left = right if mirrored else left
            across, down = min(across, self.crop - left), min(down, self.crop - top)
        made = np.zeros((channels, self.crop, self.crop), np.float32)
        if x2 < x1 or y2 < y1 or across < 1 or down < 1:
            return made, label
        cut = picture[:, y1 : y2 + 1, x1 : x2 + 1].transpose(1, 2, 0)
        pixels = resize(cut, down, across).transpose(2, 0, 1)
        if mirrored:
            pixels = pixels[..., ::-1]
        place = (slice(None), slice(top, top + down), slice(left, left + across))
        values = pixels.astype(np.float32)
        if self.mean.size:
            values -= self.mean[place] if self.mean.shape[-1] > 1 else self.mean
        made[place] = values * self.scale
        return made, label

    def _span(
        self, low: int, length: int, longest: int, size: int
    ) -> tuple[int, int, int, int, int]:
        """A window along one axis, widened.

        Args:
            low: its first pixel.
            length: its pixels.
            longest: its pixels along its longer axis.
            size: the picture's pixels.

        Returns:
            Its first and last pixel within the picture, how much of the crop they fill, and how
            much of it lies beyond the picture before and after them.
        """
        # In float32, and halves away from zero, as Caffe's round(Dtype).
        one = np.float32
        factor = one(self.crop) / one(self.crop - 2 * self.context_pad)
        half = one(length) / one(2)
        centre = one(low) + half
        if self.square:
            half = one(longest) / one(2)
        first, last = _round(centre - half * factor), _round(centre + half * factor)
        scale = one(self.crop) / one(last - first + 1)
        before, after = max(0, -first), max(0, last - size + 1)
        first, last = first + before, last - after
        filled, before, after = (
            _round(one(part) * scale) for part in (last - first + 1, before, after)
        )
        return first, last, filled, before, after


def _round(value: np.floating) -> int:
    number = float(value)
    return int(math.copysign(math.floor(abs(number) + 0.5), number))


def read_windows(
    path: Path | str,
    *,
    root: str = "",
    fg_threshold: float = 0.5,
    bg_threshold: float = 0.5,
) -> tuple[list[Window], list[Window]]:
    """The foreground and background windows of a window file.

    For each picture it has `# number`, the file, channels, height, width, the number of windows,
    and for each window a line `class overlap x1 y1 x2 y2`. A window is foreground where its
    overlap is at least fg_threshold, background where it is below bg_threshold, and else unused.

    Args:
        path: the window file.
        root: what is put before each file's name as it is.
        fg_threshold: from which overlap on a window is foreground.
        bg_threshold: below which it is background.

    Raises:
        DataError: the file can't be read or is not of this form; a foreground window has no
            class above 0.
    """
    foreground: list[Window] = []
    background: list[Window] = []
    lines = [(number, line.strip()) for number, line in enumerate(text_lines(path), 1)]
    rest = iter([(number, line) for number, line in lines if line])
    for start, head in rest:
        if not head.startswith("#"):
            raise _wrong(path, start, '"# 0" before a picture', head)
        _, name = _next(rest, path, "the picture's file")
        for what in ("channels", "height", "width"):
            _numbers(_next(rest, path, what), path, what, 1)
        what = "the number of windows"
        (count,) = _numbers(_next(rest, path, what), path, what, 1)
        for _ in range(int(count)):
            number, line = _next(rest, path, "a window")
            what = "class overlap x1 y1 x2 y2"
            label, overlap, *box = _numbers((number, line), path, what, 6)
            if max(map(abs, box)) >= MOST_PIXELS:
                raise _wrong(path, number, what, line)
            x1, y1, x2, y2 = map(int, box)
            window = Window(root + name, int(label), x1, y1, x2, y2, number)
            if overlap >= fg_threshold:
                if window.label < 1:
                    raise _wrong(path, number, "a class above 0 for a foreground window", line)
                foreground.append(window)
            elif overlap < bg_threshold:
                background.append(window._replace(label=0))
    if not foreground and not background:
        raise DataError("there is no window in this file", place=Place(str(path)))
    return foreground, background


def _next(rest: Iterator[tuple[int, str]], path: Path | str, what: str) -> tuple[int, str]:
    for number, line in rest:
        return number, line
    raise DataError(f"the file ends where {what} should be", place=Place(str(path)))


def _numbers(place: tuple[int, str], path: Path | str, what: str, count: int) -> list[float]:
    number, line = place
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        values = []
    if len(values) != count or not all(map(math.isfinite, values)):
        raise _wrong(path, number, what, line)
    return values


def _wrong(path: Path | str, number: int, expected: str, line: str) -> DataError:
    return DataError(f'expected {expected}, found "{line[:80]}"', place=Place(str(path), number, 1))
