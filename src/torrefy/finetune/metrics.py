"""How good predictions are, in numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.errors import DataError

KINDS = ("classes", "tags", "numbers", "points")
"""What can be measured."""
TOP = 5
"""Beyond 2 × TOP classes it is counted, too, how often the truth is among the TOP best."""
BINS = 15
"""The bins of confidence, of equal width, by which calibration is measured (Guo et al. 2017)."""
NEAR = (0.05, 0.1)
"""The distances, as shares of a picture's side, within which a point counts as found (PCK)."""
MOST_DENSE = 200
"""Classes up to which a confusion matrix is written whole."""
MOST_PAIRS = 1000
"""Pairs of classes that are written otherwise, the most often confused."""
MOST_NAMED = 10
"""Classes that a note names."""
_Z = 1.959963984540054
_CHUNK = 1 << 24


@dataclass(frozen=True)
class Judged:
    """What a model says of one part of the data, and what is true."""

    part: str
    """ "val" or "test"."""
    kind: str
    """ "classes", "tags", "numbers" or "points"."""
    names: tuple[str, ...]
    """The pictures' names."""
    classes: tuple[str, ...]
    """The classes' names; of the other kinds the names of the columns, of points "NAME_x" and
    "NAME_y" in turns."""
    truth: NDArray[Any]
    """N class numbers, or N×T: tags 0 or 1, numbers, points as shares of width and height."""
    scores: NDArray[Any]
    """N×K: what the model says. Of classes and tags probabilities, best; else any scores, the
    highest of which is the guess."""
    picture: Callable[[int], NDArray[np.uint8]]
    """H×W×3 bytes in RGB of example i; may raise PictureError or RecordError."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def points(self) -> tuple[str, ...]:
        """The points' names, without the "_x" of their first columns."""
        return tuple(name.removesuffix("_x") for name in self.classes[::2])


@dataclass(frozen=True)
class Row:
    """The numbers of one class, tag, column or point."""

    name: str
    values: dict[str, float]
    """By columns as `wording.COLUMNS` has them; NaN: not known."""


@dataclass(frozen=True)
class Confusion:
    """How often what was taken for what."""

    classes: tuple[str, ...]
    pairs: tuple[tuple[int, int, int], ...]
    """True class, guessed class, how often; only what occurs, by class numbers."""

    def matrix(self) -> NDArray[np.int64]:
        """K×K, a row for each true class; of few classes only."""
        matrix = np.zeros((len(self.classes),) * 2, np.int64)
        for truth, guess, count in self.pairs:
            matrix[truth, guess] = count
        return matrix

    def mistakes(self) -> list[tuple[int, int, int]]:
        """The pairs of two classes, the most often confused first."""
        wrong = [pair for pair in self.pairs if pair[0] != pair[1]]
        return sorted(wrong, key=lambda pair: (-pair[2], pair[:2]))


@dataclass(frozen=True)
class Bin:
    """The examples whose guess is about as confident."""

    count: int
    confidence: float
    """The mean of their guesses' probabilities."""
    accuracy: float


@dataclass(frozen=True)
class Metrics:
    """How good predictions are."""

    part: str
    kind: str
    count: int
    """How many examples there are."""
    values: dict[str, float]
    """By names as `wording.NAMES` has them; what doesn't apply is absent."""
    rows: tuple[Row, ...]
    """One for each class or column."""
    interval: tuple[float, float] | None = None
    """Where the accuracy lies by 95 % (Wilson's score interval)."""
    confusion: Confusion | None = None
    calibration: tuple[Bin, ...] = ()
    """By rising confidence; empty bins are left out."""
    notes: tuple[str, ...] = ()
    """What a reader must know to understand the numbers."""

    def to_json(self) -> dict[str, Any]:
        """All of it for JSON: NaN is null. Of many classes there are the worst confusions only."""
        made: dict[str, Any] = {"part": self.part, "kind": self.kind, "count": self.count}
        made |= {name: _plain(value) for name, value in self.values.items()}
        if self.interval is not None:
            made["accuracy_95"] = [_plain(value) for value in self.interval]
        made["rows"] = [
            {"name": row.name, **{k: _plain(v) for k, v in row.values.items()}} for row in self.rows
        ]
        if self.confusion is not None and len(self.confusion.classes) <= MOST_DENSE:
            made["confusion"] = self.confusion.matrix().tolist()
        elif self.confusion is not None:
            made["confused"] = [list(pair) for pair in self.confusion.mistakes()[:MOST_PAIRS]]
        if self.calibration:
            made["calibration"] = [
                {"count": b.count, "confidence": b.confidence, "accuracy": b.accuracy}
                for b in self.calibration
            ]
        made["notes"] = list(self.notes)
        return made


