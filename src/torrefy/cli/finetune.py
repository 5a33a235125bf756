"""`torrefy finetune`: a pretrained net and pictures to a deployed model."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from torrefy.cli.output import INTERRUPTED, console, json_option, one_line, print_json

if TYPE_CHECKING:
    from torrefy.finetune.finetune import Told
    from torrefy.finetune.outcome import Outcome

MOST_BAD = 10
"""Pictures left out that are named."""


@click.command(
    epilog="\b\nExample:\n  torrefy finetune squeezenet_v1.1 photos/ -o photos_run\n"
    "  torrefy finetune squeezenet_v1.1 train.csv --head 'MLP hidden: 256' -o run\n"
    "  torrefy finetune efficientnet_lite0 photos/ --unfreeze none --augment none -o run\n"
    "  torrefy finetune deploy.prototxt --weights net.caffemodel --preprocessing input.prototxt "
    "photos/ -o run\n"
    "  torrefy classify photos_run new.jpg"
)
@click.argument("model")
@click.argument("data")
@click.option("-o", "--run", required=True, metavar="FOLDER",
              help="The folder to make: a model again, and how it came about.")  # fmt: skip
@click.option("--head", default="", metavar="'TYPE FIELD: …'",
              help="What is put onto the net: linear, mlp, …  [default: by the data]")  # fmt: skip
@click.option("--blob", default="", metavar="NAME",
              help="The blob it reads.  [default: what the last learned layer reads]")  # fmt: skip
@click.option("--weights", metavar="FILE", help="The weights of a .prototxt.")
@click.option("--preprocessing", metavar="FILE",
              help="A prototxt of what is done to a picture, where no card says it.")  # fmt: skip
@click.option("--unfreeze", default="half", show_default=True, metavar="all|half|none|LAYER",
              help="What of the net learns in the end; a layer: it and all behind.")  # fmt: skip
@click.option("--gradual", type=click.IntRange(1), default=1, show_default=True, metavar="N",
              help="Unfreeze it in N phases, from its end.")  # fmt: skip
@click.option("--discriminative", type=click.FloatRange(0, min_open=True), default=0.3,
              show_default=True, help="The first layer's rate, of the last one's.")  # fmt: skip
@click.option("--head-epochs", type=click.IntRange(1), help="Epochs of the first phase.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs of each later phase.")
@click.option("--batch", type=click.IntRange(1), help="Pictures to a batch.")
@click.option("--head-lr", type=click.FloatRange(0, min_open=True), help="The first phase's rate.")
@click.option("--lr", type=click.FloatRange(0, min_open=True), help="The net's rate.")
@click.option("--find-lr", is_flag=True, help="Look for each phase's rate first, and take it.")
@click.option("--augment", default="", metavar="NAME",
              help="none, flip, a recipe, or augmentations: 'Rotation min: -9 max: 9; Noise'.  "
              "[default: flip of pictures in colour]")  # fmt: skip
@click.option("--balance", type=click.Choice(["none", "weights"]), default="none",
              show_default=True, help="Let each class count alike.")  # fmt: skip
@click.option("--smoothing", type=click.FloatRange(0, 1, max_open=True), metavar="SHARE",
              help="Label smoothing.  [default: 0.1]")  # fmt: skip
@click.option("--patience", type=click.IntRange(1), metavar="N",
              help="End a phase after N tests in a row without gain.")  # fmt: skip
@click.option("--held-out", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              default=0.2, show_default=True, help="The share that is held out.")  # fmt: skip
@click.option("--refit", type=click.Choice(["auto", "yes", "no"]), default="auto",
              show_default=True, help="Learn again from all pictures in the end; auto: if there "
              "are no more than 2,000 and nothing says what is held out.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Of the division, first values, order and augmentation.")  # fmt: skip
@click.option("--no-cache", is_flag=True,
              help="Keep no features of the frozen part: see new crops each epoch.")  # fmt: skip
@click.option("--kind", type=click.Choice(["classes", "tags", "numbers", "points"]),
              help="What a table's columns hold, where they don't tell.")  # fmt: skip
@click.option("--target", "targets", multiple=True, metavar="COLUMN",
              help="A table's column to learn; may be given several times.")  # fmt: skip
@click.option("--root", metavar="FOLDER", help="Where a list's pictures are.  [default: beside it]")
@click.option("--load", type=click.Choice(["strict", "skip"]), default="strict",
              show_default=True, help="What the weights don't fit: an error, or new.")  # fmt: skip
@click.option("--rename", multiple=True, metavar="OLD=NEW",
              help="Call the weights' layers otherwise: 'old_*=new_*'.")  # fmt: skip
@click.option("--bad-images", type=click.Choice(["fail", "skip"]), default="fail",
              show_default=True, help="What becomes of pictures that can't be read.")  # fmt: skip
@click.option("--device", default="cpu", show_default=True, metavar="NAME",
              help='Where to learn: "cpu", "cuda".')  # fmt: skip
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32",
              show_default=True, help="What convolutions and products compute in.")  # fmt: skip
@click.option("--channels-last", is_flag=True, help="Keep pictures with their channels last.")
@click.option("--workers", type=click.IntRange(0), metavar="N", help="Processes that read data.")
@click.option("--resume", is_flag=True, help="Go on with a run that was broken off.")
@json_option
def command(
    *,
    model: str,
    data: str,
    run: str,
    weights: str | None,
    preprocessing: str | None,
    kind: str | None,
    targets: tuple[str, ...],
    root: str | None,
    resume: bool,
    no_cache: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Finetune a pretrained net on pictures.

    MODEL is a zoo model's name, the folder of an earlier run, or a .prototxt. DATA is a folder with
    a folder for each class (or with train/ and val/ or test/ that hold such), a list of `picture
    class` lines, a table (.csv, .tsv, .jsonl) or an LMDB.

    First the head alone learns, on features of the frozen net that are computed once; then the net
    learns, too, at smaller rates. What does best on the pictures held out is kept, and learns again
    from all where they are few. The folder is a model for all other commands, and holds model.onnx
    and report.html.
    """
    from torrefy.finetune.finetune import fine_tune
    from torrefy.finetune.options import Options
    from torrefy.finetune.outcome import write_outcome

    asked = {name: value for name, value in given.items() if value is not None}
    options = Options(**asked, cache=not no_cache)
    line = shlex.join(["torrefy", *sys.argv[1:]])
    try:
        with telling() as told:
            done = fine_tune(
                model, data, run, options, weights=weights, preprocessing=preprocessing,
                kind=kind, targets=targets, root=root, resume=resume, told=told,
            )  # fmt: skip
            written = write_outcome(done, line)
    except KeyboardInterrupt:
        again = line if resume else f"{line} --resume"
        click.echo(one_line(f"interrupted; this goes on with it: {again}"), err=True)
        click.get_current_context().exit(INTERRUPTED)
    if as_json:
        print_json(written.as_json())
    else:
        _print(written)


