"""The plots of a report: confusion, predictions against the truth, curves of several phases."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from torrefy.finetune.lettering import font_for, shown
from torrefy.finetune.metrics import Confusion, Judged
from torrefy.train.history import History, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_DRAWN = 50
"""Classes up to which a confusion matrix is drawn."""
MOST_COUNTED = 20
"""Classes up to which its cells have their numbers."""
MOST_COLUMNS = 6
"""Columns of numbers that are drawn."""
MOST_DOTS = 5000
LABEL = 26
"""Letters of a name along an axis."""
RIGHT, WRONG = (1, 102, 94), (191, 84, 16)
"""The colours of what is right and what is wrong: as in curves, told apart in grey, too."""
NONE = (236, 236, 238)


def draw_confusion(confusion: Confusion) -> bytes:
    """A confusion matrix as a PNG: a row for each true class, a column for each guess.

    A cell's colour is its share of the row, by its root, so that rare mistakes are seen. Names that
    no font has are numbers, as in the table of classes; rows without pictures are grey.
    """
    count = len(confusion.classes)
    matrix = confusion.matrix()
    sums = matrix.sum(1, keepdims=True)
    share = np.sqrt(matrix / np.maximum(sums, 1))[..., np.newaxis]
    colours = np.where(np.eye(count, dtype=bool)[..., np.newaxis], RIGHT, WRONG)
    cells = np.where(sums[..., np.newaxis] > 0, 255 * (1 - share) + colours * share, NONE)
    labels = labelled(confusion.classes)
    side = 0.48 if count <= MOST_COUNTED else 0.24
    figure, axes = _figure(2.6 + side * count, 2.2 + side * count)
    axes.imshow(cells.astype(np.uint8), interpolation="nearest")
    size = 9 if count <= MOST_COUNTED else 7
    for axis, rotation in ((axes.set_xticks, 90), (axes.set_yticks, 0)):
        axis(
            range(count), labels=labels, rotation=rotation, parse_math=False, **_font(labels, size)
        )
    axes.set_xlabel("guessed")
    axes.set_ylabel("true")
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#dddddd", linewidth=0.5)
    axes.tick_params(which="both", length=0)
    if count <= MOST_COUNTED:
        for truth, guess, number in confusion.pairs:
            dark = share[truth, guess, 0] > 0.6
            axes.text(
                guess, truth, str(number), ha="center", va="center",
                color="white" if dark else "black", fontsize=9 if number < 10000 else 6,
            )  # fmt: skip
    return _png(figure)


def labelled(names: Sequence[str]) -> list[str]:
    """Names as they stand along an axis, cut short; numbers where no font has all letters.

    Two names that are alike when cut short have their numbers, too.
    """
    whole = [shown(name) for name in names]
    if font_for(whole) is None:
        return [str(number) for number in range(len(names))]
    cut = [name if len(name) <= LABEL else name[: LABEL - 1] + "…" for name in whole]
    seen = {name for name in cut if cut.count(name) > 1}
    return [
        f"{number} {name[: LABEL - 4]}" if name in seen else name for number, name in enumerate(cut)
    ]


def draw_predictions(judged: Judged) -> bytes:
    """What is predicted over what is true, as a PNG; of many columns the first six."""
    columns = min(len(judged.classes), MOST_COLUMNS)
    across = min(columns, 3)
    down = -(-columns // across)
    figure, _ = _figure(4 * across, 3.8 * down, axes=False)
    step = -(-len(judged) // MOST_DOTS)
    for i, axes in enumerate(figure.subplots(down, across, squeeze=False).flat):
        if i >= columns:
            axes.set_axis_off()
            continue
        truth, guess = judged.truth[::step, i], judged.scores[::step, i]
        ends = [float(min(truth.min(), guess.min())), float(max(truth.max(), guess.max()))]
        axes.plot(ends, ends, color="#8c8c90", linewidth=1)
        axes.scatter(truth, guess, s=14, color=_hex(RIGHT), alpha=0.6, linewidths=0)
        name = labelled(judged.classes[i : i + 1])
        if name == ["0"] != list(judged.classes[i : i + 1]):
            name = [f"column {i}"]
        axes.set_title(name[0], parse_math=False, **_font(name, 10))
        axes.set_xlabel("true")
        axes.set_ylabel("predicted")
        axes.grid(alpha=0.3)
    return _png(figure)


def joined(histories: Mapping[str, History]) -> History:
    """The histories of phases as one, each beginning where the one before ended."""
    rows: list[Row] = []
    for history in histories.values():
        last = rows[-1] if rows else Row(0, epoch=0.0)
        rows += [
            replace(
                row,
                iteration=row.iteration + last.iteration,
                epoch=row.epoch + last.epoch,
                seconds=row.seconds + last.seconds,
            )
            for row in history
        ]
    return History(rows)


def _figure(width: float, height: float, *, axes: bool = True) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots() if axes else None  # type: ignore[return-value]


def _font(texts: Sequence[str], size: float) -> dict[str, Any]:
    """What makes matplotlib write texts in a font that has their letters."""
    from matplotlib.font_manager import FontProperties

    file = font_for(texts)
    return {"fontproperties": FontProperties(fname=file, size=size) if file else None}


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
