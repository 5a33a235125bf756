"""Weights into a net, layer by layer by name, with a report of what matched."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torrefy.errors import Place, Problem, TorrefyError, WeightsError, did_you_mean
from torrefy.layers.base import Layer, shape_text
from torrefy.net.net import Net
from torrefy.net.program import module_names
from torrefy.net.stored import StoredLayer, StoredNet
from torrefy.weights.compare import core_shape


@dataclass(frozen=True)
class CopyReport:
    """What became of the weights in a file."""

    copied: tuple[str, ...]
    """Layers of the net that got their blobs from the file."""
    fresh: tuple[str, ...]
    """Layers of the net that the file has nothing for."""
    ignored: tuple[str, ...]
    """Layers of the file, with blobs, that the net does not have."""

    def __str__(self) -> str:
        text = f"{len(self.copied)} layers got their weights"
        if self.fresh:
            text += f", {len(self.fresh)} did not ({_listed(self.fresh)})"
        if self.ignored:
            text += f", {len(self.ignored)} in the file are not in the net"
            text += f" ({_listed(self.ignored)})"
        return text


@dataclass(frozen=True)
class Match:
    """Which blobs of a net a file has the values of; nothing is copied yet."""

    report: CopyReport
    pairs: tuple[tuple[Tensor, NDArray[Any]], ...]

    def copy(self) -> None:
        """Copy the values into the blobs."""
        with torch.no_grad():
            for blob, values in self.pairs:
                _copy(blob, values)


def copy_weights(net: Net, stored: StoredNet, fresh: Collection[str] = ()) -> CopyReport:
    """Copy blobs into the layers of the same names, by Caffe's rules but for its silence.

    Layers of the file that the net doesn't have are passed over. Shapes must agree, but for
    leading axes of 1 (old files keep a bias as 1x1x1xN). A blob that the file lacks is fine
    where another layer that shares it has it. A layer of a .safetensors or .h5 file may also be
    called by its identifier in `state_dict()`. Nothing is copied when something is wrong.

    Args:
        net: the net that gets the weights.
        stored: what a file held.
        fresh: names or patterns ("fc8", "new_*") of layers that the file may have nothing for;
            "*" allows any, as Caffe does.

    Raises:
        WeightsError: with every layer whose count or shapes of blobs differ, or that is in the
            net, learns, is not in the file, and is not allowed to be `fresh`.
    """
    match = match_weights(net, stored, fresh)
    match.copy()
    return match.report


def match_weights(net: Net, stored: StoredNet, fresh: Collection[str] = ()) -> Match:
    """Find what `copy_weights` copies; it raises the same errors."""
    if isinstance(fresh, str):
        raise TorrefyError(f'fresh takes a list of names: ["{fresh}"]')
    place = Place(stored.source) if stored.source else None
    problems: list[Problem] = []
    pairs: list[tuple[Tensor, NDArray[Any]]] = []
    copied: dict[str, None] = {}
    given: set[tuple[str, int]] = set()
    ignored: list[str] = []
    names = {node.name: node.key for node in reversed(net.graph.nodes)}
    identifiers = {name: key for key, name in module_names(net.graph).items()}
    for source in stored.layers:
        if not source.blobs:
            continue
        key = names.get(source.name) or (identifiers.get(source.name) if source.names else None)
        if key is None:
            ignored.append(source.name)
            continue
        layer = net.layers[key]
        places = _places(layer, source)
        reason = _mismatch(layer, source, places)
        if reason:
            problems.append(Problem(*reason[:1], place, source.name, reason[1]))
            continue
        copied[key] = None
        given.update((key, i) for i in places)
        pairs.extend((layer.blobs[i], v) for i, v in zip(places, source.blobs, strict=True))
    told = {problem.layer for problem in problems}
    wanting: list[str] = []
    for key, lacking in _lacking(net, given).items():
        if not lacking:
            copied[key] = None
        elif key not in copied:
            wanting.append(key)
        else:
            missing = ", ".join(
                f"{i} ({shape_text(net.layers[key].blobs[i].shape)})" for i in lacking
            )
            hint = "Only what another layer shares may be left out."
            problems.append(
                Problem(f"the file lacks blob {missing}", place, net.layers[key].name, hint)
            )
    absent = [
        key
        for key in wanting
        if net.layers[key].name not in told and not any(fnmatchcase(key, f) for f in fresh)
    ]
    if absent:
        problems.append(_absent(absent, copied, stored, place))
    if problems:
        raise WeightsError(problems)
    return Match(CopyReport(tuple(copied), tuple(wanting), tuple(ignored)), tuple(pairs))


def _copy(blob: Tensor, values: NDArray[Any]) -> None:
    shaped = values.reshape(tuple(blob.shape))
    if blob.device.type == "cpu" and blob.is_contiguous():
        np.copyto(blob.detach().numpy(), shaped, casting="same_kind")
    else:
        blob.copy_(torch.from_numpy(shaped.astype(np.float32)))


def _places(layer: Layer, source: StoredLayer) -> list[int]:
    """Which of a layer's blobs the file's are; -1 for a name that the layer doesn't have."""
    if source.names and not source.names[0].isdecimal():
        attributes = [filled.attribute for filled in layer.declared]
        return [attributes.index(n) if n in attributes else -1 for n in source.names]
    return list(source.places)