@contextlib.contextmanager
def telling(quiet: bool = False) -> Iterator[Told]:
    """Lines on stderr, and on a terminal a bar below them; or nothing."""
    from torrefy.finetune.finetune import Told

    out = console(stderr=True)

    def line(text: str) -> None:
        out.print(one_line(text))

    if quiet or not sys.stderr.isatty():
        yield Told() if quiet else Told(line)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from torrefy.cli.progress import Bar

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}", markup=False),
    )
    with Progress(*columns, console=out, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def progress(what: str, count: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task("", total=total, told=what)
            bars.update(tasks[what], completed=count)
            if count >= total:
                bars.remove_task(tasks.pop(what))

        yield Told(line, progress, lambda phase: [Bar(bars)])


def _print(written: Outcome) -> None:
    """The metrics on stdout, and where all lies."""
    from torrefy.cli.metrics import print_metrics

    done = written.done
    print_metrics(written.measured)
    for note in done.notes:
        click.echo(one_line(f"note: {note}"))
    for place, reason in list(done.bad.items())[:MOST_BAD]:
        click.echo(one_line(f"{place}: left out: {reason}"))
    if len(done.bad) > MOST_BAD:
        click.echo(f"and {len(done.bad) - MOST_BAD} more were left out")
    click.echo(one_line(f"model   {done.folder}  (torrefy classify {done.folder} …)"))
    differs = f"(differs from PyTorch by {done.exported.difference:.1e})"
    click.echo(one_line(f"onnx    {done.onnx}  {differs}"))
    click.echo(one_line(f"report  {written.report}"))
