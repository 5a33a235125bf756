"""`torrefy train`: a net trained by a solver's definition."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torrefy.cli.output import console, json_option, note_line, one_line, print_json
from torrefy.errors import TorrefyError

if TYPE_CHECKING:
    from torrefy.train.solver import Solver

INTERRUPTED = 130
"""The exit code of a training that a signal ended before max_iter."""


@click.command(
    epilog="\b\nExample:\n  torrefy train solver.prototxt\n"
    "  torrefy train solver.prototxt --weights pretrained.caffemodel --device cuda\n"
    "  torrefy train solver.prototxt --device cuda --precision bf16 --channels-last --compile\n"
    "  torrefy train solver.prototxt --resume snapshots/"
)
@click.argument("solver")
@click.option("--weights", multiple=True, metavar="FILE",
              help="Weights to begin from; may be given several times.")  # fmt: skip
@click.option("--resume", metavar="STATE|FOLDER",
              help="A .solverstate to go on from, or a folder for its newest.")  # fmt: skip
@click.option("--device", default="cpu", show_default=True, metavar="NAME",
              help='Where to train: "cpu", "cuda", "cuda:1", "mps".')  # fmt: skip
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32",
              show_default=True, help="What convolutions and products compute in.")  # fmt: skip
@click.option("--compile", "compiled", is_flag=True,
              help="Make one program of each net by torch.compile.")  # fmt: skip
@click.option("--channels-last", is_flag=True,
              help="Keep pictures in memory with their channels last.")  # fmt: skip
@click.option("--deterministic", is_flag=True,
              help="Compute the same bits in each run, on a GPU too.")  # fmt: skip
@click.option("--workers", type=click.IntRange(0), metavar="N",
              help="Processes that read data (else: a core each but one, 4 at most).")  # fmt: skip
@click.option("--bad-images", type=click.Choice(["fail", "skip"]), default="fail",
              show_default=True, help="What becomes of data that can't be used.")  # fmt: skip
@click.option("--allow-python", multiple=True, metavar="MODULE.CLASS",
              help="A class that Python layers may run.")  # fmt: skip
@json_option
def command(
    *,
    solver: str,
    weights: tuple[str, ...],
    resume: str | None,
    device: str,
    precision: str,
    compiled: bool,
    channels_last: bool,
    deterministic: bool,
    workers: int | None,
    bad_images: str,
    allow_python: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train a net as its solver says.

    SOLVER is a solver.prototxt; paths in it are relative to the working folder, as Caffe's.
    Progress goes to stderr, in Caffe's lines at each `display`. Ctrl-C snapshots and stops, a
    second one stops at once; SIGTERM snapshots and stops, SIGHUP snapshots and goes on.
    """
    from torrefy.train.solver import Solver

    loading: dict[str, Any] = {"bad": bad_images}
    if workers is not None:
        loading["workers"] = workers
    begun = time.monotonic()
    trained = Solver(
        solver,
        weights=list(weights) or None,
        resume=resume,
        device=device,
        loading=loading,
        allow_python=allow_python,
        precision=precision,
        compile=compiled,
        channels_last=channels_last,
        deterministic=deterministic,
    )
    for note in trained.notes:
        click.echo(note_line(solver, note), err=True)
    written: list[Path] = []
    with _progress(trained), _signals(trained):
        begin = trained.iteration
        try:
            trained.solve()
        except TorrefyError:
            if trained.iteration > begin and not _is_snapshot(trained):
                _save_before_giving_up(trained)
            raise
        if trained.stopped and not _is_snapshot(trained):
            trained.snapshot()
    if trained.last_snapshot is not None:
        written.append(trained.last_snapshot)
    _tell(trained, begin, written, time.monotonic() - begun, as_json)
    if trained.stopped and trained.iteration < trained.parameter.max_iter:
        sys.stdout.flush()
        click.get_current_context().exit(INTERRUPTED)


def _save_before_giving_up(solver: Solver) -> None:
    """Keep what was learned when the data, say, end a run."""
    with contextlib.suppress(TorrefyError):  # the disk may be what failed
        solver.snapshot()
        click.echo(one_line(f"wrote {solver.last_snapshot} before giving up"), err=True)


def _is_snapshot(solver: Solver) -> bool:
    """Whether the present iteration has its snapshot."""
    last = solver.last_snapshot
    return last is not None and f"_iter_{solver.iteration}." in last.name


def _tell(solver: Solver, begin: int, written: list[Path], seconds: float, as_json: bool) -> None:
    scores = [
        {name: blob.flatten().tolist() for name, blob in of_net.items()} for of_net in solver.scores
    ]
    loss = solver.smoothed_loss
    if as_json:
        print_json(
            {
                "ok": True,
                "iteration": solver.iteration,
                "stopped": solver.stopped,
                "loss": loss if math.isfinite(loss) else None,
                "scores": [
                    {name: [v if math.isfinite(v) else None for v in values]
                     for name, values in of_net.items()}
                    for of_net in scores
                ],
                "snapshots": [str(path) for path in written],
                "seed": solver.seed,
                "seconds": round(seconds, 3),
            }
        )  # fmt: skip
        return
    most = solver.parameter.max_iter
    if begin >= most:
        click.echo(f"nothing to train: it is at iteration {begin}, and max_iter is {most}")
    else:
        state = "stopped" if solver.stopped else "trained"
        click.echo(f"{state} at iteration {solver.iteration}, loss {loss:g}, {seconds:.1f} s")
    for number, of_net in enumerate(scores):
        for name, values in of_net.items():
            told = " ".join(f"{value:g}" for value in values[:10])
            more = f" and {len(values) - 10} more" if len(values) > 10 else ""
            click.echo(one_line(f"test net {number}: {name} {told}{more}"))
    for path in written:
        click.echo(one_line(f"wrote {path}"))


@contextlib.contextmanager
def _progress(solver: Solver) -> Iterator[None]:
    """Caffe's lines on stderr, and on a terminal a bar below them."""
    out = console(stderr=True)

    def line(text: str) -> None:
        out.print(one_line(text))

    solver.log = line
    if not sys.stderr.isatty():
        yield
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out) as bars:
        most = solver.parameter.max_iter
        task = bars.add_task("", total=most, completed=solver.iteration, told="")
        shown, begun, first = 0.0, time.monotonic(), solver.iteration

        def show() -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown < 0.5 and solver.iteration < most:
                return  # reading a loss waits for the GPU
            shown = now
            speed = (solver.iteration - first) / max(now - begun, 1e-9)
            told = f"loss {solver.smoothed_loss:.4g}  lr {solver.lr:.3g}  {speed:.3g} iter/s"
            bars.update(task, completed=solver.iteration, told=told)

        solver.after_update = show
        yield


@contextlib.contextmanager
def _signals(solver: Solver) -> Iterator[None]:
    """What signals mean while a solver trains."""

    def stop(number: int, _: object) -> None:
        if solver.stopped and number == signal.SIGINT:
            raise KeyboardInterrupt
        click.echo("stopping after this iteration, with a snapshot; Ctrl-C stops now", err=True)
        solver.stop()

    def snapshot(*_: object) -> None:
        solver.request_snapshot()

    meanings: dict[str, Callable[..., None]] = {"SIGINT": stop, "SIGTERM": stop, "SIGHUP": snapshot}
    old = {}
    for name, meaning in meanings.items():
        number = getattr(signal, name, None)
        if number is not None:
            with contextlib.suppress(ValueError):  # only the main thread gets signals
                old[number] = signal.signal(number, meaning)
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
