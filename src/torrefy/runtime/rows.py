"""Answers as rows of a table: a line each of CSV or JSON, which is written once and read again."""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from torrefy.runtime.classifier import Answer


@dataclass(frozen=True)
class Row:
    """What a file that was read again says of one picture."""

    file: str
    bad: bool
    """Whether the picture could not be read."""
    end: int
    """The byte after the row."""


class Rows(ABC):
    """A form of rows, of the K likeliest classes."""

    def __init__(self, top: int) -> None:
        """Take K."""
        self.top = top

    @property
    def head(self) -> bytes:
        """What the file begins with."""
        return b""

    @abstractmethod
    def line(self, answer: Answer) -> bytes:
        """An answer's row."""

    @abstractmethod
    def read(self, file: BinaryIO) -> Iterator[Row]:
        """The rows that were written whole; a last one that is torn is left out.

        Raises:
            ValueError: there is something else among them.
        """


class CsvRows(Rows):
    """`file,label_1,score_1,…,label_K,score_K,error`, in UTF-8."""

    @property
    def columns(self) -> list[str]:
        """What they are called."""
        guesses = (f"{name}_{i}" for i in range(1, self.top + 1) for name in ("label", "score"))
        return ["file", *guesses, "error"]

    @property
    def head(self) -> bytes:
        """The names of the columns."""
        return _csv(self.columns)

    def line(self, answer: Answer) -> bytes:
        """Scores are as short as tells the float32."""
        told = [str(x) for g in answer.guesses for x in (plain(g.label), np.float32(g.score))]
        blank = [""] * (2 * self.top - len(told))
        return _csv([plain(str(answer.path)), *told, *blank, reason(answer)])

    def read(self, file: BinaryIO) -> Iterator[Row]:
        """Read the rows after the head."""
        at = 0

        def lines() -> Iterator[str]:
            nonlocal at
            for line in file:
                if not line.endswith(b"\n"):
                    return
                at += len(line)
                yield line.decode()

        reader = csv.reader(lines(), strict=True)
        try:
            if next(reader, self.columns) != self.columns:
                raise ValueError("the first line names other columns")
            for cells in reader:
                if len(cells) != len(self.columns):
                    raise ValueError(f"the row that ends at byte {at} has {len(cells)} cells")
                yield Row(cells[0], bool(cells[-1]), at)
        except csv.Error as error:
            if "unexpected end of data" not in str(error):  # torn within quotes
                raise ValueError(f"the row that ends at byte {at} is no CSV: {error}") from None


class JsonRows(Rows):
    """`{"file": …, "classes": [{"index": …, "label": …, "score": …}]}`, or "error" for classes."""

    def line(self, answer: Answer) -> bytes:
        """A score that is no number is null."""
        row: dict[str, Any] = {"file": plain(str(answer.path))}
        if answer.error is not None:
            row["error"] = reason(answer)
        else:
            row["classes"] = [
                {"index": g.index, "label": plain(g.label), "score": _number(g.score)}
                for g in answer.guesses
            ]
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"

    def read(self, file: BinaryIO) -> Iterator[Row]:
        """Read the rows."""
        at = 0
        for line in file:
            if not line.endswith(b"\n"):
                return
            at += len(line)
            try:
                row = json.loads(line)
                yield Row(row["file"], "error" in row, at)
            except (ValueError, KeyError, TypeError, RecursionError):
                raise ValueError(f"the line that ends at byte {at} is no row") from None


def plain(text: str) -> str:
    r"""A text that every program can read: bytes of a name that are no UTF-8 become \udcNN."""
    return text.encode("utf-8", "backslashreplace").decode()


def reason(answer: Answer) -> str:
    """Why a picture can't be read; empty: it can."""
    if answer.error is None:
        return ""
    return plain("; ".join(problem.message for problem in answer.error.problems))


def _csv(cells: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _number(score: float) -> float | None:
    return float(str(np.float32(score))) if np.isfinite(score) else None
