"""What a frozen part makes of pictures, computed once and kept on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from torrefy.data.ahead import read_ahead
from torrefy.data.examples import Examples
from torrefy.data.preprocess import Preprocessor
from torrefy.errors import DataError, Place, TorrefyError
from torrefy.net.net import Net
from torrefy.weights.files import replacing

SAVED = 16
"""Batches after which is noted how far it has come."""


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
    bad: str = "fail",
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
        folder: where they are kept: a .npy each, and state.json.
        mirrored: whether each is computed of the mirrored picture, too.
        bad: "fail": a picture that can't be read is an error; "skip": it is left out.
        key: what all this depends on; what is kept under another key is computed anew.
        progress: told how many pictures are done.

    Raises:
        PictureError, RecordError: a picture can't be read.
        DataError: none can, or the folder can't be written.
    """
    versions = 2 if mirrored else 1
    count = len(examples)
    folder.mkdir(parents=True, exist_ok=True)
    state = _state(folder, f"{key} {versions} {count} {' '.join(values)}")
    shapes = {blob: net.shapes[value][1:] for value, blob in values.items()}
    files = {blob: folder / f"{i}.npy" for i, blob in enumerate(values.values())}
    arrays: dict[str, NDArray[np.float32]] = {}
    try:
        for blob, file in files.items():
            if state["done"] and file.exists():
                arrays[blob] = np.load(file, mmap_mode="r+", allow_pickle=False)
            else:
                shape = (versions * count, *shapes[blob])
                arrays[blob] = np.lib.format.open_memmap(file, "w+", np.float32, shape)
    except (OSError, ValueError) as error:
        raise DataError(f"features can't be kept: {error}", place=Place(str(folder))) from None
    start = state["done"]
    progress(start)
    batches = read_ahead(examples, preprocessor, range(start, count))
    with torch.inference_mode():
        for number, batch in enumerate(batches, 1):
            good = [(row, one) for row, one in batch if not isinstance(one, TorrefyError)]
            for _, one in batch:
                if isinstance(one, TorrefyError):
                    if bad == "fail":
                        raise one
                    place = one.problems[0].place
                    state["bad"][str(place)] = one.problems[0].message
            if good:
                first = len(state["rows"])
                pictures = torch.from_numpy(np.stack([one for _, one in good])).to(net.device)
                for version in range(versions):
                    seen = pictures.flip(-1) if version else pictures
                    found = net.run({preprocessor.blob: seen}, list(values))
                    at = version * count + first
                    for value, blob in values.items():
                        arrays[blob][at : at + len(good)] = found[value].float().cpu().numpy()
                state["rows"] += [row for row, _ in good]
            state["done"] += len(batch)
            progress(state["done"])
            if not number % SAVED:
                _save(folder, state, arrays)
    _save(folder, state, arrays)
    rows = np.asarray(state["rows"], np.int64)
    if not len(rows):
        raise DataError("no picture can be read", place=Place(examples.origin))
    kept = {blob: _together(array, count, len(rows), versions) for blob, array in arrays.items()}
    return Frozen(kept, rows, versions, state["bad"])


def _together(
    array: NDArray[np.float32], count: int, rows: int, versions: int
) -> NDArray[np.float32]:
    """The rows that were filled, of all versions, without a gap."""
    if rows == count:
        return array
    return np.concatenate([array[v * count : v * count + rows] for v in range(versions)])


def _state(folder: Path, key: str) -> dict[str, Any]:
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if state["key"] == key and isinstance(state["done"], int):
            return dict(state)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {"key": key, "done": 0, "rows": [], "bad": {}}


def _save(folder: Path, state: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Note how far it has come, after what was computed is on the disk."""
    for array in arrays.values():
        array.flush()
    with replacing(folder / "state.json") as file:
        file.write(json.dumps(state).encode())
