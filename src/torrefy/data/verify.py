"""What goes wrong with data before it goes wrong in training."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from torrefy.data.draws import permutation
from torrefy.data.sources.source import Source
from torrefy.errors import PictureError, RecordError

MOST_TOLD = 5
"""How many items are named for each kind of finding."""
UNEVEN = 10
"""How many times as frequent as the rarest the most frequent class may be."""


class Check(NamedTuple):
    """One thing that was looked for."""

    name: str
    state: str
    """"ok", "note", "wrong", or "-" where it was not looked for."""
    found: str


@dataclass
class Findings:
    """What `verify` found; lists name keys, all of them."""

    looked_at: int = 0
    count: int = 0
    """How many items there are; all are looked at, or a sample."""
    labels: Counter[float] = field(default_factory=Counter)
    shapes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    """How many pictures there are of each CxHxW."""
    classes: int | None = None
    """How many there are to be; None: not told."""
    compared: int | None = None
    """How many items of the other source were looked at; None: there is none."""
    bad: dict[str, str] = field(default_factory=dict)
    """Where items are named that can't be read, and what is wrong with each."""
    outside: dict[str, float] = field(default_factory=dict)
    """Where an item has a label that is no class, and the label."""
    missing: list[int] = field(default_factory=list)
    """Classes without an item."""
    duplicates: list[list[str]] = field(default_factory=list)
    """Items whose pictures are the same, pixel by pixel."""
    leaked: dict[str, str] = field(default_factory=dict)
    """Items that the other source has too, and which that is."""

    @property
    def wrong(self) -> bool:
        """Whether training would fail, or its scores be false."""
        return bool(self.bad or self.outside or self.leaked)

    @property
    def unevenness(self) -> float:
        """How many times as frequent as the rarest class the most frequent one is."""
        counts = self.labels.values()
        return max(counts) / min(counts) if counts else 1.0

    def checks(self) -> list[Check]:
        """What was looked for, one after another, and what came of it."""
        all_of = self.looked_at == self.count
        looked = f"{self.looked_at:,}" if all_of else f"{self.looked_at:,} of {self.count:,}"
        shapes = [f"{'x'.join(map(str, shape))} ({n:,})" for shape, n in self.shapes.most_common(3)]
        left = len(self.shapes) - len(shapes)
        more = f" and {left:,} more" if left else ""
        found = [
            Check("items", "ok" if all_of else "note", looked),
            Check("can't be read", _state(self.bad), f"{len(self.bad):,}"),
            Check("sizes", "note" if len(self.shapes) > 1 else "ok", ", ".join(shapes) + more),
        ]
        if not self.labels:
            found.append(Check("labels", "-", "no item has one number as its label"))
        else:
            span = f"{min(self.labels):g} to {max(self.labels):g}"
            found.append(Check("labels", "ok", f"{len(self.labels):,} different, {span}"))
        outside = f"{len(self.outside):,}" if self.classes is not None else "give --classes"
        told = _state(self.outside) if self.classes is not None else "-"
        found.append(Check("labels that are no class", told, outside))
        if self.classes is not None and all_of:
            state = "note" if self.missing else "ok"
            found.append(Check("classes without an item", state, f"{len(self.missing):,}"))
        if len(self.labels) > 1:
            state = "note" if self.unevenness >= UNEVEN else "ok"
            balance = f"the largest is {self.unevenness:.3g} times the smallest"
            found.append(Check("balance of the classes", state, balance))
        again = sum(len(keys) - 1 for keys in self.duplicates)
        found.append(Check("pictures again", "note" if again else "ok", f"{again:,}"))
        if self.compared is None:
            found.append(Check("pictures in both sources", "-", "give --against"))
        else:
            told = f"{len(self.leaked):,} of {self.compared:,}"
            found.append(Check("pictures in both sources", _state(self.leaked), told))
        return found

    def lines(self) -> Iterator[str]:
        """What was found, a line each, the worst first."""
        labels = (f"{key}: label {label:g}" for key, label in self.outside.items())
        leaks = (f"{key} is {other}" for key, other in self.leaked.items())
        again = (" is ".join(keys[:3]) for keys in self.duplicates)
        yield from _told(self.bad.values(), "item can't be read", "items can't be read")
        yield from _told(labels, "label is no class", "labels are no classes")
        yield from _told(leaks, "picture is in both sources", "pictures are in both sources")
        yield from _told(again, "picture is there twice", "pictures are there more than once")
        if self.missing:
            names = ", ".join(map(str, self.missing[:20]))
            yield f"{len(self.missing)} classes have no item: {names}"
        if self.unevenness >= UNEVEN:
            ranks = self.labels.most_common()
            (most, high), (least, low) = ranks[0], ranks[-1]
            yield (
                f"the classes are uneven: {high:,} items of class {most:g}, "
                f"{low:,} of class {least:g}"
            )
        all_of = self.looked_at == self.count
        of = "" if all_of else f" of {self.count:,}, a sample: what it has not is not told"
        yield f"looked at {self.looked_at:,} items{of}"


