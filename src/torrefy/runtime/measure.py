"""A model in one runtime, timed by a process that does nothing else: `python -m` this module."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.errors import TorrefyError
from torrefy.plugins.manager import configure, configured
from torrefy.runtime.base import Session, find_runtime
from torrefy.runtime.batch import most_memory
from torrefy.runtime.choose import reason_of, timed
from torrefy.runtime.engine import noise_for, picture_input
from torrefy.runtime.runnable import Runnable

RUNS = 10
"""How often each batch runs at least."""
NOISES = 32
"""Random inputs, where there are no pictures."""
ANSWERS, REPORT = "answers.npy", "report.json"
"""What a process leaves in its folder."""


@dataclass(frozen=True)
class Job:
    """What one process measures."""

    model: str
    """What a `Runnable` is made of: a file, where the runtime reads files."""
    weights: str | None
    runtime: str
    precision: str
    """What the runtime computes in."""
    called: str
    """What that is called: of a file in int8 "int8"."""
    batches: tuple[int, ...]
    device: str
    threads: int
    seconds: float
    pictures: str | None
    """A file of pictures as the net sees them, NxCxHxW; None: noise."""
    folder: str
    """Where the process leaves what it found."""


@dataclass(frozen=True)
class Timed:
    """One batch."""

    batch: int
    times: list[float]
    """Seconds of each run."""
    memory: float
    """The most that the process had taken by then, in bytes; 0: not known."""


@dataclass(frozen=True)
class Measured:
    """What a process found."""

    version: str
    """Of the runtime."""
    batches: tuple[Timed, ...]
    answers: NDArray[np.float32]
    """The output for all pictures."""


def in_process(job: Job) -> Measured:
    """Let a process do a job.

    Raises:
        TorrefyError: what it raised, or that it died.
    """
    folder = Path(job.folder)
    (folder / REPORT).unlink(missing_ok=True)
    plugins = configured()
    plugins["files"] = [str(file) for file in plugins["files"]]
    done = subprocess.run(  # noqa: S603  ourselves
        [sys.executable, "-P", "-m", __name__],  # -P: nothing of the current folder
        input=json.dumps({"job": asdict(job), "plugins": plugins}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not (folder / REPORT).is_file():
        raise TorrefyError(f"its process died ({_end(done)})")
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    if "error" in report:
        raise TorrefyError(report["error"])
    answers = np.load(folder / ANSWERS, allow_pickle=False)
    return Measured(report["version"], tuple(Timed(**t) for t in report["batches"]), answers)


def _end(done: subprocess.CompletedProcess[str]) -> str:
    """How a process ended: the signal, or the last line that it wrote and its exit code."""
    if done.returncode < 0:
        names = {one.value: one.name for one in signal.Signals}
        return names.get(-done.returncode, f"signal {-done.returncode}")
    lines = done.stderr.strip().splitlines()
    return f"{lines[-1]}; exit code {done.returncode}" if lines else f"exit code {done.returncode}"


def measure(job: Job) -> Measured:
    """Do a job.

    Raises:
        TorrefyError: the runtime can't compute the model.
    """
    model = Runnable(job.model, job.weights)
    runtime = find_runtime(job.runtime)
    session = runtime.open(model, job.device, job.precision, job.threads)
    output = model.recipe.output or next(iter(session.outputs))
    feed, count, fixed = _feed(session, model, job.pictures)
    batches = []
    for batch in (fixed,) if fixed else job.batches:
        run = partial(session.run, feed(0, batch), [output])
        batches.append(Timed(batch, timed(run, job.seconds, RUNS), most_memory()))
    step = fixed or max(job.batches)
    parts = [session.run(feed(i, i + step), [output])[output] for i in range(0, count, step)]
    answers = np.concatenate(parts)[:count].astype(np.float32)
    return Measured(runtime.version(), tuple(batches), answers)


def _feed(
    session: Session, model: Runnable, pictures: str | None
) -> tuple[Callable[[int, int], dict[str, NDArray[Any]]], int, int]:
    """What gives inputs from one to another; how many there are; and the batch, if it is fixed."""
    first = next(iter(session.inputs.values()))[0]
    fixed = first if isinstance(first, int) else 0
    if pictures is None:
        noise = noise_for(session.inputs, model.recipe, model.name, NOISES)

        def rows(start: int, stop: int) -> dict[str, NDArray[Any]]:
            return {name: _rolled(array, start, stop) for name, array in noise.items()}

        return rows, NOISES, fixed
    array = np.load(pictures, mmap_mode="r", allow_pickle=False)
    blob, uncropped = picture_input(session.inputs, model.recipe, model.name)

    def feed(start: int, stop: int) -> dict[str, NDArray[Any]]:
        part = _rolled(array, start, stop)
        return {blob: uncropped.whole(part) if uncropped else part}

    return feed, len(array), fixed


def _rolled(array: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
    """Rows of an array, from its beginning again where it ends."""
    return np.take(array, range(start, stop), axis=0, mode="wrap")


def main() -> None:
    """Do the job on standard input, and leave what was found, or the error, in its folder."""
    asked = json.load(sys.stdin)
    files = [Path(file) for file in asked["plugins"].pop("files")]
    configure(files=files, **asked["plugins"])
    job = Job(**{**asked["job"], "batches": tuple(asked["job"]["batches"])})
    folder = Path(job.folder)
    try:
        found = measure(job)
    except Exception as error:  # noqa: BLE001  a plugin's runtime may raise anything
        report: dict[str, Any] = {"error": reason_of(error)}
    else:
        np.save(folder / ANSWERS, found.answers)
        report = {"version": found.version, "batches": [asdict(one) for one in found.batches]}
    (folder / REPORT).write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main()
