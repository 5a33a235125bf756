"""`torrefy train`: a net trained by a solver's definition."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from torrefy.cli.output import (
    INTERRUPTED,
    json_option,
    note_line,
    one_line,
    print_json,
    tell_end,
)
from torrefy.cli.progress import showing
from torrefy.errors import TorrefyError

if TYPE_CHECKING:
    from torrefy.train.distributed import Processes
    from torrefy.train.solver import Solver
    from torrefy.train.usable import Skipped


@click.command(
    epilog="\b\nExample:\n  torrefy train solver.prototxt\n"
    "  torrefy train solver.prototxt --weights pretrained.caffemodel --device cuda\n"
    "  torrefy train solver.prototxt --device cuda --precision bf16 --channels-last --compile\n"
    "  torrefy train solver.prototxt --resume snapshots/ --run runs/two\n"
    "  torrefy train solver.prototxt --callback 'EarlyStopping patience: 5'\n"
    "  torrefy train solver.prototxt --callback 'AdjustVariable start: 0.03 stop: 0.0001'\n"
    "  torchrun --nproc-per-node 4 -m torrefy train solver.prototxt --device cuda"
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
@click.option("--no-verify", is_flag=True,
              help="Don't look at a sample of the data before.")  # fmt: skip
@click.option("-o", "--run", metavar="FOLDER",
              help="A folder for all that comes of the run, snapshots too.  [default: PREFIX.run "
              "beside the snapshots, for all else]")  # fmt: skip
@click.option("--no-run", is_flag=True, help="Write snapshots alone: no folder for the run.")
@click.option("--log", type=click.Choice(["table", "caffe", "both", "none"]),
              help="What is shown on stderr.  [default: table on a terminal, else Caffe's lines]",
              )  # fmt: skip
@click.option("--callback", "callbacks", multiple=True, metavar="'TYPE FIELD: …'",
              help="Somebody who is told what happens; may be given several times.")  # fmt: skip
@click.option("--keep-last", type=click.IntRange(1), metavar="N",
              help="Remove this run's snapshots but the last N.")  # fmt: skip
@click.option("--keep-best", is_flag=True,
              help="Keep the weights that tested best as PREFIX_best.caffemodel.")  # fmt: skip
@click.option("--tensorboard", is_flag=True, help="Write events for TensorBoard.")
@click.option("--sync-batch-norm", is_flag=True,
              help="Of several processes: BatchNorm goes by the batches of all.")  # fmt: skip
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
    no_verify: bool,
    run: str | None,
    no_run: bool,
    log: str | None,
    callbacks: tuple[str, ...],
    keep_last: int | None,
    keep_best: bool,
    tensorboard: bool,
    sync_batch_norm: bool,
    allow_python: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train a net as its solver says.

    SOLVER is a solver.prototxt; paths in it are relative to the working folder, as Caffe's.
    Progress goes to stderr: on a terminal a table of the tests and a bar, else Caffe's lines. A
    folder keeps what is needed to repeat the run, its history (history.csv, curves.png) and its
    log. Ctrl-C snapshots and stops, a second one stops at once; SIGTERM snapshots and stops,
    SIGHUP snapshots and goes on.

    Under torchrun several processes train together, each on a GPU of its own: the batch is as many
    times larger. Only the first prints and writes files. With --max-restarts a training whose
    processes were started anew goes on from its last snapshot by itself.
    """
    from torrefy.train.best import CheckpointBest
    from torrefy.train.callbacks import parse_callback
    from torrefy.train.keep import KeepLast
    from torrefy.train.run import RunFolder
    from torrefy.train.solver import Solver
    from torrefy.train.tensorboard import TensorBoard
    from torrefy.train.usable import Skipped, look, skipped

    loading: dict[str, Any] = {"bad": bad_images}
    if workers is not None:
        loading["workers"] = workers
    if run is not None and no_run:
        raise click.UsageError("--run and --no-run contradict each other")
    begun = time.monotonic()
    with _joined(device) as processes:
        told = [parse_callback(text) for text in callbacks]
        if keep_last is not None:
            told.append(KeepLast(snapshots=keep_last))
        told += [CheckpointBest()] * keep_best + [TensorBoard()] * tensorboard
        trained = Solver(
            solver,
            weights=list(weights) or None,
            resume=resume,
            loading=loading,
            callbacks=[*([] if run or no_run else [RunFolder()]), *told],
            run=run,
            sync_batch_norm=sync_batch_norm,
            processes=processes,
            allow_python=allow_python,
            precision=precision,
            compile=compiled,
            channels_last=channels_last,
            deterministic=deterministic,
        )
        feeds = (trained.feed, *trained.test_feeds)
        if trained.leads:
            for note in (*trained.notes, *(() if no_verify else look(feeds))):
                click.echo(note_line(solver, note), err=True)
        log = log or ("table" if sys.stderr.isatty() else "caffe")
        with showing(log if trained.leads else "none") as shown, _signals(trained):
            trained.callbacks.all.extend(shown)
            begin = trained.iteration
            _solve(trained)
        passed = Skipped.of_all(processes.all(skipped(feeds)))
    if trained.leads:
        _tell(trained, begin, passed, time.monotonic() - begun, as_json)
    if trained.stopped and trained.iteration < trained.parameter.max_iter:
        sys.stdout.flush()
        click.get_current_context().exit(INTERRUPTED)


