"""How fast a model is: in each runtime and precision, each in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.uncropped import Uncropped
from torrefy.errors import TorrefyError, did_you_mean
from torrefy.runtime.base import PRECISIONS, check_threads, find_runtime
from torrefy.runtime.base import runtimes as known_runtimes
from torrefy.runtime.choose import machine
from torrefy.runtime.measure import NOISES, Job, Measured, in_process
from torrefy.runtime.runnable import Runnable
from torrefy.runtime.session import device_here

BATCHES = (1, 8)
"""Pictures at once, where no batches are asked for."""
SECONDS = 2.0
"""What each batch of each is measured for."""
PICTURES = 200
"""Pictures on which it is measured, at most."""
ALL_PRECISIONS = (*PRECISIONS, "int8")
"""Those of runtimes, and that of files."""
REFERENCE = "onnxruntime"
"""The runtime whose answers in fp32 all others are compared with."""


@dataclass(frozen=True)
class Row:
    """A model in one runtime, precision and batch."""

    runtime: str
    version: str
    """Of the runtime."""
    precision: str
    batch: int
    """Pictures at once."""
    p50_ms: float
    """The median time of a batch, in milliseconds."""
    p90_ms: float
    p99_ms: float
    pictures_per_second: float
    """At the median time."""
    memory_mb: float | None
    """The most that a process with nothing else in it takes, in 10⁶ bytes; None: not known."""
    same_class: float | None
    """The share of answers with fp32's class; None: the output isn't classes."""
    difference: float | None
    """The largest from fp32's output."""


@dataclass(frozen=True)
class Bench:
    """What was measured of a model."""

    model: str
    machine: str
    device: str
    threads: int
    """0: as each runtime decides."""
    compared_with: str
    """Whose answers agreement is measured with: "onnxruntime in fp32"."""
    compared_on: str
    """What agreement is measured on: "200 pictures", "32 pictures of noise"."""
    rows: tuple[Row, ...]
    left_out: tuple[tuple[str, str, str], ...]
    """What could not be measured: runtime, precision, and why."""

    def as_json(self) -> dict[str, Any]:
        """As JSON has it."""
        left = [
            {"runtime": runtime, "precision": precision, "reason": reason}
            for runtime, precision, reason in self.left_out
        ]
        return {**asdict(self), "left_out": left}


def bench(
    model: str | Path,
    weights: str | Path | None = None,
    *,
    runtimes: Sequence[str] = (),
    precisions: Sequence[str] = (),
    batches: Sequence[int] = BATCHES,
    device: str = "cpu",
    threads: int = 0,
    pictures: str | Path | None = None,
    seconds: float = SECONDS,
    told: Callable[[str], None] = lambda _: None,
) -> Bench:
    """Measure a model in runtimes, precisions and batches.

    int8, and fp16 in ONNX Runtime, are files that are made meanwhile. int8 is calibrated on up to
    half of the pictures; agreement is measured on others.

    Args:
        model: as `torrefy.Classifier` takes it, or a .prototxt.
        weights: those of a .prototxt.
        runtimes: their names; none: all that are here.
        precisions: of "fp32", "bf16", "fp16", "int8"; none: all that there are here.
        batches: pictures at once.
        device: "cpu", "cuda".
        threads: how many compute; 0: as each runtime decides.
        pictures: a folder, list or table of them.
        seconds: how long each batch of each is measured, about.
        told: is told what goes on.

    Raises:
        TorrefyError: there is no such model, runtime or precision; or nothing could be measured,
            and why.
    """
    check_threads(threads)
    for name in runtimes:
        find_runtime(name)
    for precision in precisions:
        if precision not in ALL_PRECISIONS:
            raise TorrefyError(
                f'there is no precision "{precision}"',
                hint=did_you_mean(precision, ALL_PRECISIONS)
                or f"There are {', '.join(ALL_PRECISIONS)}.",
            )
    device = device_here() if device == "auto" else device
    runnable = Runnable(model, weights)
    rows: list[Row] = []
    left: list[tuple[str, str, str]] = []
    passed_over: list[tuple[str, str, str]] = []
    reference: NDArray[Any] | None = None
    compared_with = ""
    shown = set(runtimes or known_runtimes())
    with tempfile.TemporaryDirectory(prefix="torrefy-") as name:
        folder = Path(name)
        seen, compared_on = _pictures(runnable, pictures, folder)
        common = (tuple(sorted(set(batches))), device, threads, seconds, seen, name)
        given = (str(model), None if weights is None else str(weights))
        made = _Files(runnable, given, folder, pictures, told)
        for runtime, precision in _order(shown, precisions):
            try:
                job = _job(made, runtime, precision, common)
                told(f"{runtime}, {precision}")
                measured = in_process(job)
            except TorrefyError as error:
                unasked = isinstance(error, _UnaskedError) and not precisions
                (passed_over if unasked else left).append((runtime, precision, str(error)))
                continue
            if reference is None:
                reference, compared_with = measured.answers, f"{runtime} in {job.called}"
            if runtime in shown and (not precisions or job.called in precisions):
                rows += _rows(job, measured, reference)
    had = {row.runtime for row in rows}
    left += [one for one in passed_over if one[0] in set(runtimes) - had]
    left = [one for one in left if one[0] in shown and (not precisions or one[1] in precisions)]
    if not rows:
        reasons = "; ".join(f"{name} in {what}: {why}" for name, what, why in left or passed_over)
        raise TorrefyError(f"{runnable.name}: nothing could be measured: {reasons}")
    return Bench(
        runnable.name, machine(device), device, threads, compared_with, compared_on, tuple(rows),
        tuple(left),
    )  # fmt: skip