def measure(judged: Judged) -> Metrics:
    """How good predictions are.

    Classes: accuracy with its interval, top-5 accuracy beyond ten classes, precision, recall and
    F1 of each class and averaged, the confusion matrix; log loss and calibration if the scores are
    probabilities. A class of which there is no picture has no numbers and is in no average. Tags:
    average precision, and at 0.5 precision, recall and F1. Numbers: MAE, RMSE and R² of each
    column. Points: mean distance and the share within 5 % and 10 % of a picture's side.

    Raises:
        DataError: there is nothing to judge, the arrays don't fit each other, a score is no
            number, or the kind is another.

    Example:
        >>> truth, scores = np.array([0, 1]), np.array([[0.9, 0.1], [0.6, 0.4]])
        >>> told = Judged("val", "classes", ("a", "b"), ("cat", "dog"), truth, scores, np.zeros)
        >>> measure(told).values["accuracy"]
        0.5
    """
    _check(judged)
    made = {"classes": _classes, "tags": _tags, "numbers": _numbers, "points": _points}
    return made[judged.kind](judged)


def wilson(right: int, count: int) -> tuple[float, float]:
    """Where a share lies by 95 %, of which so many of so many were seen (Wilson 1927)."""
    share, squared = right / count, _Z * _Z / count
    middle = (share + squared / 2) / (1 + squared)
    half = _Z / (1 + squared) * math.sqrt(share * (1 - share) / count + squared / (4 * count))
    # At the ends it is exact, which rounding would hide.
    return (middle - half if right else 0.0), (middle + half if right < count else 1.0)


def are_probabilities(scores: NDArray[Any], *, of_classes: bool) -> bool:
    """Whether scores lie in 0..1, and of classes add up to 1."""
    if scores.min() < 0 or scores.max() > 1 + 1e-5:
        return False
    return not of_classes or bool(np.abs(scores.sum(1, dtype=np.float64) - 1).max() < 1e-2)


def _check(judged: Judged) -> None:
    if judged.kind not in KINDS:
        raise DataError(
            f"there are no metrics of {judged.kind}", hint=f"There are of {', '.join(KINDS)}."
        )
    count, width = len(judged), len(judged.classes)
    if not count or not width:
        raise DataError(f'there is nothing to judge in "{judged.part}"')
    expected = (count,) if judged.kind == "classes" else (count, width)
    for what, array, shape in (
        ("truths", judged.truth, expected), ("scores", judged.scores, (count, width)),
    ):  # fmt: skip
        if array.shape != shape:
            raise DataError(
                f"the {what} are {'x'.join(map(str, array.shape))}, expected "
                f"{'x'.join(map(str, shape))} of {count} pictures and {width} names"
            )
    if judged.kind == "points" and width % 2:
        raise DataError(f"points have an x and a y each, found {width} columns")
    good = np.isfinite(judged.scores).all(1)
    if not good.all():
        first = judged.names[int(good.argmin())]
        raise DataError(
            f'the scores of "{first}" are no numbers, nor are those of '
            f"{int((~good).sum()) - 1} other pictures"
        )


# --- Classes ---


