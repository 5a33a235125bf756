"""Weights into a net, layer by layer by name, with a report of what matched."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor

from torrefy.errors import Place, Problem, WeightsError, did_you_mean
from torrefy.layers.base import shape_text
from torrefy.net.net import Net
from torrefy.net.stored import StoredLayer, StoredNet


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


def copy_weights(net: Net, stored: StoredNet, fresh: Collection[str] = ()) -> CopyReport:
    """Copy blobs into the layers of the same names, by Caffe's rules but for its silence.

    Layers of the file that the net doesn't have are passed over. Shapes must agree, but for
    leading axes of 1 (old files keep a bias as 1x1x1xN). Nothing is copied when something is
    wrong.

    Args:
        net: the net that gets the weights.
        stored: what a file held.
        fresh: names or patterns ("fc8", "new_*") of layers that the file may have nothing for;
            "*" allows any, as Caffe does.

    Raises:
        WeightsError: with every layer whose count or shapes of blobs differ, or that is in the
            net, learns, is not in the file, and is not allowed to be `fresh`.
    """
    targets = {node.name: node.key for node in reversed(net.graph.nodes)}
    place = Place(stored.source) if stored.source else None
    problems: list[Problem] = []
    copies: list[tuple[Tensor, np.ndarray]] = []
    copied: dict[str, None] = {}
    for source in stored.layers:
        key = targets.get(source.name)
        if key is None or not source.blobs:
            continue
        layer = net.layers[key]
        reason = _mismatch(layer.blobs, source)
        if reason:
            problems.append(Problem(*reason[:1], place, source.name, reason[1]))
            continue
        copied[key] = None
        copies.extend(zip(layer.blobs, source.blobs, strict=True))
    wanting = [key for key, layer in net.layers.items() if layer.declared and key not in copied]
    told = {problem.layer for problem in problems}
    absent = [
        key
        for key in wanting
        if net.layers[key].name not in told and not any(fnmatchcase(key, f) for f in fresh)
    ]
    if absent:
        problems.append(_absent(absent, copied, stored, place))
    if problems:
        raise WeightsError(problems)
    with torch.no_grad():
        for blob, values in copies:
            _copy(blob, values)
    ignored = tuple(s.name for s in stored.layers if s.blobs and s.name not in targets)
    return CopyReport(tuple(copied), tuple(wanting), ignored)


def _copy(blob: Tensor, values: np.ndarray) -> None:
    shaped = values.reshape(tuple(blob.shape))
    if blob.device.type == "cpu" and blob.is_contiguous():
        np.copyto(blob.detach().numpy(), shaped, casting="same_kind")
    else:
        blob.copy_(torch.from_numpy(shaped.astype(np.float32)))


def _mismatch(blobs: list[Tensor], source: StoredLayer) -> tuple[str, str] | None:
    """What does not fit, and a hint; or None."""
    if len(blobs) != len(source.blobs):
        theirs = ", ".join(shape_text(b.shape) for b in source.blobs)
        mine = ", ".join(shape_text(b.shape) for b in blobs) or "none"
        return (
            f"the file has {len(source.blobs)} blobs ({theirs}), the layer takes "
            f"{len(blobs)} ({mine})",
            "Is bias_term, or the layer's type, another one?",
        )
    for i, (blob, values) in enumerate(zip(blobs, source.blobs, strict=True)):
        if _core(blob.shape) != _core(values.shape):
            return (
                f"blob {i} is {shape_text(values.shape)} in the file, "
                f"{shape_text(blob.shape)} in the net",
                "To learn the layer anew, give it another name.",
            )
    return None


def _core(shape: Iterable[int]) -> tuple[int, ...]:
    """A shape without its leading axes of 1."""
    dims = list(shape)
    while dims and dims[0] == 1:
        dims.pop(0)
    return tuple(dims)


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
