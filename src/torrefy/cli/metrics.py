"""Metrics as commands print them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torrefy.cli.output import console, note_line, one_line

if TYPE_CHECKING:
    from rich.table import Table

    from torrefy.finetune.metrics import Metrics, Row

MOST_ROWS = 20
"""Rows of a table of classes: of more, those with the lowest F1 are printed."""


def print_metrics(measured: Sequence[Metrics], *, rows: bool = True) -> None:
    """Print metrics on stdout: the numbers of each part, and the last part's of each class.

    Args:
        measured: by parts.
        rows: whether the classes are printed.
    """
    out = console()
    out.print(numbers_table(measured))
    if rows and len(measured[-1].rows) > 1:
        table, left_out = rows_table(measured[-1])
        out.print()
        out.print(table)
        if left_out:
            out.print(f"and {left_out} others")
    for one in measured:
        for note in one.notes:
            out.print(note_line(one.part, note))


def numbers_table(measured: Sequence[Metrics]) -> Table:
    """A row for each number, a column for each part; the accuracy has its 95 % interval."""
    from rich.table import Table

    from torrefy.finetune.wording import NAMES, percent, value_text

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for one in measured:
        table.add_column(f"{one.part} ({one.count})", justify="right")
    for name in NAMES:
        if not any(name in one.values for one in measured):
            continue
        table.add_row(
            NAMES[name][0],
            *(value_text(name, one.values.get(name, math.nan)) for one in measured),
        )
        if name == "accuracy" and all(one.interval for one in measured):
            ends = [[percent(end) for end in one.interval or ()] for one in measured]
            table.add_row("  95 % interval", *(" to ".join(end) for end in ends))
    return table


def rows_table(metrics: Metrics) -> tuple[Table, int]:
    """The numbers of each class or column; and how many are left out."""
    from rich.table import Table

    from torrefy.finetune.wording import COLUMNS, EACH, RANKED, value_text

    rank = RANKED.get(metrics.kind)

    def order(row: Row) -> tuple[bool, float]:
        value = row.values[rank] if rank else 0.0
        return math.isnan(value), 0.0 if math.isnan(value) else value

    shown = list(metrics.rows)
    if len(shown) > MOST_ROWS:
        shown = sorted(shown, key=order)[:MOST_ROWS]
    table = Table(box=None, pad_edge=False)
    table.add_column(EACH[metrics.kind], overflow="fold")
    for column in metrics.rows[0].values:
        table.add_column(COLUMNS[column], justify="right")
    for row in shown:
        cells = (value_text(name, value) for name, value in row.values.items())
        table.add_row(one_line(row.name), *cells)
    return table, len(metrics.rows) - len(shown)
