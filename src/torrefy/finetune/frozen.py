"""What a frozen part makes of pictures, computed once and kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from torrefy.data.ahead import read_ahead
from torrefy.data.examples import Examples
from torrefy.data.preprocess import Preprocessor
from torrefy.errors import DataError, Place, TorrefyError
from torrefy.features.kept import Kept
from torrefy.net.net import Net


@dataclass(frozen=True)
class Frozen:
    """Values of a net for examples, in their order: first as they are, then mirrored."""

    arrays: dict[str, NDArray[np.float32]]
    """V·N rows each, by the blobs' names in the training net: all pictures, then all mirrored."""
    rows: NDArray[np.int64]
    """The numbers of the N examples that could be read."""
    versions: int
    """V: 1, or 2 where they are mirrored, too."""
    bad: dict[str, str]
    """Where pictures are named that could not be read, and what is wrong with each."""


def freeze(
    net: Net,
    values: Mapping[str, str],
    examples: Examples,
    preprocessor: Preprocessor,
    folder: Path,
    *,
    mirrored: bool,
    bad: Callable[[TorrefyError], None],
    key: str = "",
    progress: Callable[[int], None] = lambda done: None,
) -> Frozen:
    """Compute values for all examples and keep them in a folder; what is kept there is taken.

    A computation that was broken off goes on where it was.

    Args:
        net: in phase test.
        values: what is computed, as its graph calls it, and what these are called in the result.
        examples: the pictures.
        preprocessor: what is done to each.
        folder: where they are kept, as `Kept` does.
        mirrored: whether each is computed of the mirrored picture, too.
        bad: called with the error of a picture that can't be read, and may raise it.
        key: what all this depends on; what is kept under another key is computed anew.
        progress: told how many pictures are done.

    Raises:
        PictureError, RecordError: a picture can't be read.
        DataError: none can, or the folder can't be written.
    """
    versions = 2 if mirrored else 1
    shapes = {blob: net.shapes[value][1:] for value, blob in values.items()}
    kept = Kept(folder, key, shapes, len(examples), versions=versions)
    progress(kept.done)
    with torch.inference_mode():
        for read in read_ahead(examples, preprocessor, range(kept.done, len(examples))):
            for error in read.bad.values():
                bad(error)
                kept.bad[str(error.problems[0].place)] = error.problems[0].message
            made = []
            for version in range(versions if read.good else 0):
                pictures = torch.from_numpy(read.pictures).to(net.device)
                seen = pictures.flip(-1) if version else pictures
                found = net.run({preprocessor.blob: seen}, list(values))
                made.append({b: found[v].float().cpu().numpy() for v, b in values.items()})
            kept.advance(len(read.rows), read.good, made)
            progress(kept.done)
    kept.save()
    if not kept.items:
        raise DataError("no picture can be read", place=Place(examples.origin))
    arrays = {blob: kept.filled(blob) for blob in values.values()}
    return Frozen(arrays, np.asarray(kept.items, np.int64), versions, kept.bad)
