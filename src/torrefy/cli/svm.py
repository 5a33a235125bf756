"""`torrefy svm`: classifiers of features."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torrefy.cli.file_form import target_option
from torrefy.cli.output import json_option, one_line, print_json
from torrefy.errors import TorrefyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from torrefy.features.svm import SVM
    from torrefy.features.table import Features
    from torrefy.finetune.metrics import Metrics

FORMATS = (".npz", ".h5", ".parquet")


@click.group(
    epilog="\b\nExample:\n  torrefy svm fit photos.npz -o photos_svm\n"
    "  torrefy svm predict photos_svm new.jpg\n"
    "  torrefy svm export photos_svm -o photos.onnx"
)
def command() -> None:
    """Fit classifiers to features, and use them."""


@command.command(epilog="\b\nExample:\n  torrefy svm fit photos.npz -o photos_svm\n"
                 "  torrefy svm fit feats.h5 --blob fc7 --pca 0.95 -o fc7_svm")  # fmt: skip
@click.argument("features", metavar="FEATURES")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="The folder to make.")
@click.option("--blob", default="", metavar="NAME", help="The blob, where there are several.")
@click.option("--classifier", type=click.Choice(["linear", "rbf", "sgd", "logistic"]),
              default="linear", show_default=True,
              help="A linear SVM, one with a Gaussian kernel, one by stochastic gradients, or "
              "logistic regression.")  # fmt: skip
@click.option("--standardise/--no-standardise", default=False, show_default=True,
              help="Take mean and deviation out of each number.")  # fmt: skip
@click.option("--l2/--no-l2", default=True, show_default=True,
              help="Make each picture's features 1 long, after that.")  # fmt: skip
@click.option("--pca", type=click.FloatRange(0, min_open=True), metavar="N|SHARE",
              help="Keep N components, or as many as have this share of the variance.")  # fmt: skip
@click.option("--c", "c", multiple=True, type=click.FloatRange(0, min_open=True), metavar="C",
              help="What C is chosen from; several times.  [default: 0.1 to 30]")  # fmt: skip
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True,
              help="Parts of the cross-validation.")  # fmt: skip
@click.option("--no-groups", is_flag=True, help="Divide what has one group, too.")
@click.option("--part", type=click.Choice(["train", "val", "test"]),
              help="Fit to those alone.  [default: train, where the data say it]")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--jobs", type=int, default=-1, help="Processes.  [default: one for each core]")
@json_option
def fit(
    *,
    features: str,
    output: str,
    blob: str,
    c: tuple[float, ...],
    no_groups: bool,
    part: str | None,
    pca: float | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Fit a classifier to features that have labels.

    C is chosen by cross-validation. What is printed is measured on pictures that the classifier of
    their fold has not seen. The folder holds classifier.onnx, classifier.skops and svm.json.
    """
    from torrefy.features.formats import read
    from torrefy.features.svm import SVMOptions
    from torrefy.features.svm import fit as fit_svm

    if c:
        given["c"] = c
    options = SVMOptions(groups=not no_groups, pca=pca or 0.0, **given)
    held = _of_part(read(features), part or "train", optional=part is None)
    done = fit_svm(held, output, options, blob=blob)
    measured = _measured("folds", held, done.classes, done.scores)
    if as_json:
        print_json(
            {
                "ok": True,
                "folder": str(done.folder),
                "blob": done.blob,
                "classes": list(done.classes),
                "c": done.c,
                "cross_validation": [
                    {"c": c, "accuracy": mean, "deviation": deviation}
                    for c, mean, deviation in done.table
                ],
                "metrics": measured.to_json(),
                "notes": list(done.notes),
            }
        )
        return
    for one, mean, deviation in done.table:
        mark = "  chosen" if one == done.c else ""
        click.echo(f"C {one:<8g} {mean:.1%} +- {deviation:.1%} of {done.folds} folds{mark}")
    click.echo()
    _print(measured)
    for note in done.notes:
        click.echo(one_line(f"note: {note}"))
    click.echo(one_line(f"wrote {done.folder}"))


@command.command(epilog="\b\nExample:\n  torrefy svm predict photos_svm new.jpg more/\n"
                 "  torrefy svm predict photos_svm test.npz --csv > guesses.csv")  # fmt: skip
@click.argument("svm", metavar="SVM")
@click.argument("pictures", nargs=-1, required=True, metavar="FEATURES|PICTURES…")
@click.option("--top", type=click.IntRange(1), default=3, show_default=True)
@click.option("--csv", "as_csv", is_flag=True, help="A line for each picture, all scores in it.")
@json_option
def predict(*, svm: str, pictures: tuple[str, ...], top: int, as_csv: bool, as_json: bool) -> None:
    """Say what is in pictures, given as files or as features."""
    from torrefy.features.svm import SVM

    opened = SVM(svm)
    features = _features(opened, pictures)
    found = opened.classify(features)
    if as_csv:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["picture", "class", *opened.classes])
        for name, index, row in zip(features.paths, found.classes, found.scores, strict=True):
            table.writerow([name, opened.classes[index], *(f"{score:.6g}" for score in row)])
        click.echo(text.getvalue(), nl=False)
        return
    answers = []
    for name, row in zip(features.paths, found.scores, strict=True):
        best = (-row).argsort(kind="stable")[:top]
        answers.append((name, [(opened.classes[i], int(i), float(row[i])) for i in best.tolist()]))
    if as_json:
        print_json(
            {
                "ok": True,
                "answers": [
                    {
                        "picture": name,
                        "guesses": [
                            {"label": label, "index": index, "score": score}
                            for label, index, score in guesses
                        ],
                    }
                    for name, guesses in answers
                ],
            }
        )
        return
    for name, guesses in answers:
        click.echo(one_line(name))
        for label, _, score in guesses:
            click.echo(one_line(f"   {score:.4f}  {label}"))


