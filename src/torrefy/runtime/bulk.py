"""Answers to any number of pictures into a table: in constant memory, and resumed if broken off."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from torrefy import __version__
from torrefy.data.parquet import pyarrow
from torrefy.errors import DataError, Place
from torrefy.runtime.classifier import Answer, Batch, Classifier
from torrefy.runtime.rows import CsvRows, JsonRows, Rows, plain
from torrefy.weights.files import replacing

SUFFIXES = (".csv", ".jsonl", ".parquet")
"""What a table's name ends in, which says what it is."""
GROUP = 1 << 16
"""Rows to a row group of Parquet: as many are held when it is written."""
REMOVE = "Remove it, or give another name."


@dataclass(frozen=True)
class Classified:
    """A table that was written."""

    path: Path
    count: int
    """Its rows: one for each picture."""
    bad: int
    """Those of pictures that can't be read."""
    resumed: int
    """Those that an earlier run had written."""
    batch: int
    """Pictures that were computed at once."""
    seconds: float


def classify_to(
    target: str | Path,
    classifier: Classifier,
    pictures: Iterable[str | Path],
    top: int = 5,
    *,
    batch: Batch = "auto",
    resume: bool = False,
    told: Callable[[Answer], None] = lambda answer: None,
) -> Classified:
    r"""Classify picture files and write a row for each, in their order, as they are computed.

    A .csv has the columns file, label_1, score_1, …, label_K, score_K and error; a .jsonl lines of
    `{"file", "classes": [{"index", "label", "score"}]}` or `{"file", "error"}`; a .parquet the
    columns of the .csv, scores as float32, in row groups of GROUP. A picture that can't be read
    has its row, with the error. K is `top`, or the number of classes where that is smaller. A
    file's name is as it was given, with bytes that are no UTF-8 as \udcNN.

    Until it is finished a file `.NAME.run` beside it says what makes it; a .parquet's rows lie in
    `.NAME.rows` until then. A run that was broken off, by whatever, is finished by `resume`: rows
    that are whole are kept, up to the last whole batch, so that the file has the bytes that it
    would have had.

    Args:
        target: the table; its ending is one of SUFFIXES.
        classifier: the model.
        pictures: the files; they may come from a generator.
        top: how many classes to name.
        batch: see `Batch`; a run that is resumed keeps its own.
        resume: go on with what a run that was broken off has written; begin, where there is none.
        told: called with each answer that was computed, after its row was written.

    Raises:
        TorrefyError: the target exists; or can't be written; or, with `resume`, is finished, is
            another model's, has other settings or is of other pictures.

    Example:
        classifier = torrefy.Classifier("squeezenet_v1.1")
        classify_to("answers.csv", classifier, Path("photos").rglob("*.jpg"))
    """
    begun = time.monotonic()
    target = Path(target)
    place = Place(str(target))
    if target.suffix.lower() not in SUFFIXES:
        raise DataError(f"a table's name ends in {', '.join(SUFFIXES)}", place=place)
    if target.suffix.lower() == ".parquet":
        pyarrow()
    if not target.resolve().parent.is_dir():
        raise DataError(f"there is no folder {target.parent}", place=place)
    top = min(top, _classes(classifier))
    form: Rows = CsvRows(top) if target.suffix.lower() == ".csv" else JsonRows(top)
    unfinished = _Unfinished(target)
    settings = {**_origin(classifier), "top": top}
    if resume:
        batch = unfinished.batch_of(settings, batch)
    else:
        unfinished.refuse()
    looked = classifier.looked_over(pictures, batch, many=True)
    try:
        unfinished.begin({**settings, "batch": looked.batch})
        with unfinished.rows.open("r+b" if unfinished.rows.exists() else "x+b") as file:
            group = classifier.pictures_of(looked.batch)
            given = map(Path, looked.given)
            done, bad, names = _kept(file, form, group, given, unfinished.rows)
            resumed = done
            answers = classifier.answers_of(replace(looked, given=names), top)
            while some := list(islice(answers, group)):
                file.write(b"".join(map(form.line, some)))
                file.flush()
                done += len(some)
                bad += sum(answer.error is not None for answer in some)
                for answer in some:
                    told(answer)
        if target != unfinished.rows:
            _write_parquet(target, unfinished.rows, top)
        unfinished.end()
    except OSError as error:
        raise DataError(f"can't be written: {error.strerror or error}", place=place) from None
    return Classified(target, done, bad, resumed, looked.batch, time.monotonic() - begun)


