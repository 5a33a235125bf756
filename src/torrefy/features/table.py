"""Features of pictures as arrays, with the names and classes of these, in a file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.errors import DataError, Place, TorrefyError, did_you_mean, nearest_file
from torrefy.weights.files import replacing

KEPT = ("path", "label", "classes", "group", "part", "origin")
"""What an .npz has beside the blobs; a blob of such a name is called "blob:path"."""
MOST_TEXT = 1 << 20
"""The longest text of where features come from that is read."""

MOST_UNPACKED = 100
"""How many times its size an .npz may unpack to."""


@dataclass(frozen=True)
class Features:
    """What a net made of pictures: a row for each, in the same order everywhere."""

    arrays: dict[str, NDArray[Any]]
    """Of each blob a row for each picture, or a map; float32 or float16."""
    paths: tuple[str, ...]
    """What each picture is called."""
    labels: NDArray[np.int64] | None = None
    """Its class; None: not known."""
    classes: tuple[str, ...] = ()
    """The classes' names."""
    groups: tuple[str, ...] = ()
    """What stays together when they are divided; empty: each stands alone."""
    parts: tuple[str, ...] = ()
    """ "train", "val" or "test" of each, where the data say so; else empty."""
    origin: dict[str, Any] = field(default_factory=dict)
    """Where they come from, as JSON can hold it: model, weights, blobs, pool, preprocessing, …"""

    def __len__(self) -> int:
        return len(self.paths)

    def blob(self, name: str = "") -> str:
        """The name of a blob; empty: of the only one.

        Raises:
            DataError: there is none of that name, or there are several and no name.
        """
        known = ", ".join(self.arrays)
        if not name and len(self.arrays) != 1:
            raise DataError(
                f"there are features of {len(self.arrays)} blobs: {known}", hint="Say which."
            )
        if name and name not in self.arrays:
            hint = did_you_mean(name, self.arrays) or f"There are {known}."
            raise DataError(f'there are no features of a blob "{name}"', hint=hint)
        return name or next(iter(self.arrays))

    def matrix(self, name: str = "") -> NDArray[np.float32]:
        """A blob's features as N×D float32; of a map all numbers.

        Raises:
            DataError: as `blob`.
        """
        array = self.arrays[self.blob(name)]
        return np.ascontiguousarray(array.reshape(len(array), -1), np.float32)

    def take(self, rows: Sequence[int] | NDArray[Any]) -> Features:
        """Some of the pictures, in that order."""
        index = np.asarray(rows)
        return replace(
            self,
            arrays={name: array[index] for name, array in self.arrays.items()},
            paths=tuple(self.paths[i] for i in index.tolist()),
            labels=None if self.labels is None else self.labels[index],
            groups=tuple(self.groups[i] for i in index.tolist()) if self.groups else (),
            parts=tuple(self.parts[i] for i in index.tolist()) if self.parts else (),
        )


def write_features(path: Path | str, features: Features) -> None:
    """Write an .npz: an array for each blob, `path`, and label, classes, group, part where known.

    Raises:
        TorrefyError: it can't be written.
    """
    path = Path(path)
    kept: dict[str, NDArray[Any]] = {
        (f"blob:{name}" if name in KEPT else name.replace("/", ":")): array
        for name, array in features.arrays.items()
    }
    kept["path"] = _texts(features.paths)
    if features.labels is not None:
        kept["label"] = np.asarray(features.labels, np.int64)
        kept["classes"] = _texts(features.classes)
    if features.groups:
        kept["group"] = _texts(features.groups)
    if features.parts:
        kept["part"] = _texts(features.parts)
    origin = {**features.origin, "arrays": list(features.arrays)}
    kept["origin"] = np.asarray(json.dumps(origin, ensure_ascii=False))
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **kept)


def _texts(names: Sequence[str]) -> NDArray[Any]:
    return np.asarray([name.encode("utf-8", "replace").decode() for name in names], np.str_)


def read_features(path: Path | str) -> Features:
    """Features that `write_features` wrote, or any .npz of arrays of as many rows.

    Raises:
        DataError: no such file, or it is damaged or holds something else.
    """
    path = Path(path)
    place = Place(str(path))
    try:
        with zipfile.ZipFile(path) as archive:
            _bound(archive, path.stat().st_size)
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise DataError("no such file", place=place, hint=nearest_file(path)) from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError, MemoryError) as error:
        raise DataError(f"this is no .npz of features: {error}", place=place) from None
    try:
        return features_of(held)
    except TorrefyError as error:
        raise error.within(place=place) from None


def _bound(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse an archive that would unpack to much more than it is: features hardly shrink.

    Raises:
        ValueError: it would.
    """
    unpacked = sum(one.file_size for one in archive.infolist())
    if unpacked > max(MOST_UNPACKED * size, 1 << 26):
        raise ValueError(f"its {size} bytes unpack to {unpacked}")


def features_of(held: Mapping[str, NDArray[Any]]) -> Features:
    """Features of arrays by the names that an .npz has for them.

    Raises:
        DataError: they are something else.
    """
    arrays = {name: array for name, array in held.items() if name not in KEPT}
    origin = _origin(held.get("origin"))
    told = origin.pop("arrays", None)
    if isinstance(told, list) and len(told) == len(arrays):
        arrays = dict(zip(map(str, told), arrays.values(), strict=True))
    rows = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(rows) != 1 or not max(rows):
        found = ", ".join(f"{name}: {array.shape}" for name, array in arrays.items()) or "none"
        raise DataError(f"expected arrays of as many rows, and some; found {found}")
    (count,) = rows
    for name, array in arrays.items():
        if array.dtype not in (np.float32, np.float16, np.float64) or array.ndim < 2:
            raise DataError(
                f'"{name}" is {array.dtype} of {array.ndim} axes, expected floats of 2 or more'
            )
    paths = tuple(map(str, held["path"].tolist())) if "path" in held else ()
    labels = held.get("label")
    classes = tuple(map(str, held["classes"].tolist())) if "classes" in held else ()
    groups = tuple(map(str, held["group"].tolist())) if "group" in held else ()
    parts = tuple(map(str, held["part"].tolist())) if "part" in held else ()
    for what, number in (("path", len(paths)), ("group", len(groups)), ("part", len(parts))):
        if number not in (0, count):
            raise DataError(f"{count} rows of features, but {number} of {what}")
    if labels is not None:
        if labels.shape != (count,) or labels.dtype.kind not in "iu":
            raise DataError(f"{count} rows of features, but labels are {labels.shape}")
        if not classes:
            classes = tuple(str(i) for i in range(int(labels.max()) + 1))
        if labels.min() < 0 or labels.max() >= len(classes):
            raise DataError(
                f"labels go from {labels.min()} to {labels.max()}, but there are {len(classes)} "
                "classes"
            )
        labels = labels.astype(np.int64)
    paths = paths or tuple(str(i) for i in range(count))
    return Features(arrays, paths, labels, classes, groups, parts, origin)


def _origin(held: NDArray[Any] | None) -> dict[str, Any]:
    if held is None:
        return {}
    text = str(held)[:MOST_TEXT]
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise DataError("what it says of where the features come from is no JSON") from None
    return dict(found) if isinstance(found, dict) else {}
