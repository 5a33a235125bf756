"""What commands print: problems, JSON and tables; and the files that they write."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from torrefy.errors import Place, Problem, TorrefyError

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = 130
"""The exit code of a command that a signal ended."""
_JSON = "torrefy.json"
"""The key in click's context that says that `--json` was given."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")

Function = TypeVar("Function", bound=Callable[..., Any])


def json_option(function: Function) -> Function:
    """`--json`, as the argument `as_json`: results and errors as JSON on stdout."""

    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
        ctx.meta[_JSON] = value
        return value

    return click.option(  # eager: also what is wrong with other options is told in JSON
        "--json", "as_json", is_flag=True, is_eager=True, callback=remember,
        help="Print JSON, errors too.",
    )(function)  # fmt: skip


def print_json(value: Any) -> None:
    """A result as JSON on stdout; every result has "ok", one that is not has "problems"."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def failure(problems: Iterable[Problem]) -> dict[str, Any]:
    """What a command that failed prints as JSON."""
    return {"ok": False, "problems": [problem_json(problem) for problem in problems]}


def problem_json(problem: Problem) -> dict[str, Any]:
    """A problem for JSON; what is not known is null."""
    place = problem.place
    return {
        "file": place.file if place else None,
        "line": place.line or None if place else None,
        "column": place.column or None if place else None,
        "layer": problem.layer or None,
        "message": problem.message,
        "hint": problem.hint or None,
    }


def problem_line(problem: Problem) -> str:
    """A problem as one line: `file:line:column: layer "x": message`, or `error: message`."""
    return one_line(str(problem) if problem.place else f"error: {problem}")


def note_line(file: str, note: str) -> str:
    """A note as one line: `file: note: …`, or `file:line:column: note: …` where it has a place."""
    placed = re.match(rf"{re.escape(file)}:\d+:\d+(?=: )", note)
    place = placed[0] if placed else file
    return one_line(f"{place}: note: {note[placed.end() + 2 :] if placed else note}")


def one_line(text: str) -> str:
    """A text with its control characters spelled out, so that it is one harmless line."""
    return _UNPRINTABLE.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def report(error: BaseException) -> None:
    """Tell an error that ends a command: lines on stderr, or JSON on stdout after `--json`."""
    problems = problems_of(error)
    ctx = click.get_current_context(silent=True)
    if ctx and ctx.meta.get(_JSON):
        print_json(failure(problems))
        return
    for problem in problems:
        click.echo(problem_line(problem), err=True)


def tell_end(error: BaseException) -> int:
    """Tell what ended a command, an error or Ctrl-C; its exit code."""
    if isinstance(error, KeyboardInterrupt):
        with contextlib.suppress(ValueError):  # only the main thread gets signals
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends: one more changes nothing
        click.echo("interrupted", err=True)
        return INTERRUPTED
    if os.environ.get("TORREFY_DEBUG"):
        traceback.print_exception(error)
    report(error)
    return 1


def problems_of(error: BaseException) -> tuple[Problem, ...]:
    """Any error as problems: refusals as they are, the rest as what it most likely is."""
    if isinstance(error, TorrefyError):
        return error.problems
    if isinstance(error, OSError) and error.strerror:
        place = Place(os.fsdecode(error.filename)) if error.filename else None
        return (Problem(error.strerror, place),)
    if isinstance(error, MemoryError):
        return (Problem("there is not enough memory"),)
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return (
        Problem(
            f"this is a bug of Torrefy: {reason}",
            hint="Run it again with TORREFY_DEBUG=1 for the traceback, and report both.",
        ),
    )


def console(*, stderr: bool = False) -> Console:
    """Where tables and progress go. Into a pipe or a file lines are as long as they need be."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 1 << 16
    return Console(
        stderr=stderr, width=width, markup=False, emoji=False, highlight=False, soft_wrap=False
    )


def write_file(path: Path | str, data: bytes) -> None:
    """Write a file whole or not at all; a device or a pipe is just written to.

    Raises:
        TorrefyError: it can't be written, and why.
    """
    target = Path(path).resolve()  # a link stays a link
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(data)
            return
        try:
            part.write_bytes(data)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise TorrefyError(f"can't be written: {error.strerror}", place=Place(str(path))) from None


@contextlib.contextmanager
def log_on_stderr(room: str = "zoo") -> Generator[None]:
    """What a room logs, as lines on stderr: the zoo, what is fetched where there is no bar."""
    log = logging.getLogger(f"torrefy.{room}")
    handler = logging.StreamHandler(sys.stderr)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