def _classes(judged: Judged) -> Metrics:
    from sklearn.metrics import precision_recall_fscore_support

    scores, truth = judged.scores, judged.truth
    names, classes = judged.classes, len(judged.classes)
    if truth.min() < 0 or truth.max() >= classes:
        raise DataError(f"there are {classes} classes, but one of the truths has another number")
    guess = scores.argmax(1)
    right = int((guess == truth).sum())
    support, guessed = (np.bincount(each, minlength=classes) for each in (truth, guess))
    values = {"accuracy": right / len(judged)}
    if classes > 2 * TOP:
        values[f"top_{TOP}"] = float((_rank(scores, truth) < TOP).mean())
    values["majority"] = int(support.max()) / len(judged)
    there = np.flatnonzero(support)
    for average in ("macro", "weighted"):
        found = precision_recall_fscore_support(
            truth, guess, labels=there, average=average, zero_division=0
        )
        for name, value in zip(("precision", "recall", "f1"), found[:3], strict=True):
            values[f"{average}_{name}"] = float(value)
    notes = []
    bins: tuple[Bin, ...] = ()
    if are_probabilities(scores, of_classes=True):
        # scikit-learn's log_loss would make an N×K matrix of the truth.
        own = scores[np.arange(len(judged)), truth].astype(np.float64)
        values["log_loss"] = float(-np.log(np.maximum(own, 1e-12)).mean())
        bins = _bins(scores.max(1), guess == truth)
        gaps = (b.count * abs(b.accuracy - b.confidence) for b in bins)
        values["ece"] = sum(gaps) / len(judged)
    else:
        notes.append("the scores are no probabilities: there is no log loss and no calibration")
    each = precision_recall_fscore_support(
        truth, guess, labels=np.arange(classes), average=None, zero_division=0
    )
    rows = []
    for i, name in enumerate(names):
        row: dict[str, float] = {"support": int(support[i]), "guessed": int(guessed[i])}
        for column, found in zip(("precision", "recall", "f1"), each[:3], strict=True):
            row[column] = float(found[i]) if support[i] else math.nan
        rows.append(Row(name, row))
    missing = [name for name, count in zip(names, support, strict=True) if not count]
    if missing:
        notes.insert(0, _absent(missing, "class", "classes"))
    pairs, counts = np.unique(truth.astype(np.int64) * classes + guess, return_counts=True)
    confusion = tuple(
        (int(pair // classes), int(pair % classes), int(count))
        for pair, count in zip(pairs, counts, strict=True)
    )
    return Metrics(
        judged.part, judged.kind, len(judged), values, tuple(rows), wilson(right, len(judged)),
        Confusion(names, confusion), bins, tuple(notes),
    )  # fmt: skip


def _rank(scores: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.int64]:
    """How many classes come before the true one; of equal scores the lower number does."""
    ranks = np.empty(len(truth), np.int64)
    numbers = np.arange(scores.shape[1])
    step = max(1, _CHUNK // scores.shape[1])
    for start in range(0, len(truth), step):
        part, own = scores[start : start + step], truth[start : start + step, np.newaxis]
        best = np.take_along_axis(part, own, 1)
        before = (part > best) | ((part == best) & (numbers < own))
        ranks[start : start + step] = before.sum(1)
    return ranks


def _bins(confidence: NDArray[Any], right: NDArray[np.bool_]) -> tuple[Bin, ...]:
    number = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    made = []
    for i in range(BINS):
        inside = number == i
        if inside.any():
            mean = float(confidence[inside].mean(dtype=np.float64))
            made.append(Bin(int(inside.sum()), mean, float(right[inside].mean())))
    return tuple(made)


def _absent(names: Sequence[str], one: str, several: str) -> str:
    """The note that there is no picture of some classes or tags."""
    told = [f'"{name}"' for name in names[:MOST_NAMED]]
    if len(names) > MOST_NAMED:
        told.append(f"{len(names) - MOST_NAMED} more")
    who = f"the {several} {', '.join(told[:-1])} and {told[-1]} have"
    if len(names) == 1:
        who = f"the {one} {told[0]} has"
    return f"{who} no picture here: not measured, and in no average"


# --- Tags, numbers, points ---


def _tags(judged: Judged) -> Metrics:
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support

    truth, scores = judged.truth > 0.5, judged.scores
    probable = are_probabilities(scores, of_classes=False)
    guess = scores > (0.5 if probable else 0)
    support = truth.sum(0)
    there = np.flatnonzero(support)
    notes = []
    if not probable:
        notes.append("the scores are no probabilities: a tag is guessed where its score is above 0")
    missing = [judged.classes[i] for i in np.flatnonzero(support == 0)]
    if missing:
        notes.insert(0, _absent(missing, "tag", "tags"))
    rows = []
    for i, name in enumerate(judged.classes):
        row: dict[str, float] = {"support": int(support[i]), "guessed": int(guess[:, i].sum())}
        found = [math.nan] * 4
        if support[i]:
            p, r, f, _ = precision_recall_fscore_support(
                truth[:, i], guess[:, i], average="binary", zero_division=0
            )
            found = [p, r, f, average_precision_score(truth[:, i], scores[:, i])]
        columns = ("precision", "recall", "f1", "average_precision")
        rows.append(Row(name, row | {c: float(v) for c, v in zip(columns, found, strict=True)}))
    values: dict[str, float] = {}
    if len(there):
        own = [rows[i].values for i in there]
        values["map"] = float(np.mean([row["average_precision"] for row in own]))
        for name in ("precision", "recall", "f1"):
            values[f"macro_{name}"] = float(np.mean([row[name] for row in own]))
    hits = int((truth & guess).sum())
    either = int(truth.sum() + guess.sum())
    values["micro_f1"] = 2 * hits / either if either else math.nan
    values["all_right"] = float((truth == guess).all(1).mean())
    return Metrics(judged.part, judged.kind, len(judged), values, tuple(rows), notes=tuple(notes))


def _numbers(judged: Judged) -> Metrics:
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    truth, scores = (each.astype(np.float64) for each in (judged.truth, judged.scores))
    rows = []
    for i, name in enumerate(judged.classes):
        pair = truth[:, i], scores[:, i]
        same = bool((pair[0] == pair[0][0]).all())
        rows.append(
            Row(
                name,
                {
                    "mae": float(mean_absolute_error(*pair)),
                    "rmse": float(root_mean_squared_error(*pair)),
                    "r2": math.nan if same else float(r2_score(*pair)),
                    "least": float(pair[0].min()),
                    "most": float(pair[0].max()),
                },
            )
        )
    alike = [row.name for row in rows if math.isnan(row.values["r2"])]
    notes = [f'"{name}" is the same in all pictures here: it has no R²' for name in alike[:1]]
    if len(alike) > 1:
        notes = [f"{len(alike)} columns are the same in all pictures here: they have no R²"]
    known = [row.values["r2"] for row in rows if row.name not in alike]
    values = {
        "mae": float(np.mean([row.values["mae"] for row in rows])),
        "rmse": float(np.mean([row.values["rmse"] for row in rows])),
        "r2": float(np.mean(known)) if known else math.nan,
    }
    if len(rows) > 1:
        notes.append("MAE and RMSE over columns of different units mean little: see the columns")
    return Metrics(judged.part, judged.kind, len(judged), values, tuple(rows), notes=tuple(notes))


def distances(judged: Judged) -> NDArray[np.float64]:
    """N×P: how far each point is from the truth, in shares of width and height."""
    away = (judged.scores - judged.truth).astype(np.float64)
    return np.hypot(away[:, ::2], away[:, 1::2])


def _points(judged: Judged) -> Metrics:
    away = distances(judged)

    def of(errors: NDArray[np.float64]) -> dict[str, float]:
        near = {f"pck_{int(100 * share)}": float((errors <= share).mean()) for share in NEAR}
        return {"mean_error": float(errors.mean()), **near}

    rows = tuple(Row(name, of(away[:, i])) for i, name in enumerate(judged.points))
    return Metrics(judged.part, judged.kind, len(judged), of(away), rows)


def _plain(value: float) -> float | None:
    """A number for JSON."""
    return value if math.isfinite(value) else None
