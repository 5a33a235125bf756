"""Search by example: the pictures whose features are most alike, by their cosine."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.errors import DataError, Place
from torrefy.features.formats import read
from torrefy.features.table import Features
from torrefy.weights.files import replacing

ENDING = ".faiss"
LARGE = 100_000
"""Pictures from which an index is approximate: a graph of neighbours (HNSW, arXiv:1603.09320),
which finds nearly all of the nearest in a hundredth of the time."""
LINKS = 32
"""Of a picture in that graph."""


@dataclass(frozen=True)
class Neighbour:
    """A picture that is like another."""

    row: int
    name: str
    file: Path | None
    """Where it is, as far as is known."""
    likeness: float
    """The cosine of the angle between their features: 1 of the same, about 0 of unlike ones."""


class Index:
    """Finds pictures with the most similar features.

    Example:
        index = Index("photos.npz")
        extractor = reopened(index.features.origin, index.blob)
        index.nearest(extract(extractor, ["new.jpg"]).matrix(), 12)
    """

    def __init__(self, features: Features | str | Path, blob: str = "") -> None:
        """Take features, or their file, whose index beside it is used if it is of these.

        Raises:
            DataError: the features can't be read, or faiss is not installed.
        """
        self.file = None if isinstance(features, Features) else Path(features)
        self.features = features if isinstance(features, Features) else read(features)
        self.blob = self.features.blob(blob)
        kept = _kept(self.file, self.blob) if self.file else None
        self.index: Any = kept if kept is not None else _build(self.features.matrix(self.blob))

    def write(self) -> Path:
        """Write the index beside the features' file.

        Raises:
            DataError: they are of no file, or it can't be written.
        """
        if self.file is None:
            raise DataError("features in memory have no file for an index to stand beside")
        faiss = _faiss()
        target = self.file.with_name(f"{self.file.name}{ENDING}")
        data = faiss.serialize_index(self.index).tobytes()
        with replacing(target) as file:
            file.write(data)
        record = {
            "features": _digest(self.file),
            "index": hashlib.sha256(data).hexdigest(),
            "blob": self.blob,
        }
        with replacing(target.with_name(f"{target.name}.json")) as file:
            file.write(json.dumps(record).encode())
        return target

    def nearest(self, queries: NDArray[np.float32], count: int = 12) -> list[list[Neighbour]]:
        """The pictures most like each query, the most alike first.

        Args:
            queries: N×D features of the same kind.
            count: how many are named.

        Raises:
            DataError: the queries have another number of features.
        """
        if queries.ndim != 2 or queries.shape[1] != self.index.d:
            raise DataError(
                f"the index has {self.index.d} features of each picture, the query "
                f"{'x'.join(map(str, queries.shape[1:]))}"
            )
        found, rows = self.index.search(_unit(queries), min(count, len(self.features)))
        return [
            [
                self._neighbour(int(row), float(like))
                for like, row in zip(*pair, strict=True)
                if row >= 0
            ]
            for pair in zip(found, rows, strict=True)
        ]

    def _neighbour(self, row: int, likeness: float) -> Neighbour:
        name = self.features.paths[row]
        root = self.features.origin.get("root")
        places = [Path(name), *([Path(str(root)) / name] if root else [])]
        file = next((place for place in reversed(places) if place.is_file()), None)
        return Neighbour(row, name, file, min(1.0, likeness))


def _build(x: NDArray[np.float32]) -> Any:
    faiss = _faiss()
    metric = faiss.METRIC_INNER_PRODUCT
    index = (
        faiss.IndexFlatIP(x.shape[1])
        if len(x) < LARGE
        else faiss.IndexHNSWFlat(x.shape[1], LINKS, metric)
    )
    index.add(_unit(x))
    return index


def _unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.ascontiguousarray(x / np.maximum(length, 1e-12), np.float32)
    return unit


def _kept(file: Path, blob: str) -> Any:
    """The index beside a file of features, if it is of just these and as it was written."""
    target = file.with_name(f"{file.name}{ENDING}")
    try:
        record = json.loads(target.with_name(f"{target.name}.json").read_text(encoding="utf-8"))
        data = target.read_bytes()
        same = record == {
            "features": _digest(file), "index": hashlib.sha256(data).hexdigest(), "blob": blob,
        }  # fmt: skip
    except (OSError, ValueError):
        return None
    return _faiss().deserialize_index(np.frombuffer(data, np.uint8)) if same else None


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise DataError(
            "search by example needs faiss", place=Place("torrefy similar"),
            hint="pip install 'torrefy[similar]' brings it.",
        ) from None  # fmt: skip
    return faiss
