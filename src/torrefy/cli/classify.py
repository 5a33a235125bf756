"""`torrefy classify`: what is in pictures."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from torrefy.cli.output import (
    INTERRUPTED,
    console,
    json_option,
    log_on_stderr,
    one_line,
    print_json,
    problem_json,
    problem_line,
)
from torrefy.cli.tta import as_json as tta_json
from torrefy.cli.tta import told, tta_options, versions_of
from torrefy.errors import Problem, TorrefyError

if TYPE_CHECKING:
    from torrefy.runtime.bulk import Classified
    from torrefy.runtime.classifier import Batch

MOST_BAD = 20
"""Pictures that can't be read of which each is told."""


class _BatchType(click.ParamType[Any]):
    name = "N"

    def convert(self, value: Any, param: Any, ctx: Any) -> Batch:
        if value == "auto":
            return "auto"
        size: int = click.IntRange(1).convert(value, param, ctx)
        return size


@click.command(
    epilog="\b\nExample:\n  torrefy classify squeezenet_v1.1 cat.png\n"
    "  find photos -name '*.jpg' | torrefy classify --top 1 net.onnx -\n"
    "  torrefy classify --tta oversample squeezenet_v1.1 cat.png\n"
    "  torrefy classify net.onnx photos/ -o answers.csv --runtime auto"
)
@click.argument("model")
@click.argument("pictures", nargs=-1, required=True, metavar="PICTURE...")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, metavar="K",
              help="How many classes to name.")  # fmt: skip
@click.option("-o", "--output", metavar="FILE",
              help="Write a row for each picture: .csv, .jsonl or .parquet.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with a FILE that was broken off.")
@click.option("--batch", type=_BatchType(), default="auto", show_default=True, metavar="N",
              help="Pictures that are computed at once; auto: measured, for many.")  # fmt: skip
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:1.")
@click.option("--runtime", metavar="NAME",
              help="onnxruntime, pytorch, torch.compile, a plugin's; or auto: the fastest, "
              "measured once  [default: onnxruntime; for a net on a GPU pytorch]")  # fmt: skip
@click.option("--precision", default="fp32", show_default=True, metavar="NAME",
              help="What the runtime computes in: fp32, bf16 or fp16.")  # fmt: skip
@click.option("--threads", type=click.IntRange(0), default=0, metavar="N",
              help="How many compute  [default: as the runtime decides]")  # fmt: skip
@tta_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    *,
    model: str,
    pictures: tuple[str, ...],
    top: int,
    output: str | None,
    resume: bool,
    batch: Batch,
    device: str,
    runtime: str | None,
    precision: str,
    threads: int,
    tta: tuple[str, ...],
    tta_count: int | None,
    tta_seed: int,
    as_json: bool,
) -> None:
    """Say what is in pictures.

    MODEL is a zoo model's name or an .onnx file that `torrefy export` wrote. A PICTURE is a
    file, a folder, a pattern, or - for a list of names on standard input. A picture that can't
    be read is told and the rest go on; the exit code is then 1.

    With -o any number of pictures goes through in constant memory. Ctrl-C, or a kill, loses a few
    batches: the same command with --resume goes on, and the file comes out the same.
    """
    from torrefy.data.pictures import each_picture

    if resume and output is None:
        raise click.UsageError("--resume goes on with a file: give -o too")
    versions = versions_of(tta, tta_count, tta_seed)
    found = each_picture(pictures, sys.stdin)
    first = next(found, None)
    if first is None:
        raise TorrefyError("there are no pictures to classify")
    found = chain([first], found)

    from torrefy.runtime.classifier import Classifier

    with log_on_stderr("runtime") if sys.stderr.isatty() else contextlib.nullcontext():
        classifier = Classifier(
            model, device, runtime=runtime, precision=precision, threads=threads, tta=versions
        )
    if classifier.choice is not None:
        click.echo(one_line(classifier.choice.told()), err=True)
    if output is not None:
        from torrefy.runtime.bulk import classify_to

        run = partial(classify_to, output, classifier, found, top, batch=batch, resume=resume)
        bad = _write(run, resume, as_json)
    elif as_json:
        bad = _print_all(model, versions, classifier.answers(found, top, batch=batch))
    else:
        with _Problems() as problems:
            for answer in classifier.answers(found, top, batch=batch):
                problems.count(answer)
                if answer.error is None:
                    _print(answer, told(versions) if versions else "")
        bad = problems.bad
    if bad:
        ctx.exit(1)


class _Problems(contextlib.AbstractContextManager["_Problems"]):
    """Pictures that can't be read: the first ones are told on stderr, then how many there are."""

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self._tell = tell or (lambda line: click.echo(line, err=True))
        self.seen = self.bad = 0

    def count(self, answer: Any) -> None:
        """Take an answer."""
        self.seen += 1
        if answer.error is None:
            return
        self.bad += 1
        if self.bad <= MOST_BAD:
            for problem in answer.error.problems:
                self._tell(problem_line(problem))
        elif self.bad == MOST_BAD + 1:
            self._tell("more pictures can't be read; they are counted")

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None and self.bad and self.seen > 1:
            self._tell(f"{self.bad} of {self.seen} pictures could not be read")


def _print_all(model: str, versions: Any, answers: Iterable[Any]) -> int:
    """Print all answers as one document; how many pictures could not be read."""
    results: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for answer in answers:
        if answer.error is None:
            results.append(_as_json(answer))
        else:
            problems.extend(answer.error.problems)
    print_json(
        {
            "ok": not problems,
            "model": model,
            "tta": tta_json(versions),
            "pictures": results,
            "problems": [problem_json(problem) for problem in problems],
        }
    )
    return len(problems)


def _write(run: Callable[..., Classified], resume: bool, as_json: bool) -> int:
    """Let a table be written; how many pictures could not be read."""
    try:
        with _shown() as (tell, advance):
            problems = _Problems(tell)

            def told(answer: Any) -> None:
                problems.count(answer)
                advance()

            done = run(told=told)
    except KeyboardInterrupt:
        line = shlex.join(["torrefy", *sys.argv[1:], *([] if resume else ["--resume"])])
        click.echo(one_line(f"interrupted; this goes on with it: {line}"), err=True)
        click.get_current_context().exit(INTERRUPTED)
    rate = (done.count - done.resumed) / max(done.seconds, 1e-9)
    if as_json:
        print_json(
            {
                "ok": not done.bad,
                "file": str(done.path),
                "pictures": done.count,
                "bad": done.bad,
                "resumed": done.resumed,
                "batch": done.batch,
                "seconds": round(done.seconds, 3),
                "rate": round(rate, 1),
            }
        )
        return done.bad
    if done.resumed:
        click.echo(f"{done.resumed} pictures were done before", err=True)
    if done.bad:
        click.echo(f"{done.bad} of {done.count} pictures could not be read", err=True)
    click.echo(
        one_line(
            f"wrote {done.path}: {done.count} pictures in {done.seconds:.1f} s, "
            f"{rate:.1f} pictures/s"
        )
    )
    return done.bad


@contextlib.contextmanager
def _shown() -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """How to tell a line, and that a picture is done: with a bar, on a terminal."""
    if not sys.stderr.isatty():
        yield (lambda line: click.echo(line, err=True)), (lambda: None)
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.completed:.0f} pictures, {task.fields[rate]:.1f} pictures/s"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as bars:
        task, begun, done = bars.add_task("", total=None, rate=0.0), time.monotonic(), 0

        def advance() -> None:
            nonlocal done
            done += 1
            bars.update(task, completed=done, rate=done / max(time.monotonic() - begun, 1e-9))

        yield bars.console.print, advance


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
