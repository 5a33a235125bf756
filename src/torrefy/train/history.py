"""The history of a training: a row at each display and each test."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torrefy.errors import Place, TorrefyError

COLUMNS = ("iteration", "epoch", "train/loss", "lr", "images/s", "seconds")
"""What every row has, in a file's order; then come the test nets' outputs, "test/accuracy"."""
MOST_BYTES = 256 << 20
"""The longest file that is read."""


@dataclass(frozen=True)
class Row:
    """What is known of a training at an iteration."""

    iteration: int
    """Updates made."""
    epoch: float = math.nan
    """How often the training data were gone through; NaN: their number isn't known."""
    loss: float = math.nan
    """The training loss, averaged over the iterations since the row before; NaN: there are none."""
    lr: float = math.nan
    """The rate of the last update."""
    speed: float = math.nan
    """Rows of batches, as pictures, a second since the row before, tests left out."""
    seconds: float = 0.0
    """Since the training began, with the earlier parts of one that was resumed."""
    scores: dict[str, float] = field(default_factory=dict)
    """What the tests gave, by columns: "test/loss", a second test net's "test1/loss"; an output of
    several numbers is "test/blob[0]" and so on. Empty: there was no test."""

    def columns(self) -> dict[str, float]:
        """All its numbers, by the columns' names."""
        known = (self.iteration, self.epoch, self.loss, self.lr, self.speed, self.seconds)
        return {**dict(zip(COLUMNS, known, strict=True)), **self.scores}


class History:
    """The rows of a training, which a CSV file can hold."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        """Take rows, in the order of their iterations."""
        self.rows = list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def add(self, row: Row) -> Row:
        """Add a row. Where the last has its iteration already, the two become one."""
        if self.rows and self.rows[-1].iteration == row.iteration:
            old = self.rows.pop()
            row = Row(
                row.iteration,
                row.epoch,
                old.loss if math.isnan(row.loss) else row.loss,
                old.lr if math.isnan(row.lr) else row.lr,
                old.speed if math.isnan(row.speed) else row.speed,
                row.seconds,
                {**old.scores, **row.scores},
            )
        self.rows.append(row)
        return row

    def tests(self) -> list[Row]:
        """The rows with tests."""
        return [row for row in self.rows if row.scores]

    def text(self) -> str:
        """As CSV; what a row doesn't have is empty."""
        names = [*COLUMNS, *{name: None for row in self.rows for name in row.scores}]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(names)
        for row in self.rows:
            columns = row.columns()
            writer.writerow([_cell(columns.get(name, math.nan)) for name in names])
        return out.getvalue()

    @classmethod
    def read(cls, path: Path, before: int) -> History:
        """The rows of a file up to an iteration; none where there is no file.

        Raises:
            TorrefyError: it is no history.
        """
        if not path.exists():
            return cls()
        place = Place(str(path))
        if path.stat().st_size > MOST_BYTES:
            raise TorrefyError("this is no history: it is too long", place=place)
        rows = []
        try:
            for line in csv.DictReader(io.StringIO(path.read_text())):
                cells = {name: float(cell) for name, cell in line.items() if cell}
                at, *known = (cells.pop(name, math.nan) for name in COLUMNS)
                epoch, loss, rate, speed, seconds = known
                rows.append(Row(int(at), epoch, loss, rate, speed, seconds, cells))
        except (ValueError, TypeError, AttributeError, csv.Error, OSError) as error:
            raise TorrefyError(
                f"this is no history of a training: {error}",
                place=place,
                hint="Move it away to begin a new one.",
            ) from None
        return cls(row for row in rows if row.iteration <= before)


def _cell(value: float) -> str:
    """A number in a file: NaN is nothing, an iteration has no point."""
    if math.isnan(value):
        return ""
    return str(value) if isinstance(value, int) else f"{value:.7g}"
