"""Lists and tables of pictures: what their columns say is to be learned."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.examples import Examples
from torrefy.data.sources.image_list import MOST_PROBLEMS, text_lines
from torrefy.data.sources.table import picture_column, rows_of
from torrefy.errors import DataError, Place, Problem, did_you_mean

PARTS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What folders, and cells of a column "split", are called, and the part that they mean."""
CLASS_COLUMNS = ("label", "class", "category", "target", "y")
TAG_COLUMNS = ("tags", "labels", "classes", "categories")
SPLIT_COLUMN, GROUP_COLUMN = "split", "group"
HINT = (
    "Give a folder that holds one for each class, a list (`picture class` a line), a table (.csv) "
    "or an LMDB."
)


def numbered(labels: Sequence[Any]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Classes in their order, whole numbers by value, and each label's number among them."""
    values = sorted(set(labels))
    number = {value: i for i, value in enumerate(values)}
    targets = np.asarray([number[label] for label in labels], np.int64)
    return tuple(str(value) for value in values), targets


def _whole(words: Sequence[Any]) -> list[int] | None:
    """Words as whole numbers; None: one is none."""
    if any(isinstance(word, float) and not word.is_integer() for word in words):
        return None
    try:
        return [int(word) for word in words]
    except (TypeError, ValueError, OverflowError):
        return None


def read_list(path: Path, root: str | Path | None) -> Examples:
    """The pictures of a list, lines of `picture class`; the class a number or a name.

    Args:
        path: the list.
        root: what the names are relative to; None: its own folder, or the working folder where
            the first picture is only there.

    Raises:
        DataError: with all that is wrong.
    """
    names: list[str] = []
    words: list[str] = []
    lines: list[int] = []
    problems = []
    for number, line in enumerate(text_lines(path), 1):
        if not line.strip():
            continue
        name, _, word = line.rstrip().rpartition(" ")
        if not name.strip():
            told = f'expected a picture and its class ("cat.jpg 3"), found "{line.strip()[:80]}"'
            problems.append(Problem(told, Place(str(path), number, 1)))
            if len(problems) == MOST_PROBLEMS:
                break
        names.append(name.strip())
        words.append(word)
        lines.append(number)
    if problems:
        raise DataError(problems)
    if not names:
        raise DataError("the list is empty", place=Place(str(path)))
    classes, targets = numbered(_whole(words) or words)
    return Examples(
        "classes",
        tuple(names),
        _found(path, names, root),
        targets,
        classes,
        origin=str(path),
        lines=tuple(lines),
    )


def _found(path: Path, names: Sequence[str], root: str | Path | None) -> tuple[str, ...]:
    """The files that a list names."""
    if root is None:
        beside = path.parent / names[0]
        root = Path() if not beside.exists() and Path(names[0]).exists() else path.parent
    return tuple(str(Path(root) / name) for name in names)


def read_table(
    path: Path,
    kind: str | None,
    columns: Sequence[str],
    root: str | Path | None,
    *,
    targets: bool = True,
) -> Examples:
    """The pictures of a table, and what its columns hold.

    Args:
        path: the table.
        kind: one of KINDS, where the columns don't tell.
        columns: the targets; none: all but picture, split and group.
        root: what the names are relative to; None: as `read_list`.
        targets: whether there must be any.

    Raises:
        DataError: with all that is wrong.
    """
    rows = list(rows_of(path))
    if not rows:
        raise DataError("the table is empty", place=Place(str(path)))
    first = Place(str(path), 1, 1)
    known = list(rows[0][1])
    picture = picture_column(known)
    others = [name for name in known if name not in (picture, SPLIT_COLUMN, GROUP_COLUMN)]
    problems = [
        Problem(
            f'there is no column "{name}"',
            first,
            hint=did_you_mean(name, others) or f"There are {', '.join(others) or 'no others'}.",
        )
        for name in columns
        if name not in known
    ]
    wanted = list(columns) or others
    if not wanted and targets and not problems:
        problems = [Problem("the table has no column of targets", first, hint=HINT)]
    for line, row in [] if problems else rows:
        missing = [name for name in (picture, *wanted) if row.get(name) in (None, "")]
        if missing and not problems[MOST_PROBLEMS - 1 :]:
            problems.append(
                Problem(f'there is nothing in "{missing[0]}"', Place(str(path), line, 1))
            )
    if problems:
        raise DataError(problems)
    names = [str(row[picture]) for _, row in rows]
    kind = (kind or _kind_of(wanted, [row for _, row in rows])) if wanted else "none"
    classes, values = _targets(path, kind, wanted, rows)
    found = Examples(
        kind,
        tuple(names),
        _found(path, names, root),
        values,
        classes,
        groups=tuple(str(row[GROUP_COLUMN]) for _, row in rows) if GROUP_COLUMN in known else (),
        origin=str(path),
        lines=tuple(line for line, _ in rows),
    )
    return replace(found, parts=_parts(path, rows)) if SPLIT_COLUMN in known else found


def _kind_of(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    """What columns hold, by their names and cells."""
    cells = [row[name] for row in rows for name in columns]
    if len(columns) == 1:
        name = columns[0].lower()
        if name in TAG_COLUMNS or isinstance(cells[0], list):
            return "tags"
        return "classes" if name in CLASS_COLUMNS or _floats(cells) is None else "numbers"
    if {str(cell) for cell in cells} <= {"0", "1", "True", "False", "true", "false"}:
        return "tags"
    ends = [name[-2:].lower() for name in columns]
    paired = len(columns) % 2 == 0 and ends == ["_x", "_y"] * (len(columns) // 2)
    return "points" if paired else "numbers"


def _floats(cells: Sequence[Any]) -> list[float] | None:
    try:
        values = [float(cell) for cell in cells]
    except (TypeError, ValueError):
        return None
    return values if np.isfinite(values).all() else None


def _targets(
    path: Path, kind: str, columns: Sequence[str], rows: Sequence[tuple[int, dict[str, Any]]]
) -> tuple[tuple[str, ...], NDArray[Any]]:
    """The names and values of a table's targets."""
    if kind == "none":
        return (), np.zeros(0, np.int64)
    if kind == "classes":
        if len(columns) > 1:
            raise DataError(
                f"{len(columns)} columns for one class: {', '.join(columns)}",
                place=Place(str(path), 1, 1),
                hint="Say which it is, by --target.",
            )
        words = [row[columns[0]] for _, row in rows]
        return numbered(_whole(words) or [str(word) for word in words])
    if kind == "tags" and len(columns) == 1:
        return _tags([row[columns[0]] for _, row in rows])
    read: Callable[[Any], float] = _flag if kind == "tags" else float
    values = np.zeros((len(rows), len(columns)), np.float32)
    problems = []
    for i, (line, row) in enumerate(rows):
        for j, name in enumerate(columns):
            try:
                values[i, j] = read(row[name])
                if not np.isfinite(values[i, j]):
                    raise ValueError
            except (TypeError, ValueError):
                told = f'"{name}" is {json.dumps(row[name])[:60]}, expected a number'
                problems.append(Problem(told, Place(str(path), line, 1)))
        if len(problems) >= MOST_PROBLEMS:
            break
    if problems:
        raise DataError(problems[:MOST_PROBLEMS])
    if kind == "points" and not (values.min() >= 0 and values.max() <= 1):
        raise DataError(
            f"points go from {values.min():g} to {values.max():g}: expected shares of the "
            "picture's width and height, 0 to 1",
            place=Place(str(path)),
        )
    return tuple(columns), values


def _flag(cell: Any) -> float:
    text = str(cell).lower()
    if text in ("1", "true", "0", "false"):
        return float(text in ("1", "true"))
    raise ValueError


def _tags(cells: Sequence[Any]) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """One column with several tags in a cell."""
    own = []
    for cell in cells:
        words = (
            cell
            if isinstance(cell, list)
            else str(cell).replace(";", "|").replace(",", "|").split("|")
        )
        own.append({str(word).strip() for word in words} - {""})
    classes = tuple(sorted(set().union(*own)))
    values = np.asarray([[tag in one for tag in classes] for one in own], np.float32)
    return classes, values


def _parts(path: Path, rows: Sequence[tuple[int, dict[str, Any]]]) -> tuple[str, ...]:
    parts = []
    for line, row in rows:
        text = str(row.get(SPLIT_COLUMN, "")).lower()
        if text not in PARTS:
            raise DataError(
                f'"{SPLIT_COLUMN}" is "{text}", expected train, val or test',
                place=Place(str(path), line, 1),
            )
        parts.append(PARTS[text])
    return tuple(parts)
