"""The learning-rate range test: which rate a training can stand."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torrefy.errors import TorrefyError
from torrefy.train.callbacks import Callback
from torrefy.weights.files import replacing

if TYPE_CHECKING:
    from torch import Tensor

    from torrefy.train.solver import Solver

LOWEST, HIGHEST, UPDATES = 1e-6, 1.0, 100
WORSE = 4.0
"""How many times its lowest value the loss may come to before the test ends."""
BELOW = 10.0
"""How far below the rate of the lowest loss a training is stable."""


@dataclass(frozen=True)
class RateTest:
    """What each rate did to the loss."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    """Smoothed: each counts 0.05 on those before it."""
    rate: float
    """The rate to train with: a tenth of that at which the loss was lowest."""

    def write(self, folder: Path) -> None:
        """Write lr.csv and lr.png.

        Raises:
            TorrefyError: they can't be written.
        """
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["lr", "loss"])
        table.writerows(zip(self.rates, self.losses, strict=True))
        with replacing(folder / "lr.csv") as file:
            file.write(text.getvalue().encode())
        with replacing(folder / "lr.png") as file:
            file.write(self.draw())

    def draw(self) -> bytes:
        """The losses over the rates, as a PNG."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.plot(self.rates, self.losses, color="#01665e")
        axes.axvline(self.rate, color="#8c510a", linestyle="--")
        axes.annotate(f" {self.rate:.2g}", (self.rate, max(self.losses)), color="#8c510a", va="top")
        axes.set(xscale="log", xlabel="rate", ylabel="loss, smoothed")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        return buffer.getvalue()


class _Rising(Callback):
    """Lets the rate rise from update to update, and keeps the losses."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._mean = 0.0

    def on_gradients_ready(self, solver: Solver) -> None:
        """Set the rate."""
        done = len(self.rates) / (UPDATES - 1)
        self.rates.append(LOWEST * (HIGHEST / LOWEST) ** done)
        for group in solver.optimizer.param_groups:
            group["lr"] = self.rates[-1]

    def on_update(self, solver: Solver, loss: Tensor) -> None:
        """Keep the loss; end where it has grown too much."""
        self._mean = 0.95 * self._mean + 0.05 * float(loss)
        self.losses.append(self._mean / (1 - 0.95 ** len(self.rates)))
        if not math.isfinite(self.losses[-1]) or self.losses[-1] > WORSE * min(self.losses):
            solver.finish("the loss has grown")


def find_rate(solver: Solver) -> RateTest:
    """Train with a rate that rises from 1e-6 to 1 (Smith 2015, arXiv:1506.01186).

    Args:
        solver: made without `check_loss`; its params are changed.

    Raises:
        TorrefyError: the loss is no number from the beginning.
    """
    rising = _Rising()
    solver.callbacks.all.append(rising)
    tested, solver.parameter.test_interval = solver.parameter.test_interval, 0
    kept, solver.parameter.snapshot = solver.parameter.snapshot, 0
    solver.step(UPDATES)
    solver.parameter.test_interval, solver.parameter.snapshot = tested, kept
    losses = [loss for loss in rising.losses if math.isfinite(loss)]
    if len(losses) < UPDATES // 10:
        raise TorrefyError("no rate can be found: the loss is no number after a few updates")
    return RateTest(tuple(rising.rates[: len(losses)]), tuple(losses), _best(rising.rates, losses))


def _best(rates: Sequence[float], losses: Sequence[float]) -> float:
    lowest: Any = min(range(len(losses)), key=losses.__getitem__)
    return float(f"{rates[lowest] / BELOW:.2g}")
