"""The fastest runtime for a model here, measured once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.ahead import cores
from torrefy.errors import TorrefyError
from torrefy.plugins import found
from torrefy.runtime.base import Runtime, check_threads, runtimes
from torrefy.runtime.engine import noise_for
from torrefy.runtime.runnable import Runnable
from torrefy.weights.files import replacing
from torrefy.zoo.cache import cache_folder

AUTO = "auto"
"""In place of a runtime's name: the fastest."""
BATCH = 8
"""Pictures at once when runtimes are compared."""
SECONDS = 0.7
"""What comparing takes with each, about, beside opening."""
RUNS = 5
"""How often each runs at least."""
MOST_OFF = 1e-3
"""How far the answers of a runtime may be from those of the first, of the largest of them."""
MOST_OFF_IN_LESS = 0.1
"""The same where they are computed in less than fp32, or by a file in int8."""
FOLDER = "runtimes"
"""Where in the cache it is kept what was measured."""


@dataclass(frozen=True)
class Choice:
    """The fastest runtime, and what it was compared with."""

    runtime: str
    seconds: dict[str, float]
    """For a picture, by runtime, in batches of `batch`."""
    batch: int
    failed: dict[str, str] = field(default_factory=dict)
    """Runtimes that could not be tried, and why."""
    measured_now: bool = True
    """Whether this was measured now, or the last time."""

    def told(self) -> str:
        """One line: "openvino: 3.1 ms a picture (onnxruntime 5.0, pytorch 16.2); measured now"."""
        others = ", ".join(
            f"{name} {1000 * seconds:.1f}"
            for name, seconds in sorted(self.seconds.items(), key=lambda item: item[1])
            if name != self.runtime
        )
        when = "measured now" if self.measured_now else "as measured before"
        return (
            f"runtime {self.runtime}: {1000 * self.seconds[self.runtime]:.1f} ms a picture"
            + (f" ({others})" if others else "")
            + f", {when}"
        )


def fastest(
    model: Runnable, device: str = "cpu", precision: str = "fp32", threads: int = 0
) -> Choice:
    """The runtime that computes a model fastest on this machine.

    Each that can is timed with BATCH pictures of noise, but those that take long to open, and those
    whose answers are others than the first one's, which is ONNX Runtime wherever it can compute
    the model: by more than MOST_OFF, or MOST_OFF_IN_LESS. What was found is kept in the cache, for
    this model, machine and these versions.

    Raises:
        TorrefyError: none can compute it, and why.
    """
    check_threads(threads)
    failed: dict[str, str] = {}
    tried: dict[str, Runtime] = {}
    versions: dict[str, str] = {}
    known = runtimes()
    for name in known:
        try:
            runtime: Runtime = known[name]()
            reason = runtime.missing(device, precision)
            versions[name] = "" if reason else runtime.version()
        except Exception as error:  # noqa: BLE001  as below
            reason = reason_of(error)
        if not reason and model.is_file and runtime.reads == "net":
            reason = "it computes definitions, and this is an ONNX file"
        if not reason and runtime.slow_to_open:
            reason = "it takes long to open"
        if reason:
            failed[name] = reason
        else:
            tried[name] = runtime
    file = _kept_at(model, device, precision, threads, versions)
    kept = _read(file)
    if kept is not None:
        return kept
    seconds: dict[str, float] = {}
    batch = 1
    exact = precision == "fp32" and model.precision == "fp32"
    expected: NDArray[Any] | None = None
    reference = ""
    for name, runtime in tried.items():  # the built-in ones first
        try:
            session = runtime.open(model, device, precision, threads)
            first = next(iter(session.inputs.values()))[0]
            batch = first if isinstance(first, int) else BATCH
            inputs = noise_for(session.inputs, model.recipe, model.name, batch)
            output = model.recipe.output or next(iter(session.outputs))
            answers = session.run(inputs, [output])[output]
            if not np.isfinite(answers).all():
                failed[name] = "its answers are not finite"
                continue
            if expected is None:
                expected, reference = answers, name
            off = _off(answers, expected)
            if off > (MOST_OFF if exact else MOST_OFF_IN_LESS):
                failed[name] = f"its answers are {off:.2g} off those of {reference}"
                continue
            run = partial(session.run, inputs, [output])
            seconds[name] = statistics.median(timed(run, SECONDS, RUNS)) / batch
        except Exception as error:  # noqa: BLE001  a plugin's runtime may raise anything
            failed[name] = reason_of(error)
    if not seconds:
        told = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise TorrefyError(f"no runtime can compute {model.name} here: {told}")
    choice = Choice(min(seconds, key=seconds.__getitem__), seconds, batch, failed)
    _keep(file, choice)
    return choice


def _off(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest difference, of the largest number expected; infinite for another shape."""
    if found.shape != expected.shape:
        return float("inf")
    if not found.size:
        return 0.0
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))


def timed(run: Callable[[], object], seconds: float, runs: int) -> list[float]:
    """The seconds of each run, for about so long and at least so often.

    The first two runs, and what runs in a tenth of the time, don't count: memory is made ready
    then, kernels are chosen, and threads awake.
    """
    begun, warm = time.perf_counter(), 0
    while warm < 2 or (time.perf_counter() - begun < seconds / 10):
        run()
        warm += 1
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < runs or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def reason_of(error: Exception) -> str:
    """An error in a line; of one that is not ours also where a plugin raised it."""
    return str(error) if isinstance(error, TorrefyError) else found.reason_of(error)


def machine(device: str = "cpu") -> str:
    """What computes here: the processor's name, how many cores this process may use, the GPUs."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    told = [name, f"{cores()} cores"]
    if device != "cpu":
        for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            told += [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
    return ", ".join(told)


def _kept_at(
    model: Runnable, device: str, precision: str, threads: int, versions: dict[str, str]
) -> Path:
    asked = [model.digest(), machine(device), device, precision, threads, sorted(versions.items())]
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]
    return cache_folder() / FOLDER / f"{digest}.json"


def _read(file: Path) -> Choice | None:
    """What was measured before; None: nothing was, or it can't be read."""
    try:
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        choice = Choice(**{**kept, "measured_now": False})
        choice.told()
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return choice


def _keep(file: Path, choice: Choice) -> None:
    """Keep it for the next time; a cache that can't be written to goes without."""
    with contextlib.suppress(OSError, TorrefyError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as opened:
            opened.write(json.dumps(asdict(choice), indent=1).encode())
