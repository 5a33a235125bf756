"""What a net's outputs are over many batches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torrefy.errors import TorrefyError
from torrefy.graph import state_of
from torrefy.net.net import Net
from torrefy.net.stored import read_weights
from torrefy.schema import upgrade
from torrefy.train.distributed import Processes
from torrefy.train.feed import Batch, Feed, Peeked
from torrefy.train.nets import Declared
from torrefy.train.usable import Skipped, skipped
from torrefy.weights.copy import copy_weights
from torrefy.weights.load import read_net


def batches(
    net: Net, feed: Iterator[Mapping[str, Tensor]] | Feed, count: int
) -> Iterator[dict[str, Tensor]]:
    """The outputs of a net for so many batches, on its device; without gradients."""
    device = net.device
    for _ in range(count):
        batch = next(feed)
        with torch.no_grad():
            yield net(**{n: batch[n].to(device, non_blocking=True) for n in net.inputs})


def averages(
    net: Net,
    feed: Peeked,
    count: int,
    *,
    with_loss: bool = False,
    processes: Processes | None = None,
) -> dict[str, Tensor]:
    """Each output averaged over so many batches, on the CPU.

    Args:
        net: in phase test.
        feed: where batches come from.
        count: how many are taken. Of several processes each takes its share, and the average is
            over all; but as many each where a program has handed over its own batches.
        with_loss: whether "loss", the weighted sum of what counts in the loss, is added where no
            output is called so.
        processes: who runs the same net; None: this one alone.
    """
    sums: dict[str, Tensor] = {}
    mine = total = count
    if processes is not None and processes.together:
        if feed.divided(processes.world):
            mine = processes.share(feed.number(processes.world), count)
        else:
            total = count * processes.world
    for tops in batches(net, feed, mine):
        if with_loss:
            counted = {name: tops.get(name, torch.zeros(())) for name in net.loss_weights}
            tops.setdefault("loss", net.loss(counted))
        for name, top in tops.items():
            sums[name] = sums[name] + top if name in sums else top
    sums = {name: top.cpu() for name, top in sums.items()}
    if processes is not None:
        of_each, sums = processes.all(sums), {}
        for name, top in (pair for one in of_each for pair in one.items()):
            sums[name] = sums[name] + top if name in sums else top
    return {name: top / total for name, top in sums.items()}


@dataclass(frozen=True)
class Scores:
    """What a net gave over a number of batches."""

    blobs: dict[str, Tensor]
    """Its outputs, averaged."""
    loss_weights: dict[str, float]
    """The outputs that count in the loss, and the factor of each."""
    iterations: int
    """How many batches there were."""
    skipped: Skipped
    """What was passed over."""


def score(
    definition: str | Path,
    weights: str | Path,
    iterations: int = 50,
    *,
    device: str | torch.device = "cpu",
    stages: Iterable[str] = (),
    level: int = 0,
    feeds: Feed | Iterable[Batch] | None = None,
    loading: Mapping[str, Any] | None = None,
    allow_python: Collection[str] = (),
) -> Scores:
    """Run a net in phase test over its own data and average its outputs, as `caffe test`.

    Args:
        definition: a prototxt, as `train_val.prototxt`.
        weights: a file of weights for all layers of the net.
        iterations: how many batches are taken.
        device: where the net is: "cpu", "cuda".
        stages: as for `torrefy.load_net`, like level and allow_python.
        level: the net's level.
        feeds: batches in place of what the data layers name, as for `torrefy.Solver`.
        loading: how data layers are read, as `torrefy.data.loader.Loader` takes it.
        allow_python: classes of Python layers that may run.

    Raises:
        TorrefyError: a file can't be read or does not fit, or iterations is below 1.
    """
    if iterations < 1:
        raise TorrefyError(f"iterations must be 1 or more, found {iterations}")
    text = upgrade(read_net(definition))
    declared = Declared(text, state_of(text.message, "test", level, stages))
    feed = declared.feed(feeds, 0, loading)
    try:
        net = declared.compile(feed.shapes(), device, 0, allow_python)
        copy_weights(net, read_weights(weights))
        feed.expect_labels(net)
        blobs = averages(net, feed, iterations)
    finally:
        feed.close()
    return Scores(blobs, dict(net.loss_weights), iterations, skipped([feed]))
