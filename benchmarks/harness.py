"""Two ways to one result, timed in turns on one machine: only their ratio is judged."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table


def compare(
    name: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    limit: float,
    rounds: int = 7,
) -> float:
    """Time `ours` against `theirs`, print a table and a JSON line, return the ratio.

    Each runs once unmeasured, then both run in every round, in changing order. The ratio is the
    median of the rounds' ratios.
    """
    ours()
    theirs()
    times: list[tuple[float, float]] = []
    for i in range(rounds):
        if i % 2:
            second = _seconds(theirs)
            times.append((_seconds(ours), second))
        else:
            first = _seconds(ours)
            times.append((first, _seconds(theirs)))
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    ratio = statistics.median(a / b for a, b in times)
    table = Table("benchmark", "ours", "theirs", "ratio", "limit")
    table.add_row(
        name, f"{medians[0]:.4f} s", f"{medians[1]:.4f} s", f"{ratio:.2f}", f"{limit:.2f}"
    )
    Console().print(table)
    result = {
        "benchmark": name,
        "ratio": round(ratio, 4),
        "limit": limit,
        "ours_seconds": round(medians[0], 5),
        "theirs_seconds": round(medians[1], 5),
        "rounds": rounds,
        "passed": ratio <= limit,
    }
    print(json.dumps(result), flush=True)
    return ratio


def compare_gains(
    name: str,
    ours: tuple[Callable[[], object], Callable[[], object]],
    theirs: tuple[Callable[[], object], Callable[[], object]],
    *,
    limit: float,
    rounds: int = 7,
) -> float:
    """How much faster a change makes theirs over how much faster it makes ours.

    Each is the way before and the way after the change. All four run in every round, in changing
    order. Prints a table and a JSON line; the ratio is the median of the rounds' ratios.
    """
    ways = (*ours, *theirs)
    for way in ways:
        way()
    times: list[list[float]] = []
    for i in range(rounds):
        row = [0.0] * len(ways)
        for j in range(len(ways)):
            chosen = (i + j) % len(ways)
            row[chosen] = _seconds(ways[chosen])
        times.append(row)
    gains = [(a / b, c / d) for a, b, c, d in times]
    ratio = statistics.median(their / our for our, their in gains)
    mine, other = (statistics.median(column) for column in zip(*gains, strict=True))
    table = Table("benchmark", "ours", "theirs", "ratio", "limit")
    table.add_row(name, f"{mine:.2f}x", f"{other:.2f}x", f"{ratio:.2f}", f"{limit:.2f}")
    Console().print(table)
    result = {
        "benchmark": name,
        "ratio": round(ratio, 4),
        "limit": limit,
        "ours_gain": round(mine, 4),
        "theirs_gain": round(other, 4),
        "rounds": rounds,
        "passed": ratio <= limit,
    }
    print(json.dumps(result), flush=True)
    return ratio


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
