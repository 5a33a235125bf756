"""What a training shows on stderr: Caffe's lines, or a table of its tests with a bar below it."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from torrefy.cli.output import console, one_line
from torrefy.train.callbacks import Callback

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from torch import Tensor

    from torrefy.train.history import Row
    from torrefy.train.solver import Solver

SHOWN = 0.5
"""Seconds between two looks of the bar at the loss, which wait for a GPU."""
MOST_SCORES = 5
"""The table has room for so many outputs of tests."""


class CaffeLines(Callback):
    """Caffe's lines, which its users' scripts read."""

    everywhere = False

    def __init__(self, out: Console) -> None:
        super().__init__()
        self._out = out

    def on_log(self, solver: Solver, line: str) -> None:
        """Print one."""
        self._out.print(one_line(line))


class EpochTable(Callback):
    """The table that users of nolearn know: a row for each test, the best of each column marked.

    Without tests it has a row for each `display`.
    """

    everywhere = False

    def __init__(self, out: Console) -> None:
        super().__init__()
        self._out = out
        self._columns: list[str] = []
        self._best: dict[str, float] = {}
        self._losses: list[tuple[int, float]] = []
        self._begin = 0
        self._row_before = 0.0

    def on_train_begin(self, solver: Solver) -> None:
        """Begin where the training is."""
        self._begin = solver.iteration
        self._row_before = solver.history.rows[-1].seconds if len(solver.history) else 0.0

    def on_row(self, solver: Solver, row: Row) -> None:
        """Print a row."""
        if not math.isnan(row.loss):
            self._losses.append((row.iteration, row.loss))
        if bool(solver.test_nets) != bool(row.scores):
            return
        if not self._columns:
            self._columns = list(row.scores)[:MOST_SCORES]
            self._out.print(self._head(), style="bold")
        self._out.print(self._line(row))

    def _head(self) -> str:
        names = [name.removeprefix("test/") for name in self._columns]
        names = ["valid loss" if name == "loss" else name for name in names]
        ratio = ["train/valid"] if "test/loss" in self._columns else []
        cells = ["iteration", "epoch", "train loss", *names, *ratio, "lr", "images/s", "dur"]
        return "".join(f"{name[:11]:>13}" for name in cells)

    def _line(self, row: Row) -> Any:
        from rich.text import Text

        line = Text(f"{row.iteration:>13}{_number(row.epoch, '.2f'):>13}")
        loss = self._mean_loss()
        line.append(*self._marked("train/loss", loss))
        for name in self._columns:
            line.append(*self._marked(name, row.scores.get(name, math.nan)))
        if "test/loss" in self._columns:
            valid = row.scores.get("test/loss", math.nan)
            line.append(f"{_number(loss / valid if valid else math.nan, '.3f'):>13}")
        line.append(f"{_number(row.lr, '.4g'):>13}{_number(row.speed, '.0f'):>13}")
        line.append(f"{row.seconds - self._row_before:>12.1f}s")
        self._row_before = row.seconds
        return line

    def _mean_loss(self) -> float:
        """The training loss since the row before, from the rows of displays between."""
        ends = [self._begin, *(iteration for iteration, _ in self._losses)]
        counts = [end - begin for begin, end in pairwise(ends)]
        total = sum(n * loss for n, (_, loss) in zip(counts, self._losses, strict=True))
        self._begin = ends[-1]
        self._losses.clear()
        return total / sum(counts) if sum(counts) else math.nan

    def _marked(self, name: str, value: float) -> tuple[str, str]:
        """A cell and its style; the best so far has a star, and a colour where there are any."""
        best = self._best.get(name, math.nan)
        higher = "accuracy" in name
        if not math.isnan(value) and (math.isnan(best) or (value > best) == higher):
            self._best[name] = value
            if value != best:
                return f"{_number(value, '.5f'):>12}*", "green"
        return f"{_number(value, '.5f'):>12} ", ""


class Bar(Callback):
    """A bar on the terminal: iterations, loss, rate, speed and the time that is left."""

    everywhere = False

    def __init__(self, bars: Progress) -> None:
        super().__init__()
        self._bars = bars
        self._shown = 0.0

    def on_train_begin(self, solver: Solver) -> None:
        """Begin where the training is."""
        most = solver.parameter.max_iter
        self._task = self._bars.add_task("", total=most, completed=solver.iteration, told="")
        self._begun, self._first = time.monotonic(), solver.iteration

    def on_update(self, solver: Solver, loss: Tensor) -> None:
        """Show where it is, now and then."""
        now = time.monotonic()
        if now - self._shown < SHOWN and solver.iteration < solver.parameter.max_iter:
            return
        self._shown = now
        speed = (solver.iteration - self._first) / max(now - self._begun, 1e-9)
        told = f"loss {solver.smoothed_loss:.4g}  lr {solver.lr:.3g}  {speed:.3g} iter/s"
        self._bars.update(self._task, completed=solver.iteration, told=told)


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


@contextlib.contextmanager
def showing(log: str) -> Iterator[list[Callback]]:
    """The callbacks that show a training: `log` is "caffe", "table", "both" or "none"."""
    out = console(stderr=True)
    if not sys.stderr.isatty() or log == "none":
        yield _told_by(log, out)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out) as bars:
        yield [*_told_by(log, out), Bar(bars)]


def _told_by(log: str, out: Console) -> list[Callback]:
    lines: list[Callback] = [CaffeLines(out)] if log in ("caffe", "both") else []
    return [*lines, EpochTable(out)] if log in ("table", "both") else lines
