"""What a finetuning leaves to read: metrics, tables, pictures, and a page to mail."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from torrefy.finetune import wording
from torrefy.finetune.lettering import shown
from torrefy.finetune.metrics import Judged, Metrics, Row, measure
from torrefy.finetune.mistakes import Mistakes, tile, worst_of
from torrefy.finetune.plots import MOST_DRAWN, draw_confusion, draw_predictions, joined
from torrefy.finetune.sheet import SIZE, Tile, as_jpeg, as_png, contact_sheet, thumbnail
from torrefy.train.curves import draw_curves
from torrefy.train.history import History
from torrefy.weights.files import replacing

REPORT = "report.html"
MOST_ROWS = 100
"""Rows of the table of classes on the page; the file has all."""
MOST_PAIRS = 25
"""Pairs of classes on the page."""
MOST_LETTERS = 4000
"""Letters of an option or a command."""
_PIXELS = 240
"""The side of a mistake's picture on the page, which shows it at `SIZE` of CSS's pixels."""


@dataclass(frozen=True)
class PhaseFacts:
    """A phase of a finetuning."""

    name: str
    learned: str
    """What learned, in words: "the head and 12 layers from fire6 on"."""
    epochs: int
    lr: float


@dataclass(frozen=True)
class Facts:
    """What a report tells besides numbers: what was made of what, and how."""

    title: str
    model: str
    """The pretrained model: "squeezenet_v1.1"."""
    head: str
    blob: str
    """Where the backbone was cut."""
    data: str
    """What it was finetuned on, in words."""
    pictures: Mapping[str, int] = field(default_factory=dict)
    """How many there are by parts: "train", "val", "test"."""
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """How many of each class or tag, by parts; those of "train" are in the table of classes."""
    options: Mapping[str, Any] = field(default_factory=dict)
    loaded: str = ""
    """What became of the pretrained weights."""
    phases: Sequence[PhaseFacts] = ()
    command: str = ""
    """What repeats it."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of programs: "torch": "2.13.0"."""
    seconds: float = math.nan
    """How long it took; NaN: not known."""
    files: Mapping[str, str] = field(default_factory=dict)
    """What is in the folder besides what the report itself writes, and what each file holds."""
    lr_finder: bytes | None = None
    """A PNG of the loss over the learning rate."""
    notes: Sequence[str] = ()
    """What a reader must know."""
    date: str = ""


def write_report(
    folder: Path,
    facts: Facts,
    judged: Sequence[Judged],
    histories: Mapping[str, History | Path] | None = None,
) -> Path:
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
        The page.

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
    captions = [
        (f"{i}. {one.guess} {one.score}", f"true: {one.truth}", one.name)
        for i, one in enumerate(mistakes.worst, 1)
    ]
    tiles = [
        tile(last, one, caption) for one, caption in zip(mistakes.worst, captions, strict=True)
    ]
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
    return folder / REPORT


def render(
    facts: Facts,
    measured: Sequence[Metrics],
    mistakes: Mistakes,
    tiles: Sequence[Tile],
    *,
    plot: bytes = b"",
    curves: bytes = b"",
    phases: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
) -> str:
    """The page as a text. The template escapes every text that is put into it.

    Args:
        facts: what is told besides numbers.
        measured: by parts; the last is looked at closely.
        mistakes: its worst ones.
        tiles: their pictures.
        plot: a PNG of its confusion matrix or predictions.
        curves: a PNG.
        phases: the names of what is in the curves.
        files: what is beside the page, and what each file holds.
    """
    metrics = measured[-1]
    names = [name for name in wording.NAMES if any(name in one.values for one in measured)]
    return (
        _template()
        .render(
            css=_css(),
            facts=facts,
            parts=[_part(one) for one in measured],
            notes=[*facts.notes, *dict.fromkeys(n for one in measured for n in one.notes)],
            numbers={
                "head": ["number", *(wording.PARTS.get(one.part, one.part) for one in measured)],
                "rows": [
                    [
                        wording.NAMES[name][0],
                        *(wording.value_text(name, m.values.get(name, math.nan)) for m in measured),
                    ]
                    for name in names
                ],
            },
            explained=[wording.NAMES[name] for name in names],
            calibration=[
                (wording.percent(b.confidence), wording.percent(b.accuracy), b.count)
                for b in metrics.calibration
            ],
            each=_each(metrics, facts.counts.get("train", ())),
            plot=_uri(plot, "png"),
            **_plot_words(metrics),
            pairs=_pairs(metrics),
            worst=[
                _shown(one, mistake) for one, mistake in zip(tiles, mistakes.worst, strict=True)
            ],
            worst_title="The worst mistakes" if mistakes.count else "The least certain",
            worst_said=_worst_words(metrics, mistakes),
            curves=_uri(curves, "png"),
            curves_said=_curves_words(phases),
            lr_finder=_uri(facts.lr_finder or b"", "png"),
            phases=[(p.name, p.learned, p.epochs, f"{p.lr:g}") for p in facts.phases],
            made=_made(facts),
            options=[(name, _option(value)) for name, value in facts.options.items()],
            files=list((files or {}).items()),
        )
        .strip()
        + "\n"
    )


# --- What the page says ---


def _part(metrics: Metrics) -> dict[str, Any]:
    headline = []
    for name in wording.HEADLINE[metrics.kind]:
        if name in metrics.values:
            more = wording.NAMES[name][1] if name == "majority" else ""
            if name == "accuracy" and metrics.interval is not None:
                low, high = map(wording.percent, metrics.interval)
                more = f"95 % interval: {low} to {high}"
            text = wording.value_text(name, metrics.values[name])
            headline.append((wording.NAMES[name][0], text, more))
    said = f"{_pictures(metrics.count)} that nothing was learned from."
    if metrics.part == "val":
        said += (
            " Which weights were kept was decided by them: expect a little less on new pictures."
        )
    title = wording.PARTS.get(metrics.part, metrics.part)
    return {"title": title, "headline": headline, "said": f"{title}: {said}"}


