"""Examples divided into those that are learned from and those that are held out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from torrefy.data.draws import permutation
from torrefy.data.examples import Examples
from torrefy.errors import DataError, Place


@dataclass(frozen=True)
class Parts:
    """What is learned from, what is looked at meanwhile, and what is only tested in the end."""

    train: Examples
    val: Examples
    test: Examples | None
    """What the data call "test"; None: nothing."""
    learned: Examples
    """The first two together."""
    given: bool = False
    """Whether the data say themselves what is held out."""
    notes: tuple[str, ...] = ()


def divide(examples: Examples, share: float = 0.2, seed: int = 0) -> Parts:
    """Divide examples: as they say themselves, else by chance.

    A seeded share of each class is held out: at least one, where there are two; groups stay
    together. What the data call "test" has no say in what is kept: if they call nothing "val", a
    share of what they call "train" is held out, too.

    Args:
        examples: all of them.
        share: what is held out of each class, above 0 and below 1.
        seed: of the chance.

    Raises:
        DataError: there is only one class, or nothing is left to learn from or to hold out.
    """
    place = Place(examples.origin)
    if examples.kind == "classes" and len(examples.classes) < 2:
        only = examples.classes[0] if examples.classes else "none"
        raise DataError(
            f'there is only one class, "{only}": nothing tells it from others',
            place=place,
            hint="Give pictures of at least two.",
        )
    if examples.parts:
        return _as_told(examples, place, share, seed)
    held = _held_out(examples, share, seed)
    train = [i for i in range(len(examples)) if i not in held]
    if not held or not train:
        raise DataError(
            f"{len(examples)} pictures can't be divided into some to learn from and some to hold "
            "out",
            place=place,
            hint="Two of each class are the least.",
        )
    return _made(examples, train, sorted(held), [])


def _as_told(examples: Examples, place: Place, share: float, seed: int) -> Parts:
    rows: dict[str, list[int]] = defaultdict(list)
    for i, part in enumerate(examples.parts):
        rows[part].append(i)
    if not rows["train"]:
        raise DataError('none of the pictures is called "train"', place=place)
    given = bool(rows["val"])
    if not given:
        held = _held_out(examples.take(rows["train"]), share, seed)
        rows["val"] = [row for i, row in enumerate(rows["train"]) if i in held]
        rows["train"] = [row for i, row in enumerate(rows["train"]) if i not in held]
    return replace(_made(examples, rows["train"], rows["val"], rows["test"]), given=given)


def _held_out(examples: Examples, share: float, seed: int) -> set[int]:
    """The rows that are held out: a share of each class, groups whole."""
    if not 0 < share < 1:
        raise DataError(f"the share that is held out must be above 0 and below 1, found {share:g}")
    order = permutation(len(examples), seed).tolist()
    classes = examples.targets.tolist() if examples.kind == "classes" else [0] * len(examples)
    groups = examples.groups or tuple(map(str, range(len(examples))))
    members: dict[str, list[int]] = defaultdict(list)
    for i in order:
        members[groups[i]].append(i)
    sizes = np.bincount(classes)
    wanted = {c: max(1, round(share * n)) if n > 1 else 0 for c, n in enumerate(sizes.tolist())}
    left = dict(enumerate(sizes.tolist()))
    held: set[int] = set()
    for rows in members.values():
        own = np.bincount([classes[i] for i in rows], minlength=len(sizes)).tolist()
        first = classes[rows[0]]
        fits = all(left[c] > n for c, n in enumerate(own) if n)
        if wanted[first] > 0 and fits:
            held.update(rows)
            for c, n in enumerate(own):
                wanted[c] -= n
                left[c] -= n
    return held


def _made(examples: Examples, train: list[int], val: list[int], test: list[int]) -> Parts:
    parts = Parts(
        examples.take(train),
        examples.take(val),
        examples.take(test) if test else None,
        examples.take(sorted([*train, *val])),
    )
    if examples.kind != "classes":
        return parts
    notes = []
    for name, part in (("learned from", parts.train), ("held out", parts.val)):
        counts = np.bincount(part.targets, minlength=len(examples.classes))
        absent = [examples.classes[i] for i in np.flatnonzero(counts == 0)]
        if absent:
            few = ", ".join(f'"{one}"' for one in absent[:5])
            more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
            notes.append(f"no picture is {name} of the class {few}{more}")
    return replace(parts, notes=tuple(notes))
