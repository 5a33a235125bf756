"""What a net says of examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from torrefy.data.ahead import read_ahead
from torrefy.data.examples import Examples
from torrefy.data.preprocess import Preprocessor
from torrefy.errors import DataError, Place, TorrefyError
from torrefy.net.net import Net


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
