"""What a file of weights holds in numbers, and how two of them differ."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.net.stored import StoredLayer, StoredNet

_PIECE = 1 << 20
"""Numbers that are looked at in one go: float64 copies of them take some megabytes."""


@dataclass(frozen=True)
class BlobSummary:
    """One blob in numbers; its fields are the keys of the JSON."""

    layer: str
    type: str
    blob: int
    """Its place in Caffe's order."""
    shape: tuple[int, ...]
    dtype: str
    count: int
    mean_abs: float | None
    """The mean of |x| over the finite numbers, as min and max are; None if there are none."""
    min: float | None
    max: float | None
    nan: int
    inf: int


def summarize(stored: StoredNet) -> list[BlobSummary]:
    """Every blob of a file in numbers, in the file's order."""
    return [
        _summary(layer, place, blob)
        for layer in stored.layers
        for place, blob in zip(layer.places, layer.blobs, strict=True)
    ]


@dataclass(frozen=True)
class BlobDifference:
    """How far one blob is from the same one of another file."""

    layer: str
    blob: int
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    absolute: float | None
    """The largest |a - b|; None where the shapes differ."""
    relative: float | None
    """The largest |a - b| / max(|a|, |b|)."""
    unlike: int
    """Numbers that are NaN or infinite in one file, and not the same in the other."""

    def exceeds(self, tolerance: float) -> bool:
        """Whether the blobs differ by more than an absolute difference."""
        return self.absolute is None or self.unlike > 0 or self.absolute > tolerance


@dataclass(frozen=True)
class Comparison:
    """How two files of weights differ, the first one's order first."""

    only: tuple[tuple[str, ...], tuple[str, ...]]
    """Layers with blobs that only one of them has."""
    lacking: tuple[tuple[str, int, int], ...]
    """Layer and place of a blob that only one has although both have the layer; which: 0 or 1."""
    blobs: tuple[BlobDifference, ...]
    """Every blob that both have."""

    def differing(self, tolerance: float = 0.0) -> list[BlobDifference]:
        """The blobs whose shapes differ, or whose numbers do by more than the tolerance."""
        return [blob for blob in self.blobs if blob.exceeds(tolerance)]

    def same(self, tolerance: float = 0.0) -> bool:
        """Whether there is no difference at all beyond the tolerance."""
        return not (any(self.only) or self.lacking or self.differing(tolerance))


def compare(one: StoredNet, other: StoredNet) -> Comparison:
    """Compare two files, layer by layer by name and blob by blob by place.

    Layers without blobs, types and orders don't count, and shapes are the same if they differ by
    leading axes of 1, as they do for Caffe.
    """
    sides = _blobs(one), _blobs(other)
    only = tuple(
        tuple(name for name in mine if name not in theirs) for mine, theirs in (sides, sides[::-1])
    )
    lacking = []
    blobs = []
    for name, mine in sides[0].items():
        theirs = sides[1].get(name)
        if theirs is None:
            continue
        for place in sorted(mine.keys() | theirs.keys()):
            if place in mine and place in theirs:
                blobs.append(_difference(name, place, mine[place], theirs[place]))
            else:
                lacking.append((name, place, 0 if place in mine else 1))
    return Comparison((only[0], only[1]), tuple(lacking), tuple(blobs))


def core_shape(shape: Iterable[int]) -> tuple[int, ...]:
    """A shape without its leading axes of 1."""
    dims = list(shape)
    while dims and dims[0] == 1:
        dims.pop(0)
    return tuple(dims)


def _summary(layer: StoredLayer, place: int, blob: NDArray[Any]) -> BlobSummary:
    total, finite, nan = 0.0, 0, 0
    low, high = math.inf, -math.inf
    for piece in _pieces(blob):
        nan += int(np.isnan(piece).sum())
        known = piece[np.isfinite(piece)]
        if known.size:
            finite += known.size
            total += float(np.abs(known).sum())
            low, high = min(low, float(known.min())), max(high, float(known.max()))
    return BlobSummary(
        layer=layer.name,
        type=layer.type,
        blob=place,
        shape=blob.shape,
        dtype=blob.dtype.name,
        count=blob.size,
        mean_abs=total / finite if finite else None,
        min=low if finite else None,
        max=high if finite else None,
        nan=nan,
        inf=blob.size - finite - nan,
    )


def _difference(layer: str, place: int, one: NDArray[Any], other: NDArray[Any]) -> BlobDifference:
    shapes = one.shape, other.shape
    if core_shape(one.shape) != core_shape(other.shape):
        return BlobDifference(layer, place, shapes, None, None, 0)
    absolute, relative, unlike = 0.0, 0.0, 0
    for a, b in zip(_pieces(one), _pieces(other), strict=True):
        finite = np.isfinite(a) & np.isfinite(b)
        unlike += int((~finite & (a != b) & ~(np.isnan(a) & np.isnan(b))).sum())
        a, b = a[finite], b[finite]  # noqa: PLW2901
        if not a.size:
            continue
        with np.errstate(over="ignore"):
            apart = np.abs(a - b)
        larger = np.maximum(np.abs(a), np.abs(b))
        absolute = max(absolute, float(apart.max()))
        ratio = np.divide(apart, larger, out=np.zeros_like(apart), where=larger > 0)
        relative = max(relative, float(ratio.max()))
    return BlobDifference(layer, place, shapes, absolute, relative, unlike)


def _pieces(blob: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    flat = blob.reshape(-1)
    for start in range(0, flat.size, _PIECE):
        yield flat[start : start + _PIECE].astype(np.float64)


def _blobs(stored: StoredNet) -> dict[str, dict[int, NDArray[Any]]]:
    """The blobs of each layer that has any, by place; a repeated name goes on as "conv1#2"."""
    count: Counter[str] = Counter()
    found = {}
    for layer in stored.layers:
        count[layer.name] += 1
        key = layer.name if count[layer.name] == 1 else f"{layer.name}#{count[layer.name]}"
        if layer.blobs:
            found[key] = dict(zip(layer.places, layer.blobs, strict=True))
    return found
