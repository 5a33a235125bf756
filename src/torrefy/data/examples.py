"""A user's data: pictures with what is to be learned of each, whatever they lie in."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.open import open_path
from torrefy.data.pictures import SUFFIXES, find_pictures, read_picture
from torrefy.data.sources.datum import DatumSource, read_datum
from torrefy.data.sources.image_list import MOST_PROBLEMS, find_classes, named_at, text_lines
from torrefy.data.sources.table import PICTURE_COLUMNS
from torrefy.data.sources.table import SUFFIXES as TABLES
from torrefy.errors import (
    DataError,
    PictureError,
    Place,
    Problem,
    RecordError,
    did_you_mean,
    nearest_file,
)

KINDS = ("classes", "tags", "numbers", "points", "none")
"""What may be known of a picture: one of some classes; any of some tags; numbers; points, x and y
of each; nothing."""
PARTS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What folders, and cells of a column "split", are called, and the part that they mean."""
CLASS_COLUMNS = ("label", "class", "category", "target", "y")
TAG_COLUMNS = ("tags", "labels", "classes", "categories")
SPLIT_COLUMN, GROUP_COLUMN = "split", "group"
_READING = threading.Lock()
"""Of databases, whose files have one place that is read at; pictures are decoded outside of it."""
HINT = (
    "Give a folder that holds one for each class, a list (`picture class` a line), a table (.csv) "
    "or an LMDB."
)


@dataclass(frozen=True)
class Examples:
    """Pictures by number, and what is to be learned of each."""

    kind: str
    """One of KINDS."""
    names: tuple[str, ...]
    """What each is called: its path in the folder, as the list has it, or its key."""
    files: tuple[str, ...]
    """Their files; of a database empty."""
    targets: NDArray[Any]
    """N class numbers as int64; N rows of float32 for tags (0 or 1), numbers or points; of "none"
    empty."""
    classes: tuple[str, ...] = ()
    """The names of the classes, or of the targets' columns."""
    groups: tuple[str, ...] = ()
    """What must stay together when they are divided; empty: each stands alone."""
    parts: tuple[str, ...] = ()
    """ "train", "val" or "test" of each, where the data say so; else empty."""
    origin: str = ""
    """The path that they were read from."""
    database: DatumSource | None = None
    """The database that they lie in; None: in files."""
    numbers: tuple[int, ...] = ()
    """Their numbers in the database."""
    lines: tuple[int, ...] = ()
    """The lines that name them in a list or table, from 1."""
    arrays: tuple[NDArray[np.uint8], ...] = ()
    """The pictures themselves, where they are in memory: in RGB, or of one channel."""

    def __len__(self) -> int:
        return len(self.names)

    def place(self, index: int) -> Place:
        """Where an error about a picture points."""
        if self.lines:
            return Place(self.origin, self.lines[index], 1)
        if self.database is not None:
            return self.database.place(self.numbers[index])
        return Place(self.files[index] if self.files else self.names[index])

    def picture(self, index: int, colour: str = "RGB") -> NDArray[np.uint8]:
        """A picture as H×W×C bytes in the order of `colour`: "RGB", "BGR" or "GRAY".

        Raises:
            PictureError, RecordError: it can't be read.
        """
        if self.arrays:
            return _coloured(self.arrays[index], colour)
        if self.database is not None:
            return _stored(self.database, self.numbers[index], colour)
        try:
            return read_picture(self.files[index], colour, streams=False)
        except PictureError as error:
            raise (named_at(self.place(index), error) if self.lines else error) from None

    def take(self, indices: Sequence[int] | NDArray[Any]) -> Examples:
        """Some of them, in that order."""
        rows = [int(i) for i in indices]

        def some(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[i] for i in rows) if values else ()

        return replace(
            self,
            names=some(self.names),
            files=some(self.files),
            targets=self.targets[rows] if len(self.targets) else self.targets,
            groups=some(self.groups),
            parts=some(self.parts),
            numbers=some(self.numbers),
            lines=some(self.lines),
            arrays=some(self.arrays),
        )


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
        return _table(path, kind, columns, root)
    if path.suffix.lower() in SUFFIXES:
        if not targets:
            return _plain([str(path)])
        raise DataError("this is one picture", place=Place(str(path)), hint=HINT)
    return _list(path, root)