def _pictures(count: int) -> str:
    return f"{count} picture{'' if count == 1 else 's'}"


def _each(metrics: Metrics, learned: Sequence[int]) -> dict[str, Any]:
    """The table of classes: the worst first, where they can be ranked."""
    what = wording.EACH[metrics.kind]
    columns = list(metrics.rows[0].values)
    numbered = list(enumerate(metrics.rows))
    rank = wording.RANKED.get(metrics.kind)
    if rank:
        numbered.sort(key=lambda pair: _last_if_unknown(pair[1].values[rank]))
    with_learned = len(learned) == len(metrics.rows)
    said = "The worst first." if rank and len(numbered) > 1 else ""
    if len(numbered) > MOST_ROWS:
        said += f" {MOST_ROWS} of {len(numbered)}; per_{what}.csv has all."
    rows = []
    for number, row in numbered[:MOST_ROWS]:
        cells = [(str(learned[number]), None)] if with_learned else []
        cells += [(wording.value_text(k, v), _bar(k, v)) for k, v in row.values.items()]
        rows.append({"number": number, "name": row.name, "cells": cells})
    return {
        "title": f"Each {what}",
        "said": said.strip(),
        "head": [what, *(["learned from"] if with_learned else []),
                 *(wording.COLUMNS[column] for column in columns)],
        "rows": rows,
    }  # fmt: skip


def _last_if_unknown(value: float) -> tuple[bool, float]:
    return math.isnan(value), 0.0 if math.isnan(value) else value


def _bar(column: str, value: float) -> str | None:
    """How long a cell's bar is in percent; None: it has none."""
    if column not in ("f1", "pck_10", "average_precision") or math.isnan(value):
        return None
    return f"{100 * value:.1f}"


def _plot_words(metrics: Metrics) -> dict[str, str]:
    if metrics.kind == "numbers":
        said = "Each picture is a dot; on the line predictions are right"
        return {"plot_title": "Predictions", "plot_alt": "Predictions over the truth",
                "plot_said": said}  # fmt: skip
    rates = metrics.values
    return {
        "plot_title": "What is taken for what",
        "plot_alt": f"Confusion matrix of {len(metrics.rows)} classes; accuracy "
        f"{wording.percent(rates.get('accuracy', 0))}",
        "plot_said": "A row for each true class, a column for each guess; the darker, the more of "
        "the row. Green is right, brown wrong.",
    }


def _pairs(metrics: Metrics) -> list[tuple[Any, ...]]:
    if metrics.confusion is None:
        return []
    names = metrics.confusion.classes
    return [
        (names[truth], names[guess], count,
         wording.percent(count / metrics.rows[truth].values["support"]))
        for truth, guess, count in metrics.confusion.mistakes()[:MOST_PAIRS]
    ]  # fmt: skip


def _worst_words(metrics: Metrics, mistakes: Mistakes) -> str:
    few, count = len(mistakes.worst), mistakes.count
    if metrics.kind in ("numbers", "points") or not count:
        return f"{mistakes.title}: {few} of {_pictures(metrics.count)}."
    wrong = f"{count} of {_pictures(metrics.count)} {_are(count)} wrong."
    return f"{wrong} {mistakes.title}{f': {few} of them' if few < count else ''}."


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _curves_words(phases: Sequence[str]) -> str:
    if len(phases) < 2:
        return "Losses and scores over the iterations"
    return f"Losses and scores over the iterations of {', then '.join(phases)}"


def _made(facts: Facts) -> list[tuple[str, str]]:
    rows = [("model", facts.model), ("head", facts.head), ("on the blob", facts.blob),
            ("data", facts.data)]  # fmt: skip
    rows += [
        (wording.PARTS.get(part, part).lower(), _pictures(count))
        for part, count in facts.pictures.items()
    ]
    if math.isfinite(facts.seconds):
        rows.append(("time", _time(facts.seconds)))
    return [(name, value) for name, value in rows if value]


def _time(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"


def _option(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        value = ", ".join(map(str, value))
    return str(value)[:MOST_LETTERS]


def _shown(one: Tile, mistake: Any) -> dict[str, Any]:
    image = thumbnail(one, _PIXELS)
    factor = SIZE / _PIXELS
    return {
        "picture": _uri(as_jpeg(image), "jpeg"),
        "width": max(1, round(image.width * factor)),
        "height": max(1, round(image.height * factor)),
        "alt": f"{mistake.name}: taken for {mistake.guess}, is {mistake.truth}",
        "guess": mistake.guess,
        "score": mistake.score,
        "truth": mistake.truth,
        "name": mistake.name,
    }


# --- Files ---


def _template() -> Any:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: (
            shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value
        ),
    )
    return environment.from_string(_resource("report.html.jinja"))


def _css() -> Any:
    from markupsafe import Markup

    return Markup(_resource("report.css"))  # noqa: S704  our own file


def _resource(name: str) -> str:
    return files("torrefy.finetune").joinpath(name).read_text(encoding="utf-8")


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}" if data else ""


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
    return text.getvalue().encode("utf-8", "surrogateescape")


def _cells(row: Row) -> list[str]:
    return [
        "" if math.isnan(v) else str(v) if isinstance(v, int) else f"{v:.7g}"
        for v in row.values.values()
    ]


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as file:
        file.write(data)
