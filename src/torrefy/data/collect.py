"""What a user names as data becomes examples: folders, lists, tables, databases, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from torrefy.data.columns import HINT, PARTS, numbered, read_list, read_table
from torrefy.data.examples import KINDS, Examples
from torrefy.data.open import open_path
from torrefy.data.pictures import SUFFIXES, find_pictures
from torrefy.data.sources.datum import DatumSource
from torrefy.data.sources.image_list import MOST_PROBLEMS, find_classes
from torrefy.data.sources.table import SUFFIXES as TABLES
from torrefy.errors import DataError, Place, Problem, did_you_mean, nearest_file


def read_examples(
    data: str | Path | Sequence[str | Path],
    *,
    kind: str | None = None,
    columns: Sequence[str] = (),
    root: str | Path | None = None,
    targets: bool = True,
) -> Examples:
    """What a user names as data.

    - A folder with a folder for each class; pictures may lie deeper within. Or one with `train`
      and `val` or `test` folders, each with a folder for each class.
    - A list: lines of `picture class`, the class a number or a name without spaces.
    - A table, .csv, .tsv or .jsonl: a column of pictures, the others are targets. A column of
      texts, or one called label, class, category, target or y, is classes; a column called tags
      or labels holds several, separated by "|", ";" or ","; several columns of 0 and 1 are tags;
      columns in pairs of `…_x`, `…_y` are points, in shares of the picture; else numbers. A column
      `split` says train, val or test; what has one text in a column `group` stays together.
    - An LMDB or LevelDB of Datum.
    - Without targets also a folder of pictures, or pictures.

    Args:
        data: the path; without targets also several.
        kind: one of KINDS, where a table's columns don't tell.
        columns: a table's targets; none: all but picture, split and group.
        root: the folder that names in a list or table are relative to; None: its own folder, or
            the working folder where the first picture is only there.
        targets: whether they are needed; without, what has none is of the kind "none".

    Raises:
        DataError: there is nothing of these kinds, or it is wrong, with all that is.
    """
    if not isinstance(data, (str, Path)):
        if len(data) != 1:
            return _plain([str(one) for one in data])
        data = data[0]
    path = Path(data)
    if kind is not None and kind not in KINDS:
        raise DataError(
            f'there is no kind of targets "{kind}"',
            hint=did_you_mean(kind, KINDS) or f"There are {', '.join(KINDS)}.",
        )
    if not path.exists():
        if not targets and "*" in str(data):
            return _plain([str(data)])
        raise DataError("no such file or folder", place=Place(str(path)), hint=nearest_file(path))
    if (path / "data.mdb").exists() or (path / "CURRENT").exists() or path.suffix == ".mdb":
        return _database(path)
    if path.is_dir():
        return _folder(path, targets)
    if path.suffix in TABLES:
        return read_table(path, kind, columns, root, targets=targets)
    if path.suffix.lower() in SUFFIXES:
        if not targets:
            return _plain([str(path)])
        raise DataError("this is one picture", place=Place(str(path)), hint=HINT)
    return read_list(path, root)


# --- Folders ---


def _folder(path: Path, targets: bool) -> Examples:
    inner = sorted(e.name for e in path.iterdir() if e.is_dir() and not e.name.startswith("."))
    parts = {name: PARTS[name.lower()] for name in inner if name.lower() in PARTS}
    if parts and set(parts) == set(inner) and "train" in parts.values() and len(parts) > 1:
        return _in_parts(path, parts)
    if not inner or (not targets and not _of_classes(path, inner)):
        there = find_pictures([path]) != [path]
        if not targets and there:
            return _plain([str(path)])
        if there:
            raise DataError(
                "there are pictures in this folder, but none says what is in it",
                place=Place(str(path)),
                hint="Put them in folders of their own, one for each class.",
            )
        hint = HINT if targets else ""
        raise DataError("there is no picture in this folder", place=Place(str(path)), hint=hint)
    classes, files, labels = find_classes(path)
    return _of_files(path, classes, files, labels)


def _of_classes(path: Path, inner: Sequence[str]) -> bool:
    """Whether each folder in a folder holds pictures, and no picture lies beside them."""
    beside = any(e.name.lower().endswith(SUFFIXES) for e in path.iterdir() if e.is_file())
    return not beside and all(find_pictures([path / name]) != [path / name] for name in inner)


def _of_files(
    path: Path, classes: Sequence[str], files: Sequence[str], labels: Sequence[int]
) -> Examples:
    return Examples(
        "classes",
        tuple(str(Path(file).relative_to(path)) for file in files),
        tuple(files),
        np.asarray(labels, np.int64),
        tuple(classes),
        origin=str(path),
    )


def _in_parts(path: Path, parts: dict[str, str]) -> Examples:
    """Folders for training and testing, each with a folder for each class."""
    found = {name: find_classes(path / name) for name in parts}
    classes = sorted({c for name in parts if parts[name] == "train" for c in found[name][0]})
    files: list[str] = []
    labels: list[int] = []
    told: list[str] = []
    problems = []
    for name, (own, inside, numbers) in found.items():
        for unknown in sorted(set(own) - set(classes)):
            problems.append(
                Problem(
                    f'there is no class "{unknown}" in what is trained on',
                    Place(str(path / name / unknown)),
                    hint=did_you_mean(unknown, classes)
                    or "Move it away, or give pictures to train on.",
                )
            )
            continue
        if not problems:
            files += inside
            labels += [classes.index(own[number]) for number in numbers]
            told += [parts[name]] * len(inside)
    if problems:
        raise DataError(problems[:MOST_PROBLEMS])
    return replace(_of_files(path, classes, files, labels), parts=tuple(told))


def _plain(names: Sequence[str]) -> Examples:
    """Pictures of which nothing is known."""
    files = find_pictures(names)
    base = Path(names[0]) if len(names) == 1 and Path(names[0]).is_dir() else None
    called = [str(f.relative_to(base)) if base and f != base else str(f) for f in files]
    return Examples(
        "none",
        tuple(called),
        tuple(map(str, files)),
        np.zeros(0, np.int64),
        origin=", ".join(names),
    )


# --- Databases ---


def _database(path: Path) -> Examples:
    source = open_path(path)
    if not isinstance(source, DatumSource):
        raise DataError("this is no database of Datum", place=Place(str(path)))
    labels = [source.label(i) for i in range(len(source))]
    names = tuple(source.name(i).decode("utf-8", "replace") for i in range(len(source)))
    classes, targets = numbered(labels)
    return Examples(
        "classes",
        names,
        (),
        targets,
        classes,
        origin=str(path),
        database=source,
        numbers=tuple(range(len(source))),
    )