def verify(
    source: Source,
    against: Source | None = None,
    *,
    classes: int | None = None,
    ignore_label: int | None = None,
    sample: int | None = None,
    told: Callable[[int], None] | None = None,
) -> Findings:
    """Look for items that can't be read, wrong labels, duplicates, and leaks between two sources.

    Args:
        source: the data that a net learns from.
        against: the data that it is tested with, which must not have the same pictures.
        classes: how many classes the net has; None: labels may be anything.
        ignore_label: a label that is right too.
        sample: how many items of each source are looked at, chosen evenly; None: all.
        told: called with the number of items done.
    """
    found = Findings(count=len(source), classes=classes)
    seen: dict[bytes, list[str]] = {}
    done = 0
    for index in _chosen(len(source), sample):
        key = source.key(index)
        found.looked_at += 1
        done += 1
        if told is not None:
            told(done)
        try:
            picture, *rest = source.item(index)
        except (PictureError, RecordError) as error:
            found.bad[str(source.place(index))] = str(error)
            continue
        found.shapes[picture.shape] += 1
        if rest and not rest[0].ndim:
            label = float(rest[0])
            found.labels[label] += 1
            if classes is not None and label != ignore_label and not 0 <= label < classes:
                found.outside[str(source.place(index))] = label
        seen.setdefault(_digest(picture), []).append(key)
    found.duplicates = [keys for keys in seen.values() if len(keys) > 1]
    if classes is not None and found.looked_at == found.count:
        found.missing = [label for label in range(classes) if label not in found.labels]
    if against is None:
        return found
    found.compared = 0
    for index in _chosen(len(against), sample):
        found.compared += 1
        done += 1
        if told is not None:
            told(done)
        try:
            picture = against.item(index)[0]
        except (PictureError, RecordError) as error:
            found.bad[str(against.place(index))] = str(error)
            continue
        same = seen.get(_digest(picture))
        if same:
            found.leaked[against.key(index)] = same[0]
    return found


def _state(wrong: Sized) -> str:
    return "wrong" if wrong else "ok"


def _chosen(count: int, sample: int | None) -> list[int]:
    if sample is None or sample >= count:
        return list(range(count))
    chosen: list[int] = sorted(permutation(count, 0)[:sample].tolist())
    return chosen


def _digest(picture: NDArray[Any]) -> bytes:
    array = np.ascontiguousarray(picture)
    head = f"{array.shape}{array.dtype}".encode()
    return hashlib.blake2b(head + array.tobytes(), digest_size=16).digest()


def _told(lines: Iterable[str], one: str, many: str) -> Iterator[str]:
    """How many there are and the first of them."""
    every = list(lines)
    if not every:
        return
    left = len(every) - MOST_TOLD
    yield f"{len(every):,} {one if len(every) == 1 else many}:"
    yield from (f"  {line}" for line in every[:MOST_TOLD])
    if left > 0:
        yield f"  and {left:,} more"