# --- Folders ---


def _folder(path: Path, targets: bool) -> Examples:
    inner = sorted(e.name for e in path.iterdir() if e.is_dir() and not e.name.startswith("."))
    parts = {name: PARTS[name.lower()] for name in inner if name.lower() in PARTS}
    if parts and set(parts) == set(inner) and "train" in parts.values() and len(parts) > 1:
        return _in_parts(path, parts)
    if not inner or (not targets and not _of_classes(path, inner)):
        if not targets:
            return _plain([str(path)])
        if find_pictures([path]) != [path]:
            raise DataError(
                "there are pictures in this folder, but none says what is in it",
                place=Place(str(path)),
                hint="Put them in folders of their own, one for each class.",
            )
        raise DataError("there is no picture in this folder", place=Place(str(path)), hint=HINT)
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
    labels = [int(source.item(i)[1]) for i in range(len(source))]
    names = tuple(source.name(i).decode("utf-8", "replace") for i in range(len(source)))
    classes, targets = _numbered(labels)
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


def _stored(source: DatumSource, index: int, colour: str) -> NDArray[np.uint8]:
    """A database's picture, as `read_picture` gives one: what is stored is grey or BGR."""
    with _READING:
        record, key = source.record(index), source.key(index)
    array = read_datum(record, lambda: key, source.colour)[0]
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[0] not in (1, 3):
        shape = "x".join(map(str, array.shape))
        raise RecordError(
            f"expected a picture of 1 or 3 channels in bytes, found {shape} of {array.dtype}",
            place=source.place(index),
        )
    return _coloured(array.transpose(1, 2, 0)[..., ::-1], colour)


def _coloured(picture: NDArray[np.uint8], colour: str) -> NDArray[np.uint8]:
    """H×W×3 in RGB, or H×W×1, in other colours."""
    if colour == "GRAY" and picture.shape[2] == 3:
        red, green, blue = (picture[..., i].astype(np.uint32) for i in range(3))
        grey = (9797 * red + 19234 * green + 3737 * blue) >> 15  # as `read_picture`
        return grey.astype(np.uint8)[..., np.newaxis]
    if colour != "GRAY" and picture.shape[2] == 1:
        return np.repeat(picture, 3, axis=2)
    return np.ascontiguousarray(picture[..., ::-1] if colour == "BGR" else picture)


def examples_of(pictures: Any, labels: Any = None, *, origin: str = "X") -> Examples:
    """Examples of what a program has: scikit-learn's X and y.

    Args:
        pictures: the names of files; or arrays of bytes, H×W×3 in RGB, H×W×1 or H×W each, all in
            one array or not; or Pillow's pictures.
        labels: a class for each, any that can be sorted; or N×T numbers; None: not known.
        origin: what messages call them.

    Raises:
        DataError: they are something else, none, or labels are more or fewer.
    """
    place = Place(origin)
    if isinstance(pictures, (str, Path, bytes)) or not hasattr(pictures, "__len__"):
        raise DataError("expected a list of pictures", place=place)
    if not len(pictures):
        raise DataError("there are no pictures", place=place)
    files: tuple[str, ...] = ()
    arrays: tuple[NDArray[np.uint8], ...] = ()
    if all(isinstance(one, (str, Path)) for one in pictures):
        names = files = tuple(map(str, pictures))
    else:
        arrays = tuple(_array(one, i, place) for i, one in enumerate(pictures))
        names = tuple(f"{origin}[{i}]" for i in range(len(arrays)))
    kind, targets = "none", np.zeros(0, np.int64)
    classes: tuple[str, ...] = ()
    if labels is not None:
        given = np.asarray(labels)
        if given.ndim not in (1, 2) or len(given) != len(names):
            raise DataError(
                f"{len(names)} pictures, but labels of {'x'.join(map(str, given.shape))}",
                place=place,
            )
        if given.ndim == 1:
            kind = "classes"
            values, targets = np.unique(given, return_inverse=True)
            classes = tuple(map(str, values))
        else:
            kind = "tags" if set(np.unique(given).tolist()) <= {0, 1} else "numbers"
            classes = tuple(str(i) for i in range(given.shape[1]))
            targets = given.astype(np.float32)
    return Examples(kind, names, files, targets, classes, origin=origin, arrays=arrays)


