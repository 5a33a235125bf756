"""The curves of a training as a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torrefy.train.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAIN, TEST = "#8c510a", "#01665e"
"""The colours of what is trained and of what is tested: told apart in grey, too."""


def draw_curves(history: History, title: str, bounds: Sequence[int] = ()) -> bytes:
    """The curves as a PNG of 1200×500 pixels: on the left losses, on the right what else is tested.

    Where nothing else is tested, the rate is on the right. `bounds` are iterations at which another
    phase of the training began: a line marks each, and curves begin anew.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    losses, others = figure.subplots(1, 2)
    tested = list(dict.fromkeys(name for row in history for name in row.scores))
    of_loss = [name for name in tested if "loss" in name]
    rest = [name for name in tested if name not in of_loss]
    _draw(losses, history, ["train/loss", *of_loss], "loss", bounds)
    positive = [v for line in losses.get_lines() for v in line.get_ydata() if math.isfinite(v)]
    if positive and min(positive) > 0 and max(positive) > 30 * min(positive):
        losses.set_yscale("log")
    _draw(others, history, rest or ["lr"], "" if rest else "lr", bounds)
    for axes in (losses, others):
        for bound in bounds:
            axes.axvline(bound, color="#8c8c90", linestyle="--", linewidth=1)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw(
    axes: Axes, history: History, names: Sequence[str], label: str, bounds: Sequence[int]
) -> None:
    """Lines of some columns over the iterations, broken at bounds; each test's best is marked."""
    for number, name in enumerate(names):
        points = [(row.iteration, row.columns().get(name, math.nan)) for row in history]
        points = [(x, y) for x, y in points if math.isfinite(y)]
        if not points:
            continue
        gaps = [(bound + 0.5, math.nan) for bound in bounds]
        x, y = zip(*sorted([*points, *gaps]), strict=True)
        test = name.startswith("test")
        axes.plot(
            x, y, label=name, color=TEST if test else TRAIN, linewidth=1.5,
            alpha=1 / (1 + number // 2), marker="o" if test or bounds or len(points) == 1 else "",
            markersize=3,
        )  # fmt: skip
        if test:
            best = (max if "accuracy" in name else min)(points, key=lambda point: point[1])
            axes.annotate(
                f"{best[1]:.4g}", best, textcoords="offset points", xytext=(0, 6),
                ha="center", fontsize=8,
            )  # fmt: skip
    axes.set_xlabel("iteration")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    if axes.get_lines():
        axes.legend()
