"""Pictures as a data layer would give them to the net, to be looked at before a training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from torrefy.data.augment.augmentation import Sample
from torrefy.data.augment.pipeline import Augmenter
from torrefy.data.augment.read import augmentation_problems
from torrefy.data.augment.targets import GONE
from torrefy.data.draws import Draws, mixed, named
from torrefy.data.open import open_source, open_transform, source_types
from torrefy.data.sources.source import Source
from torrefy.data.statistics import as_image
from torrefy.data.transform import Transformer, View
from torrefy.errors import DataError, Place, TorrefyError, did_you_mean
from torrefy.graph import state_of
from torrefy.schema import Definition

TILE, GAP, LINE = 208, 8, 14
"""Pixels: a picture's place, what is between two, a caption's line."""
MARK = (255, 0, 128)
"""The colour of points and boxes."""
TIED = "\u00a0"
"""A blank at which a caption is not broken."""


def data_layer(definition: Definition, name: str = "") -> Any:
    """The layer whose pictures a net is trained with.

    Args:
        definition: the net's, upgraded.
        name: the layer's; empty: the first that reads data in phase train.

    Raises:
        DataError: there is none, or what it says of augmentation is wrong, with the places.
    """
    message = definition.message
    state, types = state_of(message, "train"), source_types()
    found = {
        layer.name: i
        for i, layer in reversed(list(enumerate(message.layer)))
        if layer.type in types and state.keeps(layer)
    }
    if not found or (name and name not in found):
        told = f'no layer "{name}" reads data' if name else "no layer reads data"
        raise DataError(
            f"{told} in phase train", place=definition.place(), hint=did_you_mean(name, found)
        )
    index = found[name] if name else min(found.values())
    problems = augmentation_problems(definition, index)
    if problems:
        raise DataError(problems)
    return message.layer[index]


def preview(layer: Any, *, versions: int = 8, pictures: int = 4, seed: int = 0) -> Image.Image:
    """A sheet of a layer's pictures: each in a column, above as it is, below as the net sees it.

    What the net sees is shown augmented, cropped and mirrored, before the mean and the scale; with
    what was drawn. Points and boxes that move with the picture are marked.

    Args:
        layer: the data layer's LayerParameter.
        versions: how many of each picture.
        pictures: how many pictures, the first of the data.
        seed: of what is drawn, as a solver's random_seed.

    Raises:
        TorrefyError: the data can't be read, or a picture can't be augmented so.
    """
    source = open_source(layer, "train")
    transform = open_transform(layer, "train")
    if not isinstance(transform, Transformer):
        raise DataError(
            f"what a layer of the type {layer.type} does to its items is not shown",
            layer=layer.name,
        )
    chance = mixed(named(seed, layer.name), 3)  # as the loader's
    columns = []
    for column in range(min(pictures, len(source))):
        with_key = _Keyed(source, column)
        tiles = [with_key.original(transform)]
        for version in range(versions):
            draws = Draws(chance, column + version * len(source))
            tiles.append(with_key.seen(transform, draws))
        columns.append(tiles)
    source.close()
    return _sheet(columns)


class _Keyed:
    """One item of a source, whose errors name it."""

    def __init__(self, source: Source, index: int) -> None:
        self.key = source.key(index)
        self.item = source.item(index)
        as_image(self.item[0], Place(self.key))

    def original(self, transform: Transformer) -> tuple[Image.Image, list[str]]:
        """The picture as it is stored, and its key."""
        tracked = transform.augmenter.tracked if transform.augmenter else []
        sample = Augmenter([], tracked=tracked).item(self.item, Draws(0, 0))
        height, width = sample.size
        return _tile(sample, self.key), [self.key, f"{width}x{height}"]

    def seen(self, transform: Transformer, draws: Draws) -> tuple[Image.Image, list[str]]:
        """The picture as the net sees it, and what was drawn."""
        try:
            view = transform.view(self.item, draws)
        except TorrefyError as error:
            raise error.within(place=Place(self.key)) from None
        return _tile(view.sample, self.key), list(_told(view, transform))


def _told(view: View, transform: Transformer) -> Iterator[str]:
    for name, drawn in view.sample.drawn:
        if drawn is None:
            yield f"{name}: not done"
        else:
            numbers = ", ".join(f"{what}{TIED}{_number(value)}" for what, value in drawn.items())
            yield f"{name}: {numbers}" if numbers else name
    if transform.crop:
        yield f"crop_size: left {view.left}, top {view.top}"
    if transform.mirror:
        yield "mirror: mirrored" if view.mirrored else "mirror: not mirrored"


def _number(value: float) -> str:
    return f"{value:.0f}" if value.is_integer() else f"{value:.4g}"


def _tile(sample: Sample, key: str) -> Image.Image:
    """A picture within TILE x TILE, with its points and boxes."""
    image = as_image(sample.picture, Place(key))
    factor = TILE / max(image.size)
    if factor >= 1:
        factor = float(int(factor))
        size = (int(image.width * factor), int(image.height * factor))
        image = image.resize(size, Image.Resampling.NEAREST)
    else:
        image.thumbnail((TILE, TILE))
    pen = ImageDraw.Draw(image)
    for target in sample.targets:
        if target.kind == "MASK":
            continue
        kept = target.values[(target.values != GONE).any(axis=1)]
        for one in kept[np.isfinite(kept).all(axis=1)]:
            if target.kind == "BOXES":
                pen.rectangle([float(v) * factor for v in one], outline=MARK, width=2)
            else:
                x, y = (float(v) * factor + factor / 2 for v in one)
                pen.ellipse([x - 2, y - 2, x + 2, y + 2], fill=MARK)
    return image


def _sheet(columns: list[list[tuple[Image.Image, list[str]]]]) -> Image.Image:
    """Columns of tiles with their captions, rows aligned."""
    font = ImageFont.load_default(12)
    wrapped = [
        [(image, [part for line in lines for part in _wrapped(line, font)]) for image, lines in c]
        for c in columns
    ]
    rows = list(zip(*wrapped, strict=True))
    heights = [
        max(image.height for image, _ in row) + LINE * max(len(lines) for _, lines in row)
        for row in rows
    ]
    sheet = Image.new(
        "RGB",
        (GAP + len(columns) * (TILE + GAP), GAP + sum(height + 2 * GAP for height in heights)),
        "white",
    )
    pen = ImageDraw.Draw(sheet)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        highest = max(image.height for image, _ in row)
        for i, (image, lines) in enumerate(row):
            left = GAP + i * (TILE + GAP)
            sheet.paste(image, (left, top))
            for number, line in enumerate(lines):
                place = (left, top + highest + 2 + number * LINE)
                pen.text(place, line.replace(TIED, " "), fill="black", font=font)
        top += height + 2 * GAP
    return sheet


def _wrapped(line: str, font: Any) -> Iterator[str]:
    """Lines that fit under a tile; broken between words, or within one that is too long."""
    made = ""
    for word in line.split(" "):
        longer = f"{made} {word}" if made else word
        if made and font.getlength(longer) > TILE:
            yield made
            longer = f"  {word}"
        while font.getlength(longer) > TILE:
            cut = next(n for n in range(len(longer), 0, -1) if font.getlength(longer[:n]) <= TILE)
            yield longer[:cut]
            longer = longer[cut:]
        made = longer
    yield made
