"""The blobs that a solver keeps a history of, in Caffe's order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from torrefy.net.net import Net


@dataclass
class Learned:
    """One of a net's learnable blobs: a shared one once, where it is first used."""

    blob: Tensor
    """An `nn.Parameter`, or a statistic: Caffe counts these too, with an lr_mult of 0."""
    layer: str
    index: int
    lr_mult: float = 1.0
    decay_mult: float = 1.0

    @property
    def learns(self) -> bool:
        """Whether it gets a gradient."""
        return isinstance(self.blob, nn.Parameter) and self.blob.requires_grad


def learned_blobs(net: Net) -> list[Learned]:
    """All learnable blobs of a net, layer by layer.

    The lr_mult and decay_mult of a shared blob are those of the first layer that gives them, as
    in Caffe's Net::AppendParam.
    """
    found: list[Learned] = []
    shared: dict[str, Learned] = {}
    given: set[tuple[str, str]] = set()
    for node in net.graph.nodes:
        specs: list[Any] = list(node.spec.param)
        for i, blob in enumerate(net.layers[node.key].blobs):
            spec = specs[i] if i < len(specs) else None
            name = spec.name if spec is not None else ""
            one = shared.get(name) if name else None
            if one is None:
                one = Learned(blob, node.name, i)
                found.append(one)
                if name:
                    shared[name] = one
            for multiplier in ("lr_mult", "decay_mult"):
                if spec is None or not spec.HasField(multiplier) or (name, multiplier) in given:
                    continue
                setattr(one, multiplier, getattr(spec, multiplier))
                if name:
                    given.add((name, multiplier))
    return found


def param_groups(blobs: Iterable[Learned]) -> list[dict[str, Any]]:
    """Param groups for a torch optimiser: one for each pair of multipliers."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for one in blobs:
        if one.learns:
            groups.setdefault((one.lr_mult, one.decay_mult), []).append(one.blob)
    return [
        {"params": params, "lr_mult": lr_mult, "decay_mult": decay_mult}
        for (lr_mult, decay_mult), params in groups.items()
    ]


def statistics(net: Net) -> list[Tensor]:
    """The blobs of a net that are kept with its weights, but not learned: BatchNorm's sums."""
    return [
        getattr(layer, filled.attribute)
        for layer in net.layers.values()
        for filled in layer.declared
        if filled.statistic
    ]
