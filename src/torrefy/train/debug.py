"""What `debug_info` tells of an iteration: the mean size of every blob, diff and update."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from torrefy.net.net import Net
from torrefy.train.learned import Learned


class Watched:
    """One pass of a net, every value of which is kept.

    The lines are Caffe's, with the mean of absolute values; but a blob that several layers read
    has one diff here, where Caffe splits it.
    """

    def __init__(self, net: Net, batch: Mapping[str, Tensor]) -> None:
        """Run the net forward."""
        self.net = net
        names = list(dict.fromkeys(top for node in net.graph.nodes for top in node.tops))
        fed = {name: batch[name] for name in net.inputs}
        self.values = net.run(fed, names)
        for value in self.values.values():
            if value.requires_grad and not value.is_leaf:
                value.retain_grad()

    @property
    def tops(self) -> dict[str, Tensor]:
        """What calling the net returns."""
        return {name: self.values[name] for name in self.net.outputs}

    def forward_lines(self) -> Iterator[str]:
        """`    [Forward] Layer ip1, top blob ip1 data: 0.42`."""
        for node in self.net.graph.nodes:
            for name, value in zip(node.spec.top, node.tops, strict=True):
                size = mean(self.values[value])
                yield f"    [Forward] Layer {node.name}, top blob {name} data: {size:g}"
            for i, blob in enumerate(self.net.layers[node.key].blobs):
                yield f"    [Forward] Layer {node.name}, param blob {i} data: {mean(blob):g}"

    def backward_lines(self) -> Iterator[str]:
        """`    [Backward] Layer ip1, bottom blob data diff: 0.01`, from the last layer on."""
        for node in reversed(self.net.graph.nodes):
            for name, value in zip(node.spec.bottom, node.bottoms, strict=True):
                diff = self.values[value].grad if self.values[value].requires_grad else None
                if diff is not None:
                    size = mean(diff)
                    yield f"    [Backward] Layer {node.name}, bottom blob {name} diff: {size:g}"
            for i, blob in enumerate(self.net.layers[node.key].blobs):
                if blob.is_leaf and blob.grad is not None:
                    size = mean(blob.grad)
                    yield f"    [Backward] Layer {node.name}, param blob {i} diff: {size:g}"
        blobs = [p for p in self.net.parameters() if p.grad is not None]
        diffs = [p.grad for p in blobs if p.grad is not None]
        (one, two), (one_diff, two_diff) = norms(blobs), norms(diffs)
        yield (
            f"    [Backward] All net params (data, diff): L1 norm = ({one:g}, {one_diff:g}); "
            f"L2 norm = ({two:g}, {two_diff:g})"
        )


def update_lines(learned: Sequence[Learned], before: Sequence[Tensor]) -> Iterator[str]:
    """`    [Update] Layer ip1, param 0 data: 0.42; diff: 0.001`.

    Args:
        learned: the blobs after the update.
        before: what they were before it.
    """
    for one, old in zip(learned, before, strict=True):
        if one.learns:
            diff = mean(old - one.blob.detach())
            yield (
                f"    [Update] Layer {one.layer}, param {one.index} data: {mean(old):g}; "
                f"diff: {diff:g}"
            )


def mean(values: Tensor) -> float:
    """The mean of absolute values; 0 of none."""
    return values.detach().abs().mean().item() if values.numel() else 0.0


def norms(tensors: Sequence[Tensor]) -> tuple[float, float]:
    """The L1 and the L2 norm of all numbers together."""
    if not tensors:
        return 0.0, 0.0
    flat = torch.cat([t.detach().flatten() for t in tensors])
    return flat.norm(1).item(), flat.norm(2).item()