def _array(picture: Any, index: int, place: Place) -> NDArray[np.uint8]:
    if hasattr(picture, "convert"):  # Pillow's
        picture = picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    array = np.asarray(picture)
    array = array[..., np.newaxis] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in (1, 3) or array.dtype != np.uint8 or not array.size:
        shape = "x".join(map(str, array.shape))
        raise DataError(
            f"expected names of files or pictures of HxWx3 bytes, found {array.dtype} of {shape} "
            f"at {index}",
            place=place,
        )
    return array


# --- Lists and tables ---


def _numbered(labels: Sequence[Any]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Classes in their order, whole numbers by value, and each label's number among them."""
    values = sorted(set(labels))
    number = {value: i for i, value in enumerate(values)}
    targets = np.asarray([number[label] for label in labels], np.int64)
    return tuple(str(value) for value in values), targets


def _whole(words: Sequence[Any]) -> list[int] | None:
    try:
        return [int(word) for word in words]
    except (TypeError, ValueError):
        return None


def _list(path: Path, root: str | Path | None) -> Examples:
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
    classes, targets = _numbered(_whole(words) or words)
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


def _table(
    path: Path, kind: str | None, columns: Sequence[str], root: str | Path | None
) -> Examples:
    rows = list(_rows(path))
    if not rows:
        raise DataError("the table is empty", place=Place(str(path)))
    first = Place(str(path), 1, 1)
    known = list(rows[0][1])
    picture = next((name for name in PICTURE_COLUMNS if name in known), known[0])
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
    if not wanted and not problems:
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
    kind = kind or _kind_of(wanted, [row for _, row in rows])
    classes, targets = _targets(path, kind, wanted, rows)
    found = Examples(
        kind,
        tuple(names),
        _found(path, names, root),
        targets,
        classes,
        groups=tuple(str(row[GROUP_COLUMN]) for _, row in rows) if GROUP_COLUMN in known else (),
        origin=str(path),
        lines=tuple(line for line, _ in rows),
    )
    return replace(found, parts=_parts(path, rows)) if SPLIT_COLUMN in known else found


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a table by column, each with its line."""
    place = partial(Place, str(path))
    if path.suffix == ".jsonl":
        for number, line in enumerate(text_lines(path), 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                if not isinstance(row, dict) or not row:
                    raise DataError("expected a JSON object", place=place(number, 1))
                yield number, row
        return
    reader = csv.reader(
        (line + "\n" for line in text_lines(path)),
        delimiter="\t" if path.suffix == ".tsv" else ",",
        strict=True,
    )
    try:
        columns = [name.strip() for name in next(reader, [])]
        if len(set(columns)) != len(columns):
            raise DataError("two columns have one name", place=place(1, 1))
        for cells in reader:
            if any(cells):
                if len(cells) != len(columns):
                    told = f"{len(cells)} cells, but there are {len(columns)} columns"
                    raise DataError(told, place=place(reader.line_num, 1))
                yield reader.line_num, dict(zip(columns, map(str.strip, cells), strict=True))
    except csv.Error as error:
        raise DataError(f"this is no CSV: {error}", place=place(reader.line_num, 1)) from None


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
        return _numbered(_whole(words) or [str(word) for word in words])
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
