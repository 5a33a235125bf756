"""Contact sheets: pictures in a grid, each with a caption."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from torrefy.finetune.lettering import font_for, shown, usual_font

SIZE = 160
"""The side of the square that a picture is fitted into, in pixels."""
COLUMNS = 6
TEXT, LINE, GAP = 12, 15, 10
MOST_LINES = 3
"""The lines that one text of a caption may take."""
INK, PAPER, FRAME = "#1d1d1f", "#ffffff", "#b9b9bd"
TRUE, GUESSED = "#00a88f", "#ff6a00"
"""The colours of marks: where points are, and where they are thought to be."""


@dataclass(frozen=True)
class Tile:
    """A picture of a sheet."""

    picture: NDArray[np.uint8] | None
    """H×W×3 bytes in RGB; None: it can't be read, and is a cross."""
    caption: tuple[str, ...] = ()
    """Lines below it; each is broken where it is too long, and cut short after three lines."""
    truth: NDArray[Any] | None = None
    """P×2: points to ring, as shares of width and height."""
    guess: NDArray[Any] | None = None
    """P×2: points to cross, each tied to that of `truth`."""


def contact_sheet(
    tiles: Iterable[Tile], *, columns: int = COLUMNS, size: int = SIZE
) -> Image.Image:
    """Pictures as one, in RGB: rows of `columns`, each within size×size, its caption below.

    Tiles are taken one by one, and only what is shown of each is held.

    Captions are written in DejaVu Sans, or in a font of the system that has their letters; what
    none has is shown as that font shows it, as a box.
    """
    images, captions = [], []
    for tile in tiles:
        images.append(thumbnail(tile, size))
        captions.append([shown(line) for line in tile.caption])
    columns = max(1, min(columns, len(images)))
    fonts = [_font(lines) for lines in captions]
    broken = [
        [part for line in lines for part in _lines(line, font, size)]
        for lines, font in zip(captions, fonts, strict=True)
    ]
    rows = [range(i, min(i + columns, len(images))) for i in range(0, len(images), columns)]
    heights = [size + 4 + LINE * max(len(broken[i]) for i in row) + GAP for row in rows]
    sheet = Image.new("RGB", (GAP + columns * (size + GAP), GAP + sum(heights)), PAPER)
    pen = ImageDraw.Draw(sheet)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for column, i in enumerate(row):
            left = GAP + column * (size + GAP)
            image = images[i]
            # Fitted pictures stand on their captions.
            sheet.paste(image, (left + (size - image.width) // 2, top + size - image.height))
            for number, line in enumerate(broken[i]):
                pen.text((left, top + size + 4 + number * LINE), line, INK, fonts[i])
        top += height
    return sheet


def thumbnail(tile: Tile, size: int = SIZE) -> Image.Image:
    """A tile's picture within size×size, with its marks; small ones are enlarged."""
    if tile.picture is None:
        image = Image.new("RGB", (size, size), PAPER)
        pen = ImageDraw.Draw(image)
        pen.rectangle((0, 0, size - 1, size - 1), outline=FRAME)
        pen.line((0, 0, size - 1, size - 1), FRAME)
        pen.line((0, size - 1, size - 1, 0), FRAME)
        return image
    image = Image.fromarray(tile.picture)
    factor = size / max(image.size)
    fitted = tuple(max(1, round(side * factor)) for side in image.size)
    # Pixels of a tiny picture are to be seen as pixels.
    kind = Image.Resampling.NEAREST if factor >= 2 else Image.Resampling.LANCZOS
    image = image.resize((fitted[0], fitted[1]), kind, reducing_gap=3.0)
    _mark(image, tile)
    return image


def shrunk(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture, made smaller where it is larger than any tile needs it: many can be held."""
    image = Image.fromarray(picture)
    image.thumbnail((2 * SIZE, 2 * SIZE), reducing_gap=3.0)
    return np.asarray(image)


def as_jpeg(image: Image.Image, quality: int = 82) -> bytes:
    """A picture as a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, optimize=True)
    return file.getvalue()


def as_png(image: Image.Image) -> bytes:
    """A picture as a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _mark(image: Image.Image, tile: Tile) -> None:
    pen = ImageDraw.Draw(image)

    def places(points: NDArray[Any]) -> list[tuple[float, float]]:
        # Far outside is as good as outside; Pillow can't draw everywhere.
        inside = np.clip(points.astype(np.float64), -2, 3)
        return [(x * image.width, y * image.height) for x, y in inside.tolist()]

    true = places(tile.truth) if tile.truth is not None else []
    guessed = places(tile.guess) if tile.guess is not None else []
    if len(true) == len(guessed):
        for one, other in zip(true, guessed, strict=True):
            pen.line((*one, *other), GUESSED, 1)
    r, thick = max(image.size) / 40, max(2, max(image.size) // 80)
    for x, y in true:
        pen.ellipse((x - r, y - r, x + r, y + r), outline=PAPER, width=2 * thick)
        pen.ellipse((x - r, y - r, x + r, y + r), outline=TRUE, width=thick)
    for x, y in guessed:
        for slope in (1, -1):
            pen.line((x - r, y - r * slope, x + r, y + r * slope), GUESSED, thick)


def _font(lines: Sequence[str]) -> ImageFont.FreeTypeFont:
    file: Path = font_for(lines) or usual_font()
    return ImageFont.truetype(str(file), TEXT)


def _lines(text: str, font: ImageFont.FreeTypeFont, width: int) -> Iterator[str]:
    """A text in lines that fit; words that are too long are broken, what is too much is cut."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".lstrip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
            if len(lines) > MOST_LINES:
                break
        if len(lines) > MOST_LINES:
            break
    if len(lines) > MOST_LINES:
        last = lines[MOST_LINES - 1]
        while last and font.getlength(last + "…") > width:
            last = last[:-1]
        lines[MOST_LINES - 1 :] = [last + "…"]
    yield from lines