class _Unfinished:
    """What lies beside a table until it is finished."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.run = target.with_name(f".{target.name}.run")
        parquet = target.suffix.lower() == ".parquet"
        self.rows = target.with_name(f".{target.name}.rows") if parquet else target

    def refuse(self) -> None:
        """Refuse to begin where something is."""
        if self.run.exists() and self.rows.exists():
            raise DataError(
                "a run to this file was broken off", place=Place(str(self.target)),
                hint=f"--resume goes on with it; or remove {self.run}"
                + (f" and {self.rows}." if self.rows != self.target else " and the file."),
            )  # fmt: skip
        if self.target.exists():
            raise DataError(
                "this exists; it is not overwritten", place=Place(str(self.target)), hint=REMOVE
            )
        self.rows.unlink(missing_ok=True)

    def batch_of(self, settings: dict[str, Any], batch: Batch) -> Batch:
        """The batch of the run that is to be resumed, if its settings are these.

        Raises:
            DataError: they are not, or the table is finished.
        """
        place = Place(str(self.target))
        if not self.run.exists():
            if self.target.exists():
                raise DataError(
                    "this is finished, or no run's: there is nothing to resume",
                    place=place, hint=REMOVE,
                )  # fmt: skip
            self.rows.unlink(missing_ok=True)
            return batch
        if not self.rows.exists():
            return batch
        try:
            had = json.loads(self.run.read_text(encoding="utf-8"))
            kept = int(had.pop("batch"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise DataError(
                "this doesn't say what was broken off", place=Place(str(self.run)),
                hint=f"Remove it and {self.rows}, and begin anew.",
            ) from None  # fmt: skip
        asked = {**settings, "batch": kept if batch == "auto" else batch}
        for name, value in asked.items():
            before = {**had, "batch": kept}.get(name)
            if before != value:
                raise DataError(
                    f"the run that was broken off had {_said(name, before)}, this one has "
                    f"{_said(name, value)}", place=place,
                    hint="Ask for what it was asked for, or give another name.",
                )  # fmt: skip
        return kept

    def begin(self, settings: dict[str, Any]) -> None:
        """Say what makes the table, before there is any of it."""
        with replacing(self.run) as file:
            file.write(json.dumps(settings, indent=1).encode())

    def end(self) -> None:
        """Leave the table alone."""
        self.run.unlink(missing_ok=True)
        if self.rows != self.target:
            self.rows.unlink(missing_ok=True)


def _kept(
    file: BinaryIO, form: Rows, group: int, names: Iterator[Path], path: Path
) -> tuple[int, int, Iterator[Path]]:
    """Cut a file to its last whole batch: its rows, the bad ones of them, the pictures left."""
    place = Place(str(path))
    done = bad = seen = seen_bad = 0
    end = len(form.head)
    again: list[Path] = []
    try:
        for row in form.read(file):
            name = next(names, None)
            if name is None:
                raise DataError(f"there are fewer pictures now: {seen}", place=place)
            if row.file != plain(str(name)):
                raise DataError(
                    f"row {seen + 1} is of {row.file}, where {plain(str(name))} is now",
                    place=place, hint="Give the pictures that the run was given; or begin anew.",
                )  # fmt: skip
            again.append(name)
            seen, seen_bad = seen + 1, seen_bad + row.bad
            if not seen % group:
                done, bad, end = seen, seen_bad, row.end
                again.clear()
    except ValueError as error:
        raise DataError(
            f"this is not what the run wrote: {error}", place=place, hint=REMOVE
        ) from None
    if not done:
        file.seek(0)
        file.write(form.head)
    file.truncate(end)
    file.seek(end)
    return done, bad, chain(again, names)


def _classes(classifier: Classifier) -> int:
    if classifier.labels:
        return len(classifier.labels)
    blank = np.zeros((1, *classifier.preprocessor.shape), np.float32)
    return int(classifier.predict(blank).shape[1])


def _origin(classifier: Classifier) -> dict[str, Any]:
    """What answers depend on."""
    model, versions = classifier.model, classifier.versions
    with classifier.weights.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return {
        "torrefy": __version__,
        "model": str(Path(model).resolve()) if Path(model).exists() else model,
        "weights": digest,
        "recipe": classifier.recipe.to_metadata(),
        "device": classifier.device,
        "runtime": classifier.runtime,
        "precision": classifier.precision,
        "threads": classifier.threads,
        "versions": [versions.name, len(versions), versions.seed] if versions else None,
    }


def _said(name: str, value: Any) -> str:
    if name == "recipe":
        return "another preprocessing or labels"
    if name == "versions":
        return f"--tta {value[0]} ({value[1]}, seed {value[2]})" if value else "no --tta"
    return f"{name} {value}"


def _write_parquet(target: Path, rows: Path, top: int) -> None:
    """Make a Parquet file of JSON rows."""
    arrow, parquet = pyarrow()
    fields = [("file", arrow.string())]
    for i in range(1, top + 1):
        fields += [(f"label_{i}", arrow.string()), (f"score_{i}", arrow.float32())]
    schema = arrow.schema([*fields, ("error", arrow.string())])
    with replacing(target) as file, rows.open("rb") as lines:
        writer = parquet.ParquetWriter(file, schema)
        while some := [_cells(json.loads(line)) for line in islice(lines, GROUP)]:
            writer.write_table(arrow.Table.from_pylist(some, schema))
        writer.close()


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    cells = {"file": row["file"], "error": row.get("error")}
    for i, guess in enumerate(row.get("classes", ()), 1):
        cells[f"label_{i}"], cells[f"score_{i}"] = guess["label"], guess["score"]
    return cells
