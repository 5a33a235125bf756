"""A net whose pictures come in versions: what it makes of them is averaged, then compared."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from torrefy.errors import TorrefyError
from torrefy.layers.cross_entropy import SoftmaxWithLoss
from torrefy.net.net import Net

SMALLEST = torch.finfo(torch.float32).tiny
"""The probability whose logarithm is taken for that of smaller ones, as in SoftmaxWithLoss."""


class Averaging:
    """Runs a net in phase test on batches whose pictures are N×V×C×H×W.

    The net is cut where what comes of the pictures meets other inputs, the labels: at the first
    bottom of a loss or an Accuracy. The blobs there, and outputs that need no label, are computed
    for each version and averaged; from these the rest is computed once. Scores that a
    SoftmaxWithLoss reads are averaged as the probabilities that it makes of them, and go on as
    these' logarithms; all else as it is.
    """

    def __init__(self, net: Net, pictures: Collection[str]) -> None:
        """Find where the net is cut.

        Args:
            net: in phase test.
            pictures: its inputs that come in versions.

        Raises:
            TorrefyError: a layer reads pictures and labels themselves, or nothing reads pictures.
        """
        self.net = net
        self.pictures = tuple(pictures)
        graph = net.graph
        seen = {graph.inputs[name] for name in self.pictures}
        first = set(seen)
        judged = {value for name, value in graph.inputs.items() if name not in self.pictures}
        self.cut: dict[str, int | None] = {}
        """The blobs that are averaged; with the axis of the classes where as probabilities."""
        for node in graph.nodes:
            if node.feeds:
                continue
            if judged.intersection(node.bottoms):
                judged.update(node.tops)
                met = [value for value in node.bottoms if value in seen]
                if first.intersection(met):
                    raise TorrefyError(
                        "it reads pictures and what is no picture, so nothing can be averaged "
                        "before it",
                        place=node.place,
                        layer=node.name,
                    )
                layer = net.layers[node.key]
                for value in met:
                    self.cut.setdefault(value, None)
                    if isinstance(layer, SoftmaxWithLoss) and value == node.bottoms[0]:
                        self.cut[value] = int(layer.along)
            elif seen.intersection(node.bottoms):
                seen.update(node.tops)
        outputs = list(net.outputs)
        self.cut.update({value: None for value in outputs if value in seen})
        self.rest = [value for value in outputs if value not in seen]
        if not self.cut:
            raise TorrefyError("no layer reads the pictures that there are versions of")

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The net's outputs for the mean of all versions."""
        sums: dict[str, Tensor] = {}
        count = next(batch[name].shape[1] for name in self.pictures)
        for number in range(count):
            versions = {name: batch[name][:, number] for name in self.pictures}
            for value, blob in self.net.run(versions, list(self.cut)).items():
                axis = self.cut[value]
                part = blob if axis is None else torch.softmax(blob, axis)
                sums[value] = sums[value] + part if value in sums else part
        means = {value: total / count for value, total in sums.items()}
        for value, axis in self.cut.items():
            if axis is not None:
                means[value] = means[value].clamp(min=SMALLEST).log()
        rest: dict[str, Tensor] = {}
        if self.rest:
            others = {name: batch[name] for name in self.net.inputs if name not in self.pictures}
            rest = self.net.run({**means, **others}, self.rest)
        return {name: rest[name] if name in rest else means[name] for name in self.net.outputs}
