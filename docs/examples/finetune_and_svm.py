"""Measure finetuning and SVMs of features on real pictures, against classifiers of plain pixels.

    torrefy data fetch textures
    torrefy data fetch stamps
    python docs/examples/finetune_and_svm.py data/textures data/stamps/pictures.csv -o results.json

DATA that say what trains and what tests are taken so. Others are divided into five folds, by a
seed: classes are spread evenly, and what is one group stays in one fold; each fold is classified by
what was learned of the four others, and the score is the share of all pictures that are classified
rightly. Nothing is chosen by what tests: C is chosen from each way's list by a cross-validation
inside what trains, and finetuning holds a fifth of what trains out for its own choice.

The SVMs and finetuning are Torrefy's with their defaults. The pixels are those of the picture
shrunk to 32x32, the histogram counts its colours in 8x8x8 bins of R, G and B; their SVMs get each
number standardised, which does them better than the defaults.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold

import torrefy
from torrefy.data.collect import read_examples
from torrefy.data.examples import Examples
from torrefy.features.svm import SVM, SVMOptions, fit
from torrefy.features.table import Features

Rows = NDArray[np.int64]
Split = tuple[Rows, Rows]
"""The rows that are learned from, and those that test."""
Way = Callable[[Rows, Rows], NDArray[np.int64]]
"""Learns from rows, and says which classes others are."""

SIDE, BINS, FOLDS = 32, 8, 5


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", help="what torrefy finetune takes")
    parser.add_argument("--models", nargs="*", default=["squeezenet_v1.1", "efficientnet_lite0"])
    parser.add_argument("--seeds", type=int, default=3, help="how often folds are drawn")
    parser.add_argument("--finetunings", type=int, default=1, help="of how many of these draws")
    parser.add_argument("-o", "--output", help="a file for all numbers, as JSON")
    given = parser.parse_args()
    results = {}
    for data in given.data:
        examples = read_examples(data)
        divided = splits(examples, given.seeds)
        print(f"\n{data}: {described(examples)}", flush=True)
        results[data] = {}
        for name, way in ways(examples, given.models, given.finetunings > 0):
            draws = divided[: given.finetunings] if name.endswith("finetuned") else divided
            begun = time.monotonic()
            scores = [score(way, examples, folds) for folds in draws]
            seconds = (time.monotonic() - begun) / sum(map(len, draws))
            results[data][name] = {"scores": scores, "seconds": seconds}
            print(row(name, scores, seconds), flush=True)
    if given.output:
        Path(given.output).write_text(json.dumps(results, indent=1) + "\n")


def splits(examples: Examples, seeds: int) -> list[list[Split]]:
    """The data's own split, or for each seed the folds."""
    if examples.parts:
        tests = np.asarray([part == "test" for part in examples.parts])
        return [[(np.flatnonzero(~tests), np.flatnonzero(tests))]]
    groups = examples.groups or examples.names
    return [
        list(
            StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(
                examples.targets, examples.targets, groups
            )
        )
        for seed in range(seeds)
    ]


def score(way: Way, examples: Examples, folds: list[Split]) -> float:
    """The share of the pictures that test which are classified rightly."""
    right = sum(int((way(train, test) == examples.targets[test]).sum()) for train, test in folds)
    return right / sum(len(test) for _, test in folds)


def ways(examples: Examples, models: list[str], finetuning: bool) -> Any:
    """Each way's name, and what does it."""
    yield (
        "the largest class",
        lambda train, test: np.full(len(test), np.bincount(examples.targets[train]).argmax()),
    )
    for name, made in (("pixels", pixels), ("colour histogram", histogram)):
        features = plain(examples, name, made)
        for kind in ("linear", "rbf"):
            c = (1e-5, 1e-4, 1e-3, 1e-2) if kind == "linear" else (0.1, 1.0, 10.0, 100.0)
            options = SVMOptions(classifier=kind, standardise=True, l2=False, c=c)
            yield f"{name}, {kind} SVM", svm(features, options)
    for model in models:
        yield f"{model}'s features, linear SVM", svm(torrefy.extract(model, examples), SVMOptions())
        if finetuning:
            yield f"{model} finetuned", finetuned(examples, model)


def pixels(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The picture shrunk, as numbers from 0 to 1."""
    small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32).ravel() / 255


def histogram(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The square roots of the shares of the pixels in each bin."""
    r, g, b = (picture[..., i].ravel().astype(np.int64) * BINS // 256 for i in range(3))
    counts = np.bincount((r * BINS + g) * BINS + b, minlength=BINS**3)
    return np.sqrt(counts / counts.sum()).astype(np.float32)


def plain(
    examples: Examples, name: str, made: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
) -> Features:
    """Features without a net."""
    rows = np.stack([made(examples.picture(i)) for i in range(len(examples))])
    return Features(
        {name: rows},
        examples.names,
        examples.targets,
        examples.classes,
        examples.groups,
        (),
        {"data": examples.origin},
    )


def svm(features: Features, options: SVMOptions) -> Way:
    """`torrefy svm fit` of some pictures, and `classify` of others."""

    def way(train: Rows, test: Rows) -> NDArray[np.int64]:
        with tempfile.TemporaryDirectory() as folder:
            fit(features.take(train), Path(folder) / "svm", options)
            return SVM(Path(folder) / "svm").classify(features.take(test)).classes

    return way


def finetuned(examples: Examples, model: str) -> Way:
    """`torrefy finetune` with its defaults; what tests has no say in what it keeps."""

    def way(train: Rows, test: Rows) -> NDArray[np.int64]:
        rows = np.concatenate([train, test])
        parts = ("train",) * len(train) + ("test",) * len(test)
        given = replace(examples.take(rows), parts=parts)
        with tempfile.TemporaryDirectory() as folder:
            done = torrefy.fine_tune(model, given, Path(folder) / "run")
        tested = next(one for one in done.answers if one.part == "test")
        return np.asarray(tested.scores.argmax(1), np.int64)

    return way


def described(examples: Examples) -> str:
    """What is measured on."""
    counts = np.bincount(examples.targets, minlength=len(examples.classes))
    each = ", ".join(f"{n} {name}" for n, name in zip(counts, examples.classes, strict=True))
    return f"{len(examples)} pictures ({each})"


def row(name: str, scores: list[float], seconds: float) -> str:
    """A line of the table: the mean over the seeds in percent, and their deviation."""
    spread = f" ± {100 * statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
    return f"| {name} | {100 * statistics.mean(scores):.1f}{spread} | {seconds:.1f} s |"


if __name__ == "__main__":
    sys.exit(main())
