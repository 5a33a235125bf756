"""`torrefy demo`: the main job on real input: a picture classified, a net finetuned, exported."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torrefy.cli.output import console, json_option, one_line, print_json
from torrefy.errors import TorrefyError

if TYPE_CHECKING:
    from torrefy.finetune.outcome import Outcome

MOST_DIFFERENCE = 1e-4
DATASET = "textures"
LEAST_RIGHT = 0.95
SETTINGS = "finetune.json"
"""What a run was asked for; named here so that the command line needn't import torch."""


@click.command(epilog="\b\nExample:\n  torrefy demo\n  torrefy demo efficientnet_lite0 -o tour")
@click.argument("model", default="squeezenet_v1.1")
@click.option("-o", "--output", default="demo", show_default=True, metavar="FOLDER",
              help="Where the textures and the run go; an earlier demo's is replaced.")  # fmt: skip
@json_option
def command(*, model: str, output: str, as_json: bool) -> None:
    """Classify a photograph, then finetune on textures and export.

    MODEL is a zoo model whose card has a sample picture. Weights and pictures are fetched. The net
    is exported, and both say what they see in the photograph. Then a head learns to tell brick,
    grass and gravel apart on the left halves of three photographs; its model.onnx is tried on the
    right halves.
    """
    folder = Path(output)
    run = folder / "run"
    if run.exists() and not _earlier(run, folder / DATASET):
        raise TorrefyError(f"{run} is something else", hint="Choose another folder by -o.")
    seen = _photograph(model, as_json)
    shutil.rmtree(run, ignore_errors=True)
    outcome, answers = _textures(model, folder, run, quiet=as_json)
    right = sum(truth == guess for _, truth, guess, _ in answers)
    if as_json:
        print_json(
            {
                **seen,
                "finetuned": outcome.as_json(),
                "tested": len(answers),
                "right": right,
                "report": str(outcome.report),
            }
        )
    else:
        _print_textures(outcome, answers, right)
    if right < LEAST_RIGHT * len(answers):
        raise TorrefyError(f"{right} of {len(answers)} textures are right, fewer than 95 %")


def _earlier(run: Path, pictures: Path) -> bool:
    """Whether a folder is an earlier demo's run: one that learned from these pictures."""
    try:
        asked = json.loads((run / SETTINGS).read_bytes())["asked"]
        return bool(Path(asked["data"]).resolve() == pictures.resolve())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _photograph(model: str, quiet: bool) -> dict[str, Any]:
    """What the net sees in its card's sample, by PyTorch and by ONNX Runtime.

    Raises:
        TorrefyError: there is no sample, another class comes first, or the two differ.
    """
    from torrefy.zoo import find_card, pull_sample

    card = find_card(model)
    sample = pull_sample(card)
    if sample is None:
        raise TorrefyError(f"the card of {model} has no sample picture", place=card.text.place())
    top = min(5, card.message.classes or 5)
    from torrefy.export.onnx import export_onnx
    from torrefy.runtime.classifier import Classifier
    from torrefy.weights.load import load_net
    from torrefy.zoo import pull

    by_torch = Classifier(model, runtime="pytorch")
    pulled = pull(model)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{model}.onnx"
        net = load_net(pulled.definition, pulled.weights)
        export_onnx(net, file, blobs=[card.message.output], recipe=by_torch.recipe)
        by_onnx = Classifier(file)
        picture = by_torch.preprocessor.read(sample)[None]
        ours, theirs = (c.predict(picture)[0] for c in (by_torch, by_onnx))
    difference = float(abs(ours - theirs).max())
    best = ours.argsort()[::-1][:top]
    names = [by_torch.labels[i] for i in best]
    if not quiet:
        _print(model, sample, [(n, ours[i], theirs[i]) for n, i in zip(names, best, strict=True)])
        click.echo(f"largest difference: {difference:.2e}")
    expected = list(card.message.sample.label)
    if names[0] not in expected:
        raise TorrefyError(f'expected one of {", ".join(expected)} first, found "{names[0]}"')
    if difference > MOST_DIFFERENCE:
        raise TorrefyError(f"the two differ by more than {MOST_DIFFERENCE:g}")
    return {
        "ok": True,
        "model": model,
        "picture": str(sample),
        "classes": [
            {"label": name, "pytorch": float(ours[i]), "onnxruntime": float(theirs[i])}
            for name, i in zip(names, best, strict=True)
        ],
        "difference": difference,
    }


def _textures(
    model: str, folder: Path, run: Path, *, quiet: bool
) -> tuple[Outcome, list[tuple[Path, str, str, float]]]:
    """Finetune on the left halves; of each picture of the right halves what model.onnx says."""
    from torrefy.cli.finetune import telling
    from torrefy.finetune.finetune import fine_tune
    from torrefy.finetune.options import Options
    from torrefy.finetune.outcome import write_outcome
    from torrefy.runtime.classifier import Classifier
    from torrefy.zoo.fetch import fetch_dataset

    pictures = folder / DATASET
    if not quiet:
        click.echo()
        click.echo(one_line(f"a head for brick, grass and gravel, learned on {pictures}"))
    fetch_dataset(DATASET, pictures)
    command = f"torrefy finetune {model} {pictures} --unfreeze none -o {run}"
    with telling(quiet) as told:
        done = fine_tune(model, pictures, run, Options(unfreeze="none"), told=told)
        outcome = write_outcome(done, command)
    files = sorted((pictures / "test").glob("*/*.png"))
    answers = [
        (answer.path, answer.path.parent.name, answer.guesses[0].label, answer.guesses[0].score)
        for answer in Classifier(done.onnx).classify(files, top=1)
    ]
    return outcome, answers


def _print_textures(
    outcome: Outcome, answers: list[tuple[Path, str, str, float]], right: int
) -> None:
    """One picture of each class, how many are right, and where all lies."""
    shown = {truth: (path, guess, score) for path, truth, guess, score in reversed(answers)}
    for truth, (path, guess, score) in sorted(shown.items()):
        click.echo(one_line(f"{path.name}, of {truth}: {guess} {score:.4f}"))
    click.echo(f"{right} of {len(answers)} pictures of the right halves are right, by ONNX Runtime")
    click.echo(one_line(f"model   {outcome.done.folder}"))
    click.echo(one_line(f"report  {outcome.report}"))


def _print(model: str, sample: Path, rows: list[tuple[str, Any, Any]]) -> None:
    from rich.table import Table

    click.echo(one_line(f"{sample.name}, as {model} sees it"))
    table = Table(box=None, pad_edge=False)
    table.add_column("class", overflow="fold")
    table.add_column("PyTorch", justify="right")
    table.add_column("ONNX Runtime", justify="right")
    for name, ours, theirs in rows:
        table.add_row(one_line(name), f"{ours:.6f}", f"{theirs:.6f}")
    console().print(table)
