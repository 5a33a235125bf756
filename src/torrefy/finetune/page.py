"""The page of a report: one file of HTML that needs nothing else."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files as resources
from typing import Any

from torrefy.finetune import wording
from torrefy.finetune.facts import Facts
from torrefy.finetune.lettering import shown
from torrefy.finetune.metrics import Metrics
from torrefy.finetune.mistakes import Mistake, Mistakes
from torrefy.finetune.plots import MOST_DRAWN, labelled
from torrefy.finetune.sheet import SIZE, Tile, as_jpeg, thumbnail

MOST_ROWS = 100
"""Rows of the table of classes; the file beside has all."""
MOST_PAIRS = 25
"""Pairs of classes that were confused; beside a picture of the matrix ten."""
MOST_LETTERS = 4000
"""Letters of an option."""
_PIXELS = 240
"""The side of a mistake's picture, which is shown at `SIZE` of CSS's pixels."""


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
    page: str = (
        _template()
        .render(
            css=_css(),
            facts=facts,
            parts=[_part(one) for one in measured],
            notes=[*facts.notes, *_notes(measured)],
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
    )
    return page + "\n"


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
            " What of the net is kept was decided by them: expect a little less on new pictures."
        )
    title = wording.PARTS.get(metrics.part, metrics.part)
    return {"title": title, "headline": headline, "said": f"{title}: {said}"}


def _notes(measured: Sequence[Metrics]) -> list[str]:
    """What the metrics note, of several parts with the part."""
    if len(measured) == 1:
        return list(measured[0].notes)
    return [f"{wording.PARTS.get(m.part, m.part)}: {note}" for m in measured for note in m.notes]


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
    with_learned = rank is not None and len(learned) == len(metrics.rows)
    said = "The worst first." if rank and len(numbered) > 1 else ""
    if len(numbered) > MOST_ROWS:
        said += f" {MOST_ROWS} of {len(numbered)}; per_{what}.csv has all."
    rows = []
    for number, row in numbered[:MOST_ROWS]:
        cells: list[tuple[str, str | None]] = []
        if with_learned:
            cells.append((str(learned[number]), None))
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
    names = [row.name for row in metrics.rows]
    numbers = ""
    if len(names) <= MOST_DRAWN and any(
        label == str(i) != name
        for i, (name, label) in enumerate(zip(names, labelled(names), strict=True))
    ):
        numbers = " Names whose letters no font here has are numbers, as in the table above."
    return {
        "plot_title": "What is taken for what",
        "plot_alt": f"Confusion matrix of {len(metrics.rows)} classes; accuracy "
        f"{wording.percent(metrics.values.get('accuracy', 0))}",
        "plot_said": "A row for each true class, a column for each guess; the darker, the more of "
        f"the row. Green is right, brown wrong.{numbers}",
    }


def _pairs(metrics: Metrics) -> list[tuple[Any, ...]]:
    if metrics.confusion is None:
        return []
    names = metrics.confusion.classes
    most = 10 if len(names) <= MOST_DRAWN else MOST_PAIRS
    return [
        (names[truth], names[guess], count,
         wording.percent(count / metrics.rows[truth].values["support"]))
        for truth, guess, count in metrics.confusion.mistakes()[:most]
    ]  # fmt: skip


def _worst_words(metrics: Metrics, mistakes: Mistakes) -> str:
    few, count = len(mistakes.worst), mistakes.count
    if metrics.kind in ("numbers", "points") or not count:
        marks = " Rings are the truth, crosses what is guessed." if metrics.kind == "points" else ""
        return f"{mistakes.title}: {few} of {_pictures(metrics.count)}.{marks}"
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


def _shown(one: Tile, mistake: Mistake) -> dict[str, Any]:
    image = thumbnail(one, _PIXELS)
    factor = SIZE / _PIXELS
    return {
        "picture": _uri(as_jpeg(image), "jpeg"),
        "width": max(1, round(image.width * factor)),
        "height": max(1, round(image.height * factor)),
        "alt": f"{mistake.name}: "
        + (f"taken for {mistake.guess}, is {mistake.truth}" if mistake.guess else mistake.score),
        "guess": mistake.guess,
        "right": mistake.guess == mistake.truth,
        "score": mistake.score,
        "truth": mistake.truth,
        "name": mistake.name,
    }


# --- How it is made ---


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
    return resources("torrefy.finetune").joinpath(name).read_text(encoding="utf-8")


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}" if data else ""
