"""What a net says of examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from torrefy.data.ahead import read_ahead
from torrefy.data.examples import Examples
from torrefy.data.preprocess import Preprocessor
from torrefy.errors import DataError, Place, TorrefyError
from torrefy.net.net import Net


@dataclass(frozen=True)
class Answers:
    """What a net says of examples."""

    part: str
    """ "val" or "test"."""
    examples: Examples
    """Those that could be read."""
    scores: NDArray[np.float32]
    """A row each: probabilities of classes or tags; numbers."""

    @property
    def merits(self) -> NDArray[np.float64]:
        """How good each is, higher is better: 1 or 0 of a class; minus the error of the others."""
        truth, scores = self.examples.targets, self.scores.astype(np.float64)
        if self.examples.kind == "classes":
            each = scores.argmax(1) == truth
        elif self.examples.kind == "tags":
            p = np.clip(scores, 1e-7, 1 - 1e-7)
            each = (truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean(1)
        else:
            each = -np.square(scores - truth).mean(1)
        return np.asarray(each, np.float64)

    @property
    def value(self) -> float:
        """Their mean: accuracy, mean log probability, or minus the mean square error."""
        return float(self.merits.mean())

    def beat(self, others: Answers) -> bool:
        """Whether these are better than another net's of the same examples, not just by luck.

        That is, by more than the standard error of the mean difference: of classes, if of n
        pictures that only one of the two classifies rightly it has over √n more.
        """
        gains = self.merits - others.merits
        return bool(gains.sum() > np.sqrt(np.square(gains).sum()))

    @property
    def text(self) -> str:
        """`value` for people."""
        count = len(self.examples)
        if self.examples.kind == "classes":
            return f"{self.value:.1%} of {count} held out are right"
        if self.examples.kind == "tags":
            right = ((self.scores > 0.5) == self.examples.targets).mean()
            return f"{right:.1%} of the tags of {count} held out are right"
        return f"root mean square error {(-self.value) ** 0.5:.4g} on {count} held out"


def answers_of(
    net: Net,
    preprocessor: Preprocessor,
    answer: str,
    examples: Examples,
    bad: Callable[[TorrefyError], None],
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[int], NDArray[np.float32]]:
    """Run a net on examples.

    Args:
        net: in phase test.
        preprocessor: what is done to each picture.
        answer: the blob that holds the answer.
        examples: the pictures.
        bad: called with the error of a picture that can't be read, and may raise it.
        progress: told how many pictures are done.

    Returns:
        The numbers of those that could be read, and a row for each of these.

    Raises:
        DataError: none can be read.
    """
    rows: list[int] = []
    scores: list[NDArray[np.float32]] = []
    done = 0
    with torch.inference_mode():
        for read in read_ahead(examples, preprocessor, range(len(examples))):
            for error in read.bad.values():
                bad(error)
            if read.good:
                pictures = torch.from_numpy(read.pictures).to(net.device)
                found = net.run({preprocessor.blob: pictures}, [answer])[answer]
                scores.append(found.float().reshape(len(read.good), -1).cpu().numpy())
                rows += read.good
            done += len(read.rows)
            progress(done)
    if not rows:
        raise DataError("no picture can be read", place=Place(examples.origin))
    return rows, np.concatenate(scores)
