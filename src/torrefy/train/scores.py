"""What a net's outputs are over many batches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torrefy.data.augment.versions import Versions, read_versions
from torrefy.data.loader import Loader
from torrefy.errors import TorrefyError
from torrefy.graph import state_of
from torrefy.net.net import Net
from torrefy.net.stored import read_weights
from torrefy.schema import upgrade
from torrefy.train.averaging import Averaging
from torrefy.train.feed import Batch, Feed, Joined, Peeked
from torrefy.train.nets import Declared
from torrefy.weights.copy import copy_weights
from torrefy.weights.load import read_net

Compute = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""Makes a net's outputs of a batch."""


def batches(
    net: Net,
    feed: Iterator[Mapping[str, Tensor]] | Feed,
    count: int,
    compute: Compute | None = None,
) -> Iterator[dict[str, Tensor]]:
    """The outputs of a net for so many batches, on its device; without gradients.

    Args:
        net: in phase test.
        feed: where batches come from.
        count: how many are taken.
        compute: what the outputs are computed by; None: the net itself.
    """
    device = net.device
    for _ in range(count):
        batch = next(feed)
        given = {n: batch[n].to(device, non_blocking=True) for n in net.inputs}
        with torch.no_grad():
            yield net(**given) if compute is None else compute(given)


def averages(
    net: Net,
    feed: Feed,
    count: int,
    *,
    with_loss: bool = False,
    compute: Compute | None = None,
) -> dict[str, Tensor]:
    """Each output averaged over so many batches, on the CPU.

    Args:
        net: in phase test.
        feed: where batches come from.
        count: how many are taken.
        with_loss: whether "loss", the weighted sum of what counts in the loss, is added where no
            output is called so.
        compute: as for `batches`.
    """
    sums: dict[str, Tensor] = {}
    for tops in batches(net, feed, count, compute):
        if with_loss:
            counted = {name: tops.get(name, torch.zeros(())) for name in net.loss_weights}
            tops.setdefault("loss", net.loss(counted))
        for name, top in tops.items():
            sums[name] = sums[name] + top if name in sums else top
    return {name: (total / count).cpu() for name, total in sums.items()}


@dataclass(frozen=True)
class Scores:
    """What a net gave over a number of batches."""

    blobs: dict[str, Tensor]
    """Its outputs, averaged."""
    loss_weights: dict[str, float]
    """The outputs that count in the loss, and the factor of each."""
    iterations: int
    """How many batches there were."""
    versions: Versions | None = None
    """What was made of each picture and averaged; None: it alone."""


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
    tta: Versions | str | Sequence[str] | None = None,
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
        tta: test-time augmentation: versions of each picture that Data and ImageData layers read,
            as for `torrefy.Classifier`. What the net makes of them is averaged, as `Averaging`
            says, and that compared with the labels.

    Raises:
        TorrefyError: a file can't be read or does not fit, or iterations is below 1; or there are
            no such versions.
    """
    if iterations < 1:
        raise TorrefyError(f"iterations must be 1 or more, found {iterations}")
    text = upgrade(read_net(definition))
    declared = Declared(text, state_of(text.message, "test", level, stages))
    versions = None
    if tta is not None:
        versions = read_versions(tta)
        loading = {**(loading or {}), "versions": versions}
    feed = declared.feed(feeds, 0, loading)
    try:
        several = _in_versions(feed) if versions else []
        shapes = {
            name: (shape[0], *shape[2:]) if name in several else shape
            for name, shape in feed.shapes().items()
        }
        net = declared.compile(shapes, device, 0, allow_python)
        copy_weights(net, read_weights(weights))
        feed.expect_labels(net)
        compute = Averaging(net, several) if versions else None
        blobs = averages(net, feed, iterations, compute=compute)
    finally:
        feed.close()
    return Scores(blobs, dict(net.loss_weights), iterations, versions)


def _in_versions(feed: Peeked) -> list[str]:
    """The blobs that come in versions.

    Raises:
        TorrefyError: none does.
    """
    joined = feed.feed
    found = []
    if isinstance(joined, Joined):
        for layer, one in joined.feeds.items():
            if isinstance(one, Loader) and one.versions is not None:
                found.append(joined.tops[layer][0])
    if not found:
        raise TorrefyError(
            "there are no pictures to make versions of",
            hint="They are made of what Data and ImageData layers read.",
        )
    return found