@command.command(epilog="\b\nExample:\n  torrefy svm score photos_svm test.npz")
@click.argument("svm", metavar="SVM")
@click.argument("features", metavar="FEATURES|FOLDER")
@click.option("--part", type=click.Choice(["train", "val", "test"]),
              help="Score those alone.  [default: test, where the data say it]")  # fmt: skip
@json_option
def score(*, svm: str, features: str, part: str | None, as_json: bool) -> None:
    """Measure a classifier on pictures with labels that it was not fitted to."""
    from torrefy.features.svm import SVM

    opened = SVM(svm)
    held = _of_part(_features(opened, (features,)), part or "test", optional=part is None)
    if held.labels is None:
        raise TorrefyError(f"{features}: the features have no labels to score by")
    unknown = [name for name in held.classes if name not in opened.classes]
    used = {held.classes[i] for i in held.labels.tolist()}
    if used & set(unknown):
        name = sorted(used & set(unknown))[0]
        raise TorrefyError(f'{features}: the classifier knows no class "{name}"')
    measured = _measured("test", held, opened.classes, opened.classify(held).scores)
    if as_json:
        print_json({"ok": True, "metrics": measured.to_json()})
    else:
        _print(measured)


@command.command(epilog="\b\nExample:\n  torrefy svm export photos_svm -o photos.onnx\n"
                 "  torrefy classify photos.onnx new.jpg")  # fmt: skip
@click.argument("svm", metavar="SVM")
@target_option
@click.option("--model", metavar="MODEL", help="The net, where it isn't known or has moved.")
@click.option("--weights", metavar="FILE", help="The weights of a .prototxt.")
@click.option("--preprocessing", metavar="FILE",
              help="A prototxt of what is done to a picture, where no card says it.")  # fmt: skip
@click.option("--with-preprocessing", "whole", is_flag=True,
              help="Let the file resize and crop, too: it takes RGB pictures of any size, NxHxWx3 "
              "bytes.")  # fmt: skip
@json_option
def export(
    *,
    svm: str,
    output: str,
    model: str | None,
    weights: str | None,
    preprocessing: str | None,
    whole: bool,
    as_json: bool,
) -> None:
    """Write net and classifier as one ONNX file: picture in, class and scores out."""
    from torrefy.features.merged import CLASS, SCORES, export_merged

    done = export_merged(
        svm, output, model=model, weights=weights, preprocessing=preprocessing, whole=whole
    )
    if as_json:
        print_json(
            {
                "ok": True,
                "file": str(done.path),
                "input": {done.given: list(done.input)},
                "outputs": [SCORES, CLASS],
                "classes": list(done.classes),
                "difference": done.difference,
                "bytes": done.bytes,
            }
        )
        return
    told = "bytes in RGB, any size" if whole else "0 to 255"
    click.echo(f"input {done.given}: {'x'.join(map(str, done.input))}, {told}")
    click.echo(f"outputs {SCORES}: batchx{len(done.classes)}; {CLASS}: batch")
    click.echo(f"largest difference from net and classifier: {done.difference:.1e}")
    click.echo(one_line(f"wrote {done.path} ({done.bytes:,} bytes)"))


def _features(svm: SVM, given: Sequence[str]) -> Features:
    """Features of a file, or taken of pictures as those that the classifier was fitted to."""
    from torrefy.features.extract import extract
    from torrefy.features.formats import read
    from torrefy.features.merged import extractor_of

    first = Path(given[0])
    if len(given) == 1 and (first.suffix in FORMATS or (first / "data.mdb").exists()):
        return read(first)
    return extract(extractor_of(svm), list(given))


def _of_part(features: Features, part: str, *, optional: bool) -> Features:
    """The pictures of a part; all, where nothing says which are and it is not asked for."""
    import numpy as np

    rows = np.flatnonzero(np.asarray(features.parts or [""]) == part)
    if len(rows):
        return features.take(rows)
    if optional:
        return features
    raise TorrefyError(f'no picture is called "{part}"')


def _measured(
    part: str, features: Features, classes: tuple[str, ...], scores: NDArray[np.float32]
) -> Metrics:
    """Metrics of scores by the classifier's classes."""
    import numpy as np

    from torrefy.finetune.metrics import Judged, measure

    labels = features.labels if features.labels is not None else np.zeros(0, np.int64)
    number = {name: i for i, name in enumerate(classes)}
    truth = np.asarray([number[features.classes[i]] for i in labels.tolist()], np.int64)
    return measure(Judged(part, "classes", features.paths, classes, truth, scores))


def _print(measured: Metrics) -> None:
    from torrefy.cli.metrics import print_metrics

    print_metrics([measured])
