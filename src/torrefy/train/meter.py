"""What a training's history is made of: losses, speed and time since the row before."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torrefy.train.history import Row

if TYPE_CHECKING:
    from torrefy.net.net import Net
    from torrefy.train.solver import Solver


class Meter:
    """Adds up what happens between two rows."""

    def __init__(self) -> None:
        self._losses: Tensor | None = None
        self._count = 0
        self._since = self._begun = time.monotonic()
        self._paused = 0.0
        self._seconds = 0.0
        self._batch = 0

    def begin(self, solver: Solver) -> None:
        """A `step` or `solve` begins."""
        self._since = self._begun = time.monotonic()
        self._paused = 0.0
        self._seconds = solver.history.rows[-1].seconds if len(solver.history) else 0.0
        passes = solver.parameter.iter_size * solver.processes.world
        self._batch = batch_rows(solver.net) * passes

    def count(self, loss: Tensor) -> None:
        """An iteration was made; its loss stays on the device."""
        self._losses = loss if self._losses is None else self._losses + loss
        self._count += 1

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Time that is not training's."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self._paused += time.monotonic() - begun

    def row(self, solver: Solver, scores: Sequence[Mapping[str, Tensor]]) -> Row | None:
        """What happened since the row before; None: nothing."""
        if not self._count and not scores:
            return None
        now = time.monotonic()
        trained = max(now - self._since - self._paused, 1e-9)
        loss = rate = speed = math.nan
        if self._losses is not None:
            loss = self._losses.item() / self._count
            rate = float(solver.optimizer.param_groups[0]["lr"])
            speed = self._count * self._batch / trained
        rows = solver.feed.rows
        row = Row(
            solver.iteration,
            solver.iteration * self._batch / rows if rows else math.nan,
            loss,
            rate,
            speed,
            self._seconds + now - self._begun,
            dict(_columns(scores)),
        )
        self._losses, self._count = None, 0
        self._since, self._paused = now, 0.0
        return row


def batch_rows(net: Net) -> int:
    """The rows of a net's first input; 0: it has none."""
    shapes = (tuple(net.inputs.values()) or ((0,),))[0]
    return shapes[0] if shapes else 1


def _columns(scores: Sequence[Mapping[str, Tensor]]) -> Iterator[tuple[str, float]]:
    """The outputs of the test nets by the names of columns."""
    for number, of_net in enumerate(scores):
        for name, blob in of_net.items():
            values = blob.flatten().to(torch.float64).tolist()
            for i, value in enumerate(values):
                index = f"[{i}]" if len(values) > 1 else ""
                yield f"test{number or ''}/{name}{index}", value
