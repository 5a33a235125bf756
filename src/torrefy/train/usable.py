"""Data that can't be used: looked for before a training, counted after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torrefy.errors import DataError, Problem
from torrefy.train.feed import Peeked

MOST_LOOKED_AT = 500
"""Items of each data layer that are looked at before a training."""
SECONDS = 2.0
"""How long that may take, all layers together."""
MOST_TOLD = 5
"""Items of a layer that are named."""


def look(feeds: Sequence[Peeked], seconds: float = SECONDS) -> list[str]:
    """Look at a sample of what data layers read: hours later it would be an error all the same.

    Each item is made as a batch would have it: read, its labels held against the net, cropped.

    Args:
        feeds: a solver's, of its training and test nets.
        seconds: the most time that is taken.

    Returns:
        What there is to say where bad items are passed over: a line for each layer with some.

    Raises:
        DataError: items can't be used, and their layer doesn't pass over such ones.
    """
    loaders = [loader for feed in feeds for loader in feed.loaders]
    problems: list[Problem] = []
    notes: list[str] = []
    for loader in loaders:
        done, bad = loader.sample(MOST_LOOKED_AT, seconds / len(loaders))
        if not bad:
            continue
        told = f"{len(bad)} of the {done} items looked at can't be used"
        if loader.skips:
            notes.append(f"{told}, and will be skipped; the first: {bad[0]}")
            continue
        problems += [problem for error in bad[:MOST_TOLD] for problem in error.problems]
        if len(bad) > 1:
            problems.append(Problem(told, layer=loader.name))
    if problems:
        raise DataError(problems)
    return notes


@dataclass
class Skipped:
    """What was passed over in a training."""

    times: int = 0
    """How often another item was taken."""
    items: dict[str, str] = field(default_factory=dict)
    """Where the items are named, and what is wrong with each."""

    @classmethod
    def of_all(cls, found: Iterable[Skipped]) -> Skipped:
        """What several processes have passed over."""
        together = cls()
        for one in found:
            together.times += one.times
            together.items.update(one.items)
        return together

    def __str__(self) -> str:
        count = len(self.items)
        told = "1 item was skipped" if count == 1 else f"{count:,} items were skipped"
        often = "once" if self.times == 1 else f"{self.times:,} times"
        return f"{told}, {often} in all; the first: {next(iter(self.items.values()), '')}"


def skipped(feeds: Sequence[Peeked]) -> Skipped:
    """What data layers have passed over so far."""
    found = Skipped()
    for feed in feeds:
        for loader in feed.loaders:
            found.times += loader.skipped
            found.items.update(loader.bad)
    return found
