"""What a finetuning leaves to read: metrics, tables, pictures, and a page to mail."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from torrefy.finetune import wording
from torrefy.finetune.facts import Facts
from torrefy.finetune.metrics import Judged, Metrics, Row, measure
from torrefy.finetune.mistakes import Mistake, tile, worst_of
from torrefy.finetune.page import render
from torrefy.finetune.plots import MOST_DRAWN, draw_confusion, draw_predictions, joined
from torrefy.finetune.sheet import as_png, contact_sheet
from torrefy.train.curves import draw_curves
from torrefy.train.history import History
from torrefy.weights.files import replacing

REPORT = "report.html"


def write_report(
    folder: Path,
    facts: Facts,
    judged: Sequence[Judged],
    histories: Mapping[str, History | Path] | None = None,
) -> tuple[Path, list[Metrics]]:
    """Write all that is to be read of a finetuning into its folder.

    `metrics.json` has the numbers of each part, `per_class.csv` (`per_column.csv`,
    `per_point.csv`) those of each class. Of the last part there are `confusion.png` up to 50
    classes, `predictions.png` of numbers, and `mistakes.png`, a contact sheet of the 40 worst.
    `curves.png` has the phases' histories one after the other. `report.html` is one file that has
    everything in it and needs no script and no network.

    Args:
        folder: where; it exists.
        facts: what is told besides.
        judged: predictions, by parts; the last is what the page looks at closely.
        histories: of each phase by its name, or the file history.csv of each.

    Returns:
        The page, and what was measured of each part.

    Raises:
        DataError: the predictions can't be measured.
        TorrefyError: a file can't be written, or a history read.
    """
    measured = [measure(one) for one in judged]
    last, metrics = judged[-1], measured[-1]
    made = {"metrics.json": "the numbers of each part"}
    told = {one.part: one.to_json() for one in measured}
    _write(folder / "metrics.json", json.dumps(told, allow_nan=False).encode() + b"\n")
    table = f"per_{wording.EACH[metrics.kind]}.csv"
    _write(folder / table, _csv(measured))
    made[table] = f"the numbers of each {wording.EACH[metrics.kind]}"
    plot = b""
    if metrics.confusion is not None and len(last.classes) <= MOST_DRAWN:
        plot = draw_confusion(metrics.confusion)
        made["confusion.png"] = "the confusion matrix"
        _write(folder / "confusion.png", plot)
    elif metrics.kind == "numbers":
        plot = draw_predictions(last)
        made["predictions.png"] = "predictions over the truth"
        _write(folder / "predictions.png", plot)
    mistakes = worst_of(last)
    tiles = [tile(last, one, _caption(i, one)) for i, one in enumerate(mistakes.worst, 1)]
    _write(folder / "mistakes.png", as_png(contact_sheet(tiles)))
    made["mistakes.png"] = "the worst mistakes"
    read = {
        name: one if isinstance(one, History) else History.read(one, 1 << 62)
        for name, one in (histories or {}).items()
    }
    read = {name: one for name, one in read.items() if len(one)}
    curves = b""
    if read:
        curves = draw_curves(joined(read), "", _bounds(read))
        made["curves.png"] = "losses and scores over the iterations"
        _write(folder / "curves.png", curves)
    page = render(
        facts, measured, mistakes, tiles,
        plot=plot, curves=curves, phases=list(read), files={**facts.files, **made},
    )  # fmt: skip
    _write(folder / REPORT, page.encode())
    return folder / REPORT, measured


def _caption(number: int, one: Mistake) -> tuple[str, ...]:
    said = (f"guessed: {one.guess}", f"true: {one.truth}") if one.guess else ()
    score = one.score.replace(" %", "\u00a0%")
    return f"{number}. {score}", *said, one.name


def _bounds(histories: Mapping[str, History]) -> list[int]:
    """The iterations at which the second phase and all later ones began."""
    ends: list[int] = []
    for history in histories.values():
        ends.append(history.rows[-1].iteration + (ends[-1] if ends else 0))
    return ends[:-1]


def _csv(measured: Sequence[Metrics]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["part", "number", "name", *measured[0].rows[0].values])
    for metrics in measured:
        for number, row in enumerate(metrics.rows):
            writer.writerow([metrics.part, number, row.name, *_cells(row)])
    return text.getvalue().encode("utf-8", "replace")


def _cells(row: Row) -> list[str]:
    return [
        "" if math.isnan(v) else str(v) if isinstance(v, int) else f"{v:.7g}"
        for v in row.values.values()
    ]


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as file:
        file.write(data)