def _lacking(net: Net, given: Collection[tuple[str, int]]) -> dict[str, list[int]]:
    """The blobs of each layer that neither it nor a layer that shares them was given.

    As in Caffe's CopyTrainedLayersFromHDF5: a param that the file leaves out is fine if another
    layer owns it.
    """
    shared = {node.key: node.param_names for node in net.graph.nodes}
    named = {shared[key][i] for key, i in given if i < len(shared[key])} - {""}
    return {
        key: [
            i
            for i in range(len(layer.declared))
            if (key, i) not in given and not {*shared[key][i : i + 1]} & named
        ]
        for key, layer in net.layers.items()
        if layer.declared
    }


def _mismatch(layer: Layer, source: StoredLayer, places: list[int]) -> tuple[str, str] | None:
    """What does not fit, and a hint; or None."""
    blobs = layer.blobs
    if -1 in places:
        mine = ", ".join(filled.attribute for filled in layer.declared) or "none"
        return (
            f"the file has blobs called {', '.join(source.names)}, the layer {mine}",
            "Is the layer's type another one?",
        )
    if max(places) >= len(blobs) or (not source.names and len(places) != len(blobs)):
        theirs = ", ".join(shape_text(b.shape) for b in source.blobs)
        mine = ", ".join(shape_text(b.shape) for b in blobs) or "none"
        return (
            f"the file has {len(source.blobs)} blobs ({theirs}), the layer takes "
            f"{len(blobs)} ({mine})",
            "Is bias_term, or the layer's type, another one?",
        )
    for i, values in zip(places, source.blobs, strict=True):
        if core_shape(blobs[i].shape) != core_shape(values.shape):
            return (
                f"blob {i} is {shape_text(values.shape)} in the file, "
                f"{shape_text(blobs[i].shape)} in the net",
                "To learn the layer anew, give it another name.",
            )
    return None


def _absent(
    absent: list[str], copied: Collection[str], stored: StoredNet, place: Place | None
) -> Problem:
    names = [source.name for source in stored.layers if source.blobs]
    unused = [name for name in names if name not in copied]
    hint = did_you_mean(absent[0], unused)
    if not copied:
        hint = f"The file has {_listed(names)}." if names else "The file has no weights at all."
        hint += " Do definition and weights belong together?"
    elif not hint:
        hint = "Name them as fresh if they are to be learned."
    return Problem(
        f"the file has nothing for {len(absent)} of the net's layers: {_listed(absent)}",
        place,
        hint=hint,
    )


def _listed(names: Collection[str]) -> str:
    """Some names, and how many more."""
    few = list(names)[:6]
    more = len(names) - len(few)
    return ", ".join(few) + (f" and {more} more" if more else "")
