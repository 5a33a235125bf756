"""How far the answers of a file in fewer bits agree with those in fp32."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.export.precision.graph import Running, with_outputs
from torrefy.export.precision.pictures import Decoded

CLEAR = 0.1
"""A classifier's answer is clear where its two best lie so far apart."""
CLOSE = 0.02
"""Numbers are close that differ by no more than this share of the range that they take."""
QUIET = 120.0
"""dB: no more noise than this is told."""


@dataclass(frozen=True)
class Agreement:
    """How the answers to some pictures agree with those in fp32."""

    pictures: int
    answers: int
    """As many as there are pictures; where a net answers for each place in them, more."""
    top1: float | None
    """The share of answers whose class is the same; None: the net says no classes."""
    clear: float | None
    """The same of the answers where fp32's two best lie CLEAR or more apart; None: no such."""
    clear_answers: int
    close: float
    """The share of pictures whose numbers all differ by at most CLOSE of the output's range."""
    largest: float
    """The largest absolute difference of an output's number."""
    mean: float
    """The mean absolute difference."""
    snr: float
    """Of what Softmax is taken of, else of the output: signal to noise, dB."""

    @property
    def agreement(self) -> float:
        """What a threshold looks at: of classes top-1, of other numbers how many are close."""
        return self.close if self.top1 is None else self.top1

    def as_json(self) -> dict[str, Any]:
        """As numbers that JSON has."""
        return asdict(self)


@dataclass(frozen=True)
class Output:
    """The output that is compared."""

    name: str
    classes: bool
    """Whether its largest number is the answer: of three or more numbers after a Softmax."""
    softmax: bool


def find_output(model: Any, wanted: str = "", labels: int = 0) -> Output:
    """The output that holds the answer, and what it is.

    Args:
        model: the graph.
        wanted: the output's name; empty: the first.
        labels: how many labels are known of it.
    """
    names = [value.name for value in model.graph.output]
    name = wanted if wanted in names else names[0]
    source = _softmax(model, name)
    value = next(value for value in model.graph.output if value.name == name)
    dims = value.type.tensor_type.shape.dim
    count = dims[1].dim_value if len(dims) > 1 else 0
    return Output(name, (source is not None or labels > 0) and count > 2, source is not None)


def _softmax(model: Any, name: str) -> str | None:
    """What Softmax is taken of on the way to an output; None where there is none."""
    made = {out: node for node in model.graph.node for out in node.output}
    while (node := made.get(name)) is not None:
        if node.op_type == "Softmax":
            return str(node.input[0])
        if node.op_type not in ("Reshape", "Flatten", "Squeeze", "Identity", "Cast"):
            return None
        name = node.input[0]
    return None


class Reference:
    """The answers in fp32 to some pictures, in files."""

    def __init__(
        self, model: Any, output: Output, pictures: Decoded, folder: Path, threads: int = 0
    ) -> None:
        """Compute them."""
        self.pictures = pictures
        self.output = output
        self._threads = threads
        self._answers: NDArray[np.float32] | None = None
        self._scores: NDArray[np.float32] | None = None
        self._range = 1.0
        names = self._names(model)
        running = Running(with_outputs(model, names), threads)
        filled = 0
        for batch in pictures.batches():
            answers, *scores = running(batch, names)
            for kind, values in (("answers", answers), ("scores", (scores or [answers])[0])):
                stored = getattr(self, f"_{kind}")
                if stored is None:
                    shape = (len(pictures), *values.shape[1:])
                    stored = np.lib.format.open_memmap(
                        folder / f"{kind}.npy", "w+", np.float32, shape
                    )
                    setattr(self, f"_{kind}", stored)
                stored[filled : filled + len(values)] = values
            filled += len(batch)
        assert self._answers is not None and self._scores is not None  # noqa: S101
        self._range = float(self._answers.max() - self._answers.min()) or 1.0

    def _names(self, model: Any) -> list[str]:
        scores = _softmax(model, self.output.name)
        return [self.output.name] + ([scores] if scores else [])

    def compare(self, model: Any, most: int | None = None) -> Agreement:
        """How a graph's answers agree with these.

        Args:
            model: the graph in fewer bits.
            most: look at so many pictures only.
        """
        assert self._answers is not None and self._scores is not None  # noqa: S101
        names = self._names(model)
        running = Running(with_outputs(model, names), self._threads)
        same, clear, clear_same, answered = 0, 0, 0, 0
        close, largest, total, numbers = 0, 0.0, 0.0, 0
        signal, noise, filled = 0.0, 0.0, 0
        for batch in self.pictures.batches(most):
            rows = slice(filled, filled + len(batch))
            filled += len(batch)
            found, *scores = running(batch, names)
            wanted = self._answers[rows]
            difference = np.abs(found - wanted).astype(np.float64)
            difference[~np.isfinite(difference)] = np.inf
            flat = difference.reshape(len(batch), -1)
            close += int((flat.max(axis=1) <= CLOSE * self._range).sum())
            largest = max(largest, float(flat.max()))
            total += float(flat.sum())
            numbers += flat.size
            power, error = _power(self._scores[rows], (scores or [found])[0])
            signal, noise = signal + power, noise + error
            if self.output.classes:
                agree = found.argmax(axis=1) == wanted.argmax(axis=1)
                best = np.partition(wanted, -2, axis=1)
                apart = best.take(-1, axis=1) - best.take(-2, axis=1) >= CLEAR
                answered += agree.size
                same += int(agree.sum())
                clear += int(apart.sum())
                clear_same += int((agree & apart).sum())
        classes = self.output.classes
        return Agreement(
            pictures=filled,
            answers=answered if classes else filled,
            top1=same / answered if classes else None,
            clear=clear_same / clear if clear and self.output.softmax else None,
            clear_answers=clear if self.output.softmax else 0,
            close=close / filled,
            largest=largest,
            mean=total / numbers,
            snr=decibels(signal, noise),
        )


def _power(wanted: NDArray[np.float32], found: NDArray[Any]) -> tuple[float, float]:
    """Of signal and noise; what is added to all scores of a picture alike, Softmax ignores."""
    shape = (len(wanted), -1)
    wanted, found = wanted.reshape(shape), found.reshape(shape)
    if wanted.shape[1] > 1:
        wanted = wanted - wanted.mean(axis=1, keepdims=True)
        found = found - found.mean(axis=1, keepdims=True)
    noise = float(np.square(wanted - found, dtype=np.float64).sum())
    return float(np.square(wanted, dtype=np.float64).sum()), noise


def decibels(signal: float, noise: float) -> float:
    """Signal to noise in dB, at most QUIET and at least its negative."""
    if not np.isfinite(noise):
        return -QUIET
    if noise <= signal * 10 ** (-QUIET / 10):
        return QUIET
    if signal <= 0:
        return -QUIET
    return float(max(10 * np.log10(signal / noise), -QUIET))