class _UnaskedError(TorrefyError):
    """Why something isn't measured of which nobody asked."""


class _Files:
    """The files that runtimes read, made when one is needed."""

    def __init__(
        self,
        model: Runnable,
        given: tuple[str, str | None],
        folder: Path,
        pictures: str | Path | None,
        told: Callable[[str], None],
    ) -> None:
        self.model = model
        self.given = given
        """What another process makes the same of."""
        self._folder = folder
        self._pictures = pictures
        self._told = told
        self._made: dict[str, Path] = {}

    def of(self, precision: str) -> Path:
        """The file in a precision."""
        if precision == self.model.precision:
            return self.model.file()
        if self.model.precision != "fp32":
            raise _UnaskedError(f"the file is in {self.model.precision}")
        if precision not in self._made:
            from torrefy.export.precision.lower import lower_precision

            if precision == "int8" and self._pictures is None:
                raise _UnaskedError("int8 needs pictures to calibrate on: --pictures")
            path = self._folder / f"{precision}.onnx"
            self._told(f"making a file in {precision}")
            lower_precision(
                self.model.file(), path, precision, calibrate=self._pictures, least_agreement=0
            )
            self._made[precision] = path
        return self._made[precision]


def _order(shown: set[str], precisions: Sequence[str]) -> list[tuple[str, str]]:
    """What is measured; the reference is the first, wherever it can be."""
    wanted = tuple(precisions) or ALL_PRECISIONS
    pairs = [
        (name, precision) for precision in wanted for name in known_runtimes() if name in shown
    ]
    return [(REFERENCE, "fp32"), *(pair for pair in pairs if pair != (REFERENCE, "fp32"))]


def _job(made: _Files, runtime: str, precision: str, common: tuple[Any, ...]) -> Job:
    """What a process is to do.

    Raises:
        TorrefyError: the runtime can't compute the model so.
    """
    found = find_runtime(runtime)
    device = common[1]
    own = found.missing(device, precision if precision != "int8" else "fp32")
    if found.reads == "net":
        if precision == "int8":
            raise _UnaskedError("it computes definitions, and int8 is a file's")
        if made.model.is_file:
            raise _UnaskedError("it computes definitions, and this is an ONNX file")
        if own:
            raise _UnaskedError(own)
        return Job(*made.given, runtime, precision, precision, *common)
    if precision in ("int8", made.model.precision) or (own and precision == "fp16"):
        # The file has it, whatever the runtime computes in.
        reason = found.missing(device, "fp32")
        if reason:
            raise _UnaskedError(reason)
        if precision == "fp16" and device == "cpu" and made.model.precision == "fp32":
            raise _UnaskedError("fp16 is for GPUs")
        return Job(str(made.of(precision)), None, runtime, "fp32", precision, *common)
    if own:
        raise _UnaskedError(own)
    return Job(str(made.of("fp32")), None, runtime, precision, precision, *common)


def _pictures(model: Runnable, pictures: str | Path | None, folder: Path) -> tuple[str | None, str]:
    """A file of pictures as the net sees them, and what they are."""
    if pictures is None:
        return None, f"{NOISES} pictures of noise"
    from torrefy.data.collect import read_examples
    from torrefy.export.precision.lower import CALIBRATED
    from torrefy.export.precision.pictures import LEAST, choose, decode

    seen = model.recipe.preprocessor
    if seen is None:
        raise TorrefyError(
            f"{model.name}: nothing says what is done to a picture",
            hint="Leave out --pictures, or export it with --preprocessing.",
        )
    examples = read_examples(pictures, targets=False)
    others = list(range(len(examples)))
    if len(examples) >= 2 * LEAST:  # of fewer none can calibrate
        _, others = choose(examples, CALIBRATED, 0)
    path = folder / "pictures.npy"
    decoded = decode(
        examples, Uncropped(seen) if model.recipe.whole else seen, others[:PICTURES], path
    )
    if len(decoded) < len(others[:PICTURES]):
        np.save(path, np.array(decoded.array))
    return str(path), f"{len(decoded)} pictures"


def _rows(job: Job, measured: Measured, reference: NDArray[Any]) -> list[Row]:
    same, difference = _agreement(measured.answers, reference)
    rows = []
    for one in measured.batches:
        p50, p90, p99 = (float(np.percentile(one.times, p)) for p in (50, 90, 99))
        rows.append(
            Row(
                runtime=job.runtime,
                version=measured.version,
                precision=job.called,
                batch=one.batch,
                p50_ms=round(1000 * p50, 4),
                p90_ms=round(1000 * p90, 4),
                p99_ms=round(1000 * p99, 4),
                pictures_per_second=round(one.batch / p50, 2),
                memory_mb=round(one.memory / 1e6, 1) or None,
                same_class=same,
                difference=difference,
            )
        )
    return rows


def _agreement(found: NDArray[Any], expected: NDArray[Any]) -> tuple[float | None, float | None]:
    """The share of the same classes, and the largest difference."""
    if found.shape != expected.shape or not found.size:
        return None, None
    difference = float(np.abs(found - expected).max())
    rows, others = (array.reshape(len(array), -1) for array in (found, expected))
    if rows.shape[1] < 2 or (found.ndim > 2 and rows.shape[1] > found.shape[1]):
        return None, difference
    return float((rows.argmax(1) == others.argmax(1)).mean()), difference
