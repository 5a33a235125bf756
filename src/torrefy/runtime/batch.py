"""How many pictures a model is given at once: the fewest that make it about as fast as it gets."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from torrefy.errors import TorrefyError

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""What is tried, in this order."""
MOST = 256
"""Pictures that may be computed at the same time."""
ENOUGH = 0.97
"""The smallest batch is taken that reaches this part of the best rate."""
PATIENCE = 2
"""So many larger batches that are no faster end the search."""
SECONDS = 3.0
"""What the search may take, about."""
MOST_BYTES = 256 << 20
"""The most that the pictures of a batch may take."""


def measured_batch(run: Callable[[Any], object], shape: Sequence[int], at_once: int = 1) -> int:
    """Measure how many pictures to a batch are best.

    Each size runs twice, as the first run of a shape also makes its memory ready. Sizes whose
    memory, by what the process grew by so far, would take more than half of what is free are not
    tried, nor any after one that fails.

    Args:
        run: computes N×C×H×W pictures.
        shape: C×H×W.
        at_once: how many batches will be computed side by side.

    Raises:
        TorrefyError: the model can't compute even one picture.
    """
    rates: dict[int, float] = {}
    random = np.random.default_rng(0)
    begun, grown_from = time.monotonic(), _memory()
    for size in SIZES:
        if size > MOST // at_once and size > 1:
            break
        pictures = random.normal(0, 50, (size, *shape)).astype(np.float32)
        try:
            rates[size] = size / min(_seconds(run, pictures), _seconds(run, pictures))
        except (MemoryError, RuntimeError, TorrefyError):  # torch's and ONNX Runtime's of a GPU
            if size == 1:
                raise
            break
        best = max(rates, key=rates.__getitem__)
        later = [one for one in rates if one > best]
        expected = 2 * 2 * size / rates[size]
        grown = at_once * (_memory() - grown_from)
        if (
            len(later) >= PATIENCE
            or time.monotonic() - begun + expected > SECONDS
            or 2 * at_once * pictures.nbytes > MOST_BYTES
            or 2 * grown > _free_memory() / 2
        ):
            break
    return min(size for size, rate in rates.items() if rate >= ENOUGH * max(rates.values()))


def _seconds(run: Callable[[Any], object], pictures: Any) -> float:
    begun = time.perf_counter()
    run(pictures)
    return time.perf_counter() - begun


def most_memory() -> int:
    """The most bytes that the process has held; 0 where the system doesn't say."""
    told = _status("VmHWM")  # not getrusage's, which a child process inherits
    if told:
        return told
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10


def _memory() -> int:
    """The bytes that the process holds now; where the system doesn't say, that it held at most."""
    return _status("VmRSS") or most_memory()


def _status(name: str) -> int:
    """A size in bytes of what Linux says of the process; 0: it says nothing."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        pass
    return 0


def _free_memory() -> float:
    """Bytes that are free; infinite where the system doesn't say."""
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")
