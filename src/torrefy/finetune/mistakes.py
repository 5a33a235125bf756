"""The worst mistakes: which examples they are, and what is told of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torrefy.errors import DataError, PictureError
from torrefy.finetune.metrics import Judged, are_probabilities, distances
from torrefy.finetune.sheet import Tile, shrunk
from torrefy.finetune.wording import percent

MOST = 40
"""How many are shown."""
MOST_RIGHT = 12
"""How many where nothing is wrong."""
MOST_TAGS = 4
"""The tags or columns that are told of one picture."""


@dataclass(frozen=True)
class Mistake:
    """One example, and what was made of it."""

    index: int
    """Its number among those that were judged."""
    name: str
    truth: str
    """In words, as the guess; of points both are empty, and marked in the picture."""
    guess: str
    score: str
    """How sure the guess was, or how far off."""


@dataclass(frozen=True)
class Mistakes:
    """The worst mistakes, the worst first; where nothing is wrong, the least certain guesses."""

    title: str
    """What they are, in words."""
    count: int
    """How many are wrong; of numbers and points how many there are."""
    worst: tuple[Mistake, ...]


def worst_of(judged: Judged, most: int = MOST) -> Mistakes:
    """The worst mistakes of predictions that `measure` has measured.

    Classes: those wrong with the highest score. Tags: those with the surest wrong tag. Numbers:
    those furthest off, each column's errors by its own RMSE. Points: those with the largest mean
    distance. Of equal ones those that come first in the data come first.
    """
    order = {"classes": _classes, "tags": _tags, "numbers": _numbers, "points": _points}
    return order[judged.kind](judged, most)


def tile(judged: Judged, mistake: Mistake, caption: tuple[str, ...] = ()) -> Tile:
    """A mistake's picture; points are marked."""
    try:
        picture = shrunk(judged.picture(mistake.index))
    except (PictureError, DataError):
        picture = None
    if judged.kind != "points":
        return Tile(picture, caption)
    truth, guess = (each[mistake.index].reshape(-1, 2) for each in (judged.truth, judged.scores))
    return Tile(picture, caption, truth, guess)


def _ranked(badness: NDArray[np.float64], most: int) -> list[int]:
    """The numbers of the highest, the first of equal ones first."""
    return [int(i) for i in np.argsort(-badness, kind="stable")[:most]]


def _score(value: float, probable: bool) -> str:
    return percent(value) if probable else f"{value:.3g}"


def _classes(judged: Judged, most: int) -> Mistakes:
    scores, names = judged.scores, judged.classes
    guess = scores.argmax(1)
    best = scores[np.arange(len(judged)), guess].astype(np.float64)
    probable = are_probabilities(scores, of_classes=True)
    wrong = np.flatnonzero(guess != judged.truth)
    if len(wrong):
        chosen = [int(wrong[i]) for i in _ranked(best[wrong], most)]
        title = "Wrong, the surest first"
    else:
        # What is no probability tells how certain it is by its distance from the next.
        if not probable and len(names) > 1:
            sure = best - np.partition(scores, -2, axis=1)[:, -2]
        else:
            sure = best
        chosen = _ranked(-sure, min(most, MOST_RIGHT))
        title = "Nothing is wrong: the least certain"
    made = [
        Mistake(
            i, judged.names[i], names[int(judged.truth[i])], names[int(guess[i])],
            _score(float(best[i]), probable),
        )
        for i in chosen
    ]  # fmt: skip
    return Mistakes(title, len(wrong), tuple(made))


def _tags(judged: Judged, most: int) -> Mistakes:
    truth, scores = judged.truth > 0.5, judged.scores.astype(np.float64)
    probable = are_probabilities(judged.scores, of_classes=False)
    middle = 0.5 if probable else 0.0
    guess = scores > middle
    sure = np.abs(scores - middle)
    false = np.where(truth != guess, sure, -1)
    wrong = np.flatnonzero((truth != guess).any(1))
    if len(wrong):
        chosen = [int(wrong[i]) for i in _ranked(false[wrong].max(1), most)]
        title = "Wrong, the surest first"
    else:
        chosen = _ranked(-sure.min(1), min(most, MOST_RIGHT))
        title = "Nothing is wrong: the least certain"

    def told(flags: NDArray[np.bool_]) -> str:
        names = [judged.classes[i] for i in np.flatnonzero(flags)]
        more = f" and {len(names) - MOST_TAGS} more" if len(names) > MOST_TAGS else ""
        return (", ".join(names[:MOST_TAGS]) or "nothing") + more

    made = []
    for i in chosen:
        tag = int((false[i] if len(wrong) else -sure[i]).argmax())
        score = f"{judged.classes[tag]}: {_score(float(scores[i, tag]), probable)}"
        made.append(Mistake(i, judged.names[i], told(truth[i]), told(guess[i]), score))
    return Mistakes(title, len(wrong), tuple(made))


def _numbers(judged: Judged, most: int) -> Mistakes:
    truth, scores = judged.truth.astype(np.float64), judged.scores.astype(np.float64)
    away = np.abs(scores - truth)
    usual = np.sqrt(np.square(away).mean(0))
    relative = away / np.where(usual > 0, usual, 1)
    several = len(judged.classes) > 1

    def told(row: NDArray[np.float64], columns: NDArray[np.int64]) -> str:
        names = (f"{judged.classes[c]} " if several else "" for c in columns)
        return ", ".join(f"{n}{row[c]:.4g}" for n, c in zip(names, columns, strict=True))

    made = []
    for i in _ranked(relative.max(1), most):
        columns = np.sort(np.argsort(-relative[i], kind="stable")[:MOST_TAGS])
        one = int(relative[i].argmax())
        score = f"off by {scores[i, one] - truth[i, one]:+.3g}"
        score += f" in {judged.classes[one]}" if several else ""
        true, guess = told(truth[i], columns), told(scores[i], columns)
        made.append(Mistake(i, judged.names[i], true, guess, score))
    return Mistakes("The furthest off first", len(judged), tuple(made))


def _points(judged: Judged, most: int) -> Mistakes:
    away = distances(judged)
    made = []
    for i in _ranked(away.mean(1), most):
        one = int(away[i].argmax())
        score = f"off by {percent(float(away[i].mean()))} on average"
        if len(judged.points) > 1:
            score += f", {judged.points[one]} by {percent(float(away[i, one]))}"
        made.append(Mistake(i, judged.names[i], "", "", score))
    return Mistakes("The furthest off first", len(judged), tuple(made))
