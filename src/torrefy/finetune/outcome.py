"""What a finetuning ends with, besides the model: what is measured, and the page that tells it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from torrefy import __version__
from torrefy.data.examples import Examples
from torrefy.finetune.answering import Answers
from torrefy.finetune.facts import Facts, PhaseFacts
from torrefy.finetune.finetune import Finetuned
from torrefy.finetune.metrics import Judged, Metrics
from torrefy.finetune.report import write_report
from torrefy.layers.base import shape_text
from torrefy.train.run import HISTORY

FILES = {
    "model.onnx": "the net with its preprocessing and classes, for ONNX Runtime",
    "card.prototxt": "what makes the folder a model for `torrefy classify` and all else",
    "net.prototxt": "the definition",
    "net.caffemodel": "the weights",
    "train.csv": "the pictures that were learned from",
    "val.csv": "the pictures that were held out",
    "test.csv": "the pictures that were tested",
    "all": "the phases that learned again from all pictures",
    "finetune.json": "what was asked for, and the versions of all that took part",
}


@dataclass(frozen=True)
class Outcome:
    """A finetuning measured and told."""

    done: Finetuned
    measured: tuple[Metrics, ...]
    """By parts: of what is held out, and of what is tested."""
    report: Path

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        done = self.done
        return {
            "ok": True,
            "run": str(done.folder),
            "model": str(done.onnx),
            "report": str(self.report),
            "head": done.graft.head.type_name,
            "blob": done.graft.blob,
            "kept": done.kept.name,
            "refitted": done.refitted,
            "classes": list(done.parts.train.classes),
            "metrics": {one.part: one.to_json() for one in self.measured},
            "difference": done.exported.difference,
            "skipped": done.bad,
            "notes": list(done.notes),
            "seconds": round(done.seconds, 2),
        }


def write_outcome(done: Finetuned, command: str = "") -> Outcome:
    """Measure what a finetuned net says and write report.html, metrics.json and their pictures.

    Args:
        done: the finetuning.
        command: what repeats it.

    Raises:
        TorrefyError: a file can't be written.
    """
    judged = [_judged(one) for one in done.answers]
    graft, options = done.graft, done.kept
    lr_finder = done.folder / options.name / "lr.png"
    parts = {"train": done.parts.train, "val": done.parts.val, "test": done.parts.test}
    facts = Facts(
        title=done.graft.name,
        model=done.model.name,
        head=graft.head.type_name,
        blob=f"{graft.blob} ({shape_text(graft.net.shapes[graft.value][1:])})",
        data=done.parts.train.origin,
        pictures={name: len(part) for name, part in parts.items() if part is not None},
        counts={name: _counts(part) for name, part in parts.items() if part is not None},
        options=done.options.given(),
        loaded=str(done.loaded),
        phases=[PhaseFacts(one.name, one.what, one.epochs, one.lr) for one in done.phases],
        command=command,
        versions={
            "torrefy": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
        seconds=done.seconds,
        files={name: told for name, told in FILES.items() if (done.folder / name).exists()},
        lr_finder=lr_finder.read_bytes() if lr_finder.exists() else None,
        notes=[*done.notes, *_left_out(done)],
        date=date.today().isoformat(),
    )
    histories = {
        one.name: done.folder / one.name / HISTORY
        for one in done.phases
        if (done.folder / one.name / HISTORY).exists()
    }
    page, measured = write_report(done.folder, facts, judged, histories)
    return Outcome(done, tuple(measured), page)


def _judged(answers: Answers) -> Judged:
    examples = answers.examples

    def picture(index: int) -> NDArray[np.uint8]:
        return examples.picture(index, "RGB")

    return Judged(
        answers.part,
        examples.kind,
        examples.names,
        examples.classes,
        examples.targets,
        answers.scores,
        picture,
    )


def _counts(examples: Examples) -> list[int]:
    """How many pictures there are of each class or tag."""
    if examples.kind == "classes":
        found: list[int] = np.bincount(
            examples.targets, minlength=len(examples.classes)
        ).tolist()  # fmt: skip
        return found
    if examples.kind == "tags":
        return [int(count) for count in examples.targets.sum(0)]
    return []


def _left_out(done: Finetuned) -> list[str]:
    if not done.bad:
        return []
    place, reason = next(iter(done.bad.items()))
    return [f"{len(done.bad)} pictures could not be read and were left out, as {place}: {reason}"]
