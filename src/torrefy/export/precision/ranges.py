"""The ranges that values take on calibration pictures, and where to clip them for 8 bits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.errors import ExportError
from torrefy.export.precision.graph import Running, float_values, with_outputs

BINS = 8192
MOST_COUNTED = 1 << 16
"""Values of a batch that are counted; least, largest and mean are of all."""
STEPS = np.linspace(1.0, 0.2, 81)
"""The shares of a range that are tried."""


class Spread:
    """How one value of a graph is spread: least, largest, a histogram, the channels' means."""

    def __init__(self) -> None:
        self.least = np.inf
        self.largest = -np.inf
        self._limit = 1.0
        self._counts = np.zeros(BINS)
        self._sums: NDArray[np.float64] | float = 0.0
        self._pictures = 0

    def add(self, values: NDArray[np.float32]) -> None:
        """Take a batch in, N×C or N×C×H×W."""
        self.least = min(self.least, float(values.min()))
        self.largest = max(self.largest, float(values.max()))
        if values.ndim > 1:
            others = tuple(axis for axis in range(values.ndim) if axis != 1)
            self._sums = self._sums + values.mean(axis=others, dtype=np.float64) * len(values)
            self._pictures += len(values)
        if not np.isfinite(self.largest - self.least):
            return
        while max(-self.least, self.largest) > self._limit:
            self._widen()
        some = values.ravel()[:: max(1, values.size // MOST_COUNTED)]
        bins = ((some / self._limit + 1) * (BINS / 2)).astype(np.int64)
        self._counts += np.bincount(np.minimum(bins, BINS - 1), minlength=BINS)

    def _widen(self) -> None:
        """Twice the range, so that two bins become one."""
        pairs = self._counts.reshape(-1, 2).sum(axis=1)
        self._counts = np.zeros(BINS)
        self._counts[BINS // 4 : BINS // 4 + BINS // 2] = pairs
        self._limit *= 2

    @property
    def means(self) -> NDArray[np.float64]:
        """The mean of each channel."""
        return np.atleast_1d(np.asarray(self._sums, np.float64) / max(self._pictures, 1))

    def clipped(self, least: float = 0.0) -> tuple[float, float]:
        """The range, 0 within, whose 256 steps lie nearest to the values: by mean squared error.

        Each end is clipped to no less than the share `least` of what it is.
        """
        shares = STEPS[least <= STEPS]
        low, high = min(self.least, 0.0), max(self.largest, 0.0)
        there = self._counts > 0
        centres = ((np.arange(BINS) + 0.5) / (BINS / 2) - 1)[there] * self._limit
        counts = self._counts[there]

        def error(low: float, high: float) -> float:
            step = (high - low) / 255
            zero = np.round(-low / step)
            found = (np.clip(np.round(centres / step) + zero, 0, 255) - zero) * step
            return float((counts * (centres - found) ** 2).sum())

        best_low, best_high = low, high
        for _ in range(2):  # each end in turn
            if high > 0:
                best_high = min((high * s for s in shares), key=lambda end: error(best_low, end))
            if low < 0:
                best_low = min((low * s for s in shares), key=lambda end: error(end, best_high))
        return best_low, best_high


def measure(
    model: Any, batches: Iterable[NDArray[np.float32]], threads: int = 0
) -> dict[str, Spread]:
    """How the input and all values of a graph are spread over pictures; a batch in memory at once.

    Raises:
        ExportError: a value is not finite.
    """
    names = float_values(model)
    running = Running(with_outputs(model, names), threads)
    given = model.graph.input[0].name
    spreads = {name: Spread() for name in (given, *names)}
    for batch in batches:
        spreads[given].add(batch)
        for name, values in zip(names, running(batch, names), strict=True):
            if values.size:
                spreads[name].add(np.asarray(values))
    for name, spread in spreads.items():
        if not np.isfinite(spread.largest - spread.least) and spread.least != np.inf:
            raise ExportError(f'the value "{name}" is not finite on these pictures in fp32 already')
    return {name: spread for name, spread in spreads.items() if spread.least != np.inf}
