"""Converters: files of weights in a form of their own, made into caffemodels once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torrefy.errors import Place, WeightsError
from torrefy.zoo.cache import hash_of
from torrefy.zoo.pickled import read_pickled_arrays
from torrefy.zoo.rename import renames
from torrefy.zoo.state_dict import convert_state_dict

if TYPE_CHECKING:
    from torrefy.net.stored import StoredNet

MOST_BYTES = 1 << 30
"""A pickle is read into memory whole; a longer one is refused."""


@dataclass(frozen=True)
class Conversion:
    """A file that is to become a caffemodel, and what its card says of it."""

    path: Path
    source: Any
    """The `torrefy.Source` message."""
    definition: Path
    """The net that the weights are for."""
    place: Callable[..., Place]
    """Where a part of the source stands in the card: `place("rename", 3)`."""


def read_hwio_pickle(path: Path) -> StoredNet:
    """A pickle of `layer name -> [kernel, bias]`, kernels height × width × input × output.

    The names are Caffe's already; a kernel becomes output × input × height × width.

    Raises:
        WeightsError: the pickle holds anything else.
    """
    from torrefy.net.stored import StoredLayer, StoredNet

    if path.stat().st_size > MOST_BYTES:
        raise WeightsError(f"{path}: more than {MOST_BYTES >> 20} MiB: too long for a pickle")
    held = read_pickled_arrays(path.read_bytes(), str(path))
    if not isinstance(held, dict):
        raise WeightsError(f"{path}: expected a dict of layers, found a {type(held).__name__}")
    layers = []
    for name, blobs in held.items():
        match blobs:
            case [np.ndarray(ndim=4) as kernel, np.ndarray(ndim=1) as bias]:
                pass
            case _:
                raise WeightsError(
                    f"{path}: expected a kernel of 4 dimensions and a bias of 1", layer=str(name)
                )
        if kernel.shape[3] != bias.shape[0]:
            raise WeightsError(
                f"{path}: the kernel has {kernel.shape[3]} outputs, the bias {bias.shape[0]}",
                layer=str(name),
            )
        oihw = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        layers.append(StoredLayer(str(name), "Convolution", (oihw, bias)))
    return StoredNet(path.stem, tuple(layers), str(path))


CONVERTERS: dict[str, Callable[[Conversion], StoredNet]] = {
    "hwio_pickle": lambda given: read_hwio_pickle(given.path),
    "state_dict": lambda given: convert_state_dict(
        given.path, renames(given.source), given.definition, given.place
    ),
}
"""What a card's source can say as its `converter`."""


def converted(path: Path, source: Any) -> Path | None:
    """The caffemodel that was made of a source, if it is there and still as it was made."""
    target, record = _target(path, source)
    try:
        expected = record.read_text(encoding="utf-8").split()[:1]
    except OSError:
        return None
    return target if [hash_of(target, "sha256")] == expected else None


def convert(given: Conversion) -> Path:
    """Make the caffemodel of a source beside it, and keep its hash. The caller holds the folder.

    Raises:
        WeightsError: the source is not what its converter reads, or doesn't fit the net.
    """
    from torrefy.net.stored import write_weights

    target, record = _target(given.path, given.source)
    record.unlink(missing_ok=True)
    write_weights(target, CONVERTERS[given.source.converter](given))
    record.write_text(f"{hash_of(target, 'sha256')}  {target.name}\n", encoding="utf-8")
    return target


def _target(path: Path, source: Any) -> tuple[Path, Path]:
    """The caffemodel of a source, and the record of its hash, as `sha256sum` writes it.

    Other renames make another caffemodel.
    """
    rules = repr(renames(source)).encode()
    stem = f"{path.stem}-{hashlib.sha256(rules).hexdigest()[:8]}" if source.rename else path.stem
    target = path.with_name(f"{stem}.caffemodel")
    return target, target.with_name(f"{target.name}.sha256")
