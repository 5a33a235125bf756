"""Tables of pictures: CSV, TSV or JSON lines, with any number of named targets for each."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.sources.image_list import MOST_PROBLEMS, Listed, PictureSource, text_lines
from torrefy.data.sources.source import Item
from torrefy.errors import DataError, Place, Problem, did_you_mean

SUFFIXES = (".csv", ".tsv", ".jsonl")
"""What a table's name ends in; any other list has lines of `name class`."""
PICTURE_COLUMNS = ("image", "picture", "file", "path", "filename")
"""What the column of the pictures may be called; else it is the first."""


class TableSource(PictureSource):
    """Pictures, and for each the targets of a table by name: numbers, or arrays of numbers."""

    def __init__(
        self, files: Sequence[str], targets: Mapping[str, NDArray[np.float32]], **options: Any
    ) -> None:
        """Take the files, each target's values as N×…, and options as `PictureSource`."""
        super().__init__(files, [0.0] * len(files), **options)
        self.targets = dict(targets)

    def item(self, index: int) -> Item:
        """C×H×W bytes, and each target."""
        picture, _ = super().item(index)
        return (picture, *(np.asarray(values[index]) for values in self.targets.values()))


def read_table(
    path: Path | str, names: Sequence[str] | None
) -> tuple[list[str], dict[str, NDArray[np.float32]], Listed]:
    """The pictures of a table, and the columns of these names; None: "label", if it has one.

    A .csv or .tsv begins with the names of its columns. A cell holds a number, or several with
    spaces between them: `0 1 1`. A .jsonl has an object in each line:
    `{"image": "a.jpg", "age": 31.5, "tags": [0, 1, 1]}`; arrays may nest, true is 1.

    Returns:
        The pictures' names, for each column its values, N×…, and where each picture is named.

    Raises:
        DataError: the table can't be read or is empty; a column is missing; a cell is no number
            or has another shape than the first of its column: the first MOST_PROBLEMS are told.
    """
    path = Path(path)
    rows = list(rows_of(path))
    if not rows:
        raise DataError("the table is empty", place=Place(str(path)))
    columns = list(rows[0][1])
    if names is None:
        names = [name for name in columns if name == "label"]
    pictures = picture_column(columns)
    problems: list[Problem] = []
    for name in names:
        if name not in columns:
            others = [column for column in columns if column != pictures]
            hint = did_you_mean(name, others) or f"There are {', '.join(others) or 'no others'}."
            told = f'there is no column "{name}"'
            problems.append(Problem(told, Place(str(path), rows[0][0], 1), hint=hint))
    if problems:
        raise DataError(problems)
    files: list[str] = []
    values: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    for line, row in rows:
        place = Place(str(path), line, 1)
        if not isinstance(row.get(pictures), str) or not row[pictures]:
            problems.append(Problem(f'there is no picture in "{pictures}"', place))
        files.append(str(row.get(pictures)))
        for name in names:
            array = _numbers(row.get(name))
            first = values[name][0] if values[name] else array
            if array is None:
                told = f'"{name}" is {json.dumps(row.get(name))[:60]}, expected numbers'
                problems.append(Problem(told, place))
            elif first is not None and array.shape != first.shape:
                told = f'"{name}" has {array.size} numbers, and {first.size} in the first row'
                problems.append(Problem(told, place))
            else:
                values[name].append(array)
        if len(problems) >= MOST_PROBLEMS:
            break
    if problems:
        raise DataError(problems[:MOST_PROBLEMS])
    targets = {name: np.stack(arrays) for name, arrays in values.items()}
    return files, targets, Listed(str(path), [line for line, _ in rows])


def table_source(
    path: Path | str, names: Sequence[str] | None, root: str = "", **options: Any
) -> TableSource:
    """The pictures of a table with the targets of these names.

    Args:
        path: the .csv, .tsv or .jsonl.
        names: the columns, in the order of the layer's tops after the first; None: "label", if
            it has one.
        root: what is put before each picture's name as it is.
        options: as `PictureSource`.
    """
    files, targets, listed = read_table(path, names)
    return TableSource([root + name for name in files], targets, listed=listed, **options)


def picture_column(columns: Sequence[str]) -> str:
    """The column of a table's pictures."""
    return next((name for name in PICTURE_COLUMNS if name in columns), columns[0])


def rows_of(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a table by column, each with its line: texts, of a .jsonl what JSON can hold.

    Raises:
        DataError: the table can't be read; a row has other columns.
    """
    return _objects(path) if path.suffix == ".jsonl" else _cells(path)


def _cells(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    place = Place(str(path))
    reader = csv.reader(
        (line + "\n" for line in text_lines(path)),
        delimiter="\t" if path.suffix == ".tsv" else ",",
        strict=True,
    )
    try:
        columns = [name.strip() for name in next(reader, [])]
        if len(set(columns)) != len(columns):
            raise DataError("two columns have one name", place=place)
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(columns):
                raise DataError(
                    f"{len(cells)} cells, but there are {len(columns)} columns",
                    place=Place(str(path), reader.line_num, 1),
                )
            yield reader.line_num, dict(zip(columns, map(str.strip, cells), strict=True))
    except csv.Error as error:
        raise DataError(
            f"this is no CSV: {error}", place=Place(str(path), reader.line_num, 1)
        ) from None


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or not row:
            raise DataError("expected a JSON object", place=Place(str(path), number, 1))
        yield number, row


def _numbers(cell: Any) -> NDArray[np.float32] | None:
    """A cell as numbers; None where it holds anything else, or what is not finite."""
    try:
        if isinstance(cell, str):
            values = [float(word) for word in cell.split()]
            array = np.array(values[0] if len(values) == 1 else values, np.float32)
        else:
            array = np.array(cell)
            if array.dtype.kind not in "biuf":
                return None
            array = array.astype(np.float32)
    except (ValueError, OverflowError):
        return None
    return array if array.size and math.isfinite(float(np.abs(array).max())) else None