@contextlib.contextmanager
def _joined(device: str) -> Iterator[Processes]:
    """The processes of this training. Where it fails one of them tells why, and all end."""
    from torrefy.train.distributed import Processes, join, leave

    processes: Processes | None = None
    try:
        processes = join(device)
        yield processes
    except BaseException as error:
        processes = processes or Processes()  # met, but without a GPU for this one
        processes.break_up()
        if processes.world == 1 or isinstance(error, (click.ClickException, click.exceptions.Exit)):
            raise
        code = INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
        if processes.speaks:
            code = tell_end(error)
        # Threads of gloo wait for the others in vain: an orderly end would be aborted by them.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    leave()


def _solve(solver: Solver) -> None:
    from torrefy.train.divergence import DivergedError

    begin = solver.iteration
    try:
        solver.solve()
    except DivergedError:
        raise  # what was learned last is what went wrong
    except TorrefyError:
        solver.processes.break_up()
        if solver.leads and solver.iteration > begin and not _is_snapshot(solver):
            _save_before_giving_up(solver)
        raise
    if solver.stopped and not _is_snapshot(solver):
        solver.snapshot()


def _save_before_giving_up(solver: Solver) -> None:
    """Keep what was learned when the data, say, end a run."""
    if not all(one.blob.isfinite().all() for one in solver.learned):
        return  # another process has seen a loss that is no number
    with contextlib.suppress(TorrefyError):  # the disk may be what failed
        solver.snapshot()
        click.echo(one_line(f"wrote {solver.last_snapshot} before giving up"), err=True)


def _is_snapshot(solver: Solver) -> bool:
    """Whether the present iteration has its snapshot."""
    last = solver.last_snapshot
    return last is not None and f"_iter_{solver.iteration}." in last.name


def _tell(solver: Solver, begin: int, passed: Skipped, seconds: float, as_json: bool) -> None:
    from torrefy.train.run import RunFolder

    scores = [
        {name: blob.flatten().tolist() for name, blob in of_net.items()} for of_net in solver.scores
    ]
    loss = solver.smoothed_loss
    written = [solver.last_snapshot] if solver.last_snapshot is not None else []
    run = next((one.path for one in solver.callbacks.all if isinstance(one, RunFolder)), None)
    if as_json:
        print_json(
            {
                "ok": True,
                "iteration": solver.iteration,
                "stopped": solver.stopped,
                "finished": solver.finished or None,
                "loss": loss if math.isfinite(loss) else None,
                "scores": [
                    {name: [v if math.isfinite(v) else None for v in values]
                     for name, values in of_net.items()}
                    for of_net in scores
                ],
                "snapshots": [str(path) for path in written],
                "skipped": passed.items,
                "times_skipped": passed.times,
                "run": str(run) if run is not None else None,
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
    if solver.finished:
        click.echo(one_line(f"ended before max_iter: {solver.finished}"))
    for number, of_net in enumerate(scores):
        for name, values in of_net.items():
            told = " ".join(f"{value:g}" for value in values[:10])
            more = f" and {len(values) - 10} more" if len(values) > 10 else ""
            click.echo(one_line(f"test net {number}: {name} {told}{more}"))
    if passed.items:
        click.echo(one_line(str(passed)))
    if run is not None:
        click.echo(one_line(f"run folder {run}: history, curves, log"))
    for path in written:
        click.echo(one_line(f"wrote {path}"))


@contextlib.contextmanager
def _signals(solver: Solver) -> Iterator[None]:
    """What signals mean while a solver trains."""
    told: list[int] = []

    def stop(number: int, _: object) -> None:
        if told and number == signal.SIGINT:
            raise KeyboardInterrupt
        told.append(number)
        if solver.leads:
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
            ending = solver.stopped and number == signal.SIGINT  # one more changes nothing
            signal.signal(number, signal.SIG_IGN if ending else handler)
