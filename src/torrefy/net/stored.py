"""What a file of weights holds, whatever its format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class StoredLayer:
    """One layer of a file of weights: its name, type and blobs in Caffe's order.

    Blobs are read-only and may be views into the file; float64 blobs stay float64.
    A shape of four numbers may be the legacy num, channels, height, width.
    """

    name: str
    type: str
    blobs: tuple[NDArray[Any], ...]
    spec: Any = None
    """The layer's LayerParameter message without its blobs, where the format keeps one."""


@dataclass(frozen=True)
class StoredNet:
    """A file of weights: the net's name and its layers in the file's order."""

    name: str
    layers: tuple[StoredLayer, ...]
    source: str = ""
    """The file it was read from, for messages."""
    notes: tuple[str, ...] = field(default=())
    """What was odd about the file but could be read ("12 unknown fields skipped")."""


@dataclass(frozen=True)
class WeightFormat:
    """A way to keep weights in a file; plugins add more by the hook `torrefy_weight_formats`."""

    name: str
    suffixes: tuple[str, ...]
    """Lower-case file name endings, the longest that fits wins: (".caffemodel",)."""
    read: Callable[[Path], StoredNet]
    write: Callable[[Path, StoredNet], None]
