"""What a file of weights holds, whatever its format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from torrefy.errors import Place, PluginError, WeightsError, did_you_mean
from torrefy.plugins import named


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """One layer of a file of weights: its name, type and blobs in Caffe's order.

    Blobs are read-only and may be views of the file's bytes, at any alignment; float16 and
    float64 blobs stay so. Four axes may be the legacy num, channels, height, width.
    """

    name: str
    type: str
    blobs: tuple[NDArray[Any], ...]
    spec: Any = None
    """The layer's LayerParameter message, for formats that keep definitions; readers may
    leave it out."""
    names: tuple[str, ...] = ()
    """What each blob is called, where that is known: by the attribute that has it in a Net
    ("weight"), or by its place in Caffe's order ("1"; a file that leaves out shared blobs has
    some places only). Empty: the blobs are all that the layer has."""

    @property
    def places(self) -> tuple[int, ...]:
        """Each blob's place in Caffe's order: 0, 1, … but where blobs are left out."""
        if self.names and all(name.isdecimal() for name in self.names):
            return tuple(map(int, self.names))
        return tuple(range(len(self.blobs)))


@dataclass(frozen=True, slots=True)
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


def weight_formats() -> dict[str, WeightFormat]:
    """Every format that there is, by suffix.

    Raises:
        PluginError: two formats claim one name or one suffix.
    """
    by_suffix: dict[str, WeightFormat] = {}
    for weight_format in named("torrefy_weight_formats", "name", "format of weights").all():
        for suffix in weight_format.suffixes:
            other = by_suffix.setdefault(suffix, weight_format)
            if other is not weight_format:
                raise PluginError(
                    f'two formats of weights have the suffix "{suffix}": {other.name} and '
                    f"{weight_format.name}"
                )
    return by_suffix


def read_weights(path: Path | str) -> StoredNet:
    """Read a file of weights in the format that its suffix tells.

    Raises:
        WeightsError: no format has this suffix, or the file can't be read.
    """
    path = Path(path)
    return _format_of(path).read(path)


def write_weights(path: Path | str, stored: StoredNet) -> None:
    """Write a file of weights in the format that its suffix tells.

    Raises:
        WeightsError: no format has this suffix, or the file can't be written; what stood there
            before still does.
    """
    path = Path(path)
    _format_of(path).write(path, stored)


def _format_of(path: Path) -> WeightFormat:
    formats = weight_formats()
    name = path.name.lower()
    fitting = [suffix for suffix in formats if name.endswith(suffix)]
    if not fitting and path.is_dir():
        raise WeightsError("a directory", place=Place(str(path)))
    if not fitting:
        raise WeightsError(
            f'no format of weights has the suffix "{path.suffix}"; known are '
            f"{', '.join(sorted(formats))}",
            place=Place(str(path)),
            hint=did_you_mean(path.suffix, formats) if path.suffix else "",
        )
    return formats[max(fitting, key=len)]
