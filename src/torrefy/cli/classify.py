"""`torrefy classify`: what is in pictures."""

from __future__ import annotations

import sys
from typing import Any

import click

from torrefy.cli.output import (
    console,
    json_option,
    one_line,
    print_json,
    problem_json,
    problem_line,
)
from torrefy.cli.tta import as_json as tta_json
from torrefy.cli.tta import told, tta_options, versions_of
from torrefy.errors import PictureError, Problem, TorrefyError


@click.command(
    epilog="\b\nExample:\n  torrefy classify squeezenet_v1.1 cat.png\n"
    "  find photos -name '*.jpg' | torrefy classify --top 1 net.onnx -\n"
    "  torrefy classify --tta oversample squeezenet_v1.1 cat.png"
)
@click.argument("model")
@click.argument("pictures", nargs=-1, required=True, metavar="PICTURE...")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, metavar="K",
              help="How many classes to name.")  # fmt: skip
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True, metavar="N",
              help="Pictures that are computed at once.")  # fmt: skip
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:1.")
@tta_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    *,
    model: str,
    pictures: tuple[str, ...],
    top: int,
    batch: int,
    device: str,
    tta: tuple[str, ...],
    tta_count: int | None,
    tta_seed: int,
    as_json: bool,
) -> None:
    """Say what is in pictures.

    MODEL is a zoo model's name or an .onnx file that `torrefy export` wrote. A PICTURE is a
    file, a folder, a pattern, or - for a list of names on standard input. A picture that can't
    be read is told and the rest go on; the exit code is then 1.
    """
    from torrefy.data.pictures import find_pictures

    versions = versions_of(tta, tta_count, tta_seed)
    found = find_pictures(pictures, sys.stdin)
    if not found:
        raise TorrefyError("there are no pictures to classify")
    from torrefy.runtime.classifier import Classifier

    classifier = Classifier(model, device, tta=versions)
    problems: list[Problem] = []

    def broken(error: PictureError) -> None:
        problems.extend(error.problems)
        if not as_json:
            for problem in error.problems:
                click.echo(problem_line(problem), err=True)

    answers = classifier.classify(found, top, batch=batch, broken=broken)
    if as_json:
        results = [_as_json(answer) for answer in answers]
        print_json(
            {
                "ok": not problems,
                "model": model,
                "tta": tta_json(versions),
                "pictures": results,
                "problems": [problem_json(problem) for problem in problems],
            }
        )
    else:
        for answer in answers:
            _print(answer, told(versions) if versions else "")
    if problems:
        if not as_json and len(found) > 1:
            click.echo(f"{len(problems)} of {len(found)} pictures could not be read", err=True)
        ctx.exit(1)


def _print(answer: Any, told: str) -> None:
    from rich.table import Table

    click.echo(one_line(f"{answer.path}{f' ({told})' if told else ''}"))
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for guess in answer.guesses:
        table.add_row(f"{guess.score:9.4f}", one_line(guess.label))
    console().print(table)


def _as_json(answer: Any) -> dict[str, Any]:
    return {
        "file": str(answer.path),
        "classes": [{"index": g.index, "label": g.label, "score": g.score} for g in answer.guesses],
    }
