"""What one wants to see of statistics: pictures of them, and of what they do."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from torrefy.data.normalise.normaliser import Normaliser
from torrefy.data.normalise.statistics import Statistics

TILE = 96
"""The least height and width of a picture on a sheet, in pixels."""
COMPONENTS = 25
"""How many components are shown."""
SAMPLES = 10
"""How many pictures are shown as they are, and whitened below."""


def draw_pictures(statistics: Statistics, samples: NDArray[np.float32]) -> dict[str, bytes]:
    """PNGs by their files' names.

    - mean.png: the mean picture, where it is within 0..255 or 0..1 as such, else from its least
      value to its greatest.
    - std.png: each pixel's deviation, black being 0 and white the greatest.
    - components.png: the first 25 components in rows, grey being 0, each scaled by its farthest
      value.
    - spectrum.png: the eigenvalues, and what share of the variance the first components have.
    - whitened.png: pictures, and below each what ZCA makes of it, scaled as components.

    The last three are only there where there are components. Of channels other than 3 the first
    is shown.

    Args:
        statistics: what is shown.
        samples: some pictures as they are before normalising, N×C×H×W.
    """
    std = statistics.std
    drawn = {
        "mean.png": _sheet([_as_bytes(statistics.mean)], 1),
        "std.png": _sheet([std * (255 / (float(std.max()) or 1))], 1),
    }
    if statistics.components is None or statistics.eigenvalues is None:
        return drawn
    shown = statistics.components[:COMPONENTS]
    columns = int(np.ceil(np.sqrt(len(shown))))
    drawn["components.png"] = _sheet([_around_grey(one) for one in shown], columns)
    drawn["spectrum.png"] = _spectrum(statistics.eigenvalues, float((std**2).sum()))
    samples = samples[:SAMPLES]
    whitened = Normaliser(statistics, "ZCA")(samples)
    tiles = [*map(_as_bytes, samples), *map(_around_grey, whitened)]
    drawn["whitened.png"] = _sheet(tiles, len(samples))
    return drawn


def _as_bytes(picture: NDArray[Any]) -> NDArray[Any]:
    if picture.min() >= 0 and picture.max() <= 255:
        return picture * 255 if picture.max() <= 1 else picture
    low, high = float(picture.min()), float(picture.max())
    return (picture - low) * (255 / ((high - low) or 1))


def _around_grey(picture: NDArray[Any]) -> NDArray[Any]:
    return 127.5 + picture * (127.5 / (float(np.abs(picture).max()) or 1))


def _sheet(pictures: list[NDArray[Any]], columns: int) -> bytes:
    """C×H×W pictures of 0..255 in rows, each pixel enlarged by a whole number, as a PNG."""
    _, height, width = pictures[0].shape
    factor = max(1, -(-TILE // max(height, width)))
    height, width = height * factor + 2, width * factor + 2
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for index, picture in enumerate(pictures):
        shown = picture[::-1] if len(picture) == 3 else picture[:1].repeat(3, axis=0)
        pixels = np.clip(np.rint(shown), 0, 255).astype(np.uint8).transpose(1, 2, 0)
        tile = Image.fromarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))
        row, column = divmod(index, columns)
        sheet.paste(tile, (column * width + 1, row * height + 1))
    with io.BytesIO() as file:
        sheet.save(file, "PNG")
        return file.getvalue()


def _spectrum(values: NDArray[np.float64], total: float) -> bytes:
    """Eigenvalues on the left, on the right what share of the total they make together."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    numbers = np.arange(1, len(values) + 1)
    left.plot(numbers, values, color="#8c510a")
    left.set_xlabel("component")
    left.set_ylabel("eigenvalue")
    if values.max() > 0:
        left.set_yscale("log", nonpositive="mask")
    right.plot(numbers, 100 * np.cumsum(values) / (total or 1), color="#01665e")
    right.set_xlabel("components")
    right.set_ylabel("% of the variance")
    right.set_ylim(0, 101)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.grid(alpha=0.3)
    with io.BytesIO() as file:
        figure.savefig(file, format="png")
        return file.getvalue()
