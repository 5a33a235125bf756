"""Progress of a transfer: a bar on a terminal, a line in the log elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Generator

log = logging.getLogger("torrefy.zoo")


@contextlib.contextmanager
def progress(label: str, total: int | None) -> Generator[Callable[[int], None]]:
    """Show a transfer on standard error; the function given is told how many bytes came."""
    if not sys.stderr.isatty():
        log.info("fetching %s (%s)", label, size_text(total) if total else "of unknown size")
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True)) as bars:
        task = bars.add_task(label, total=total)
        yield lambda count: bars.advance(task, count)


def size_text(size: int) -> str:
    """A size for people: "4.9 MB"."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
