"""What a net's outputs are over many batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torrefy.data.augment.versions import Versions, read_versions
from torrefy.data.loader import Loader
from torrefy.data.output import HDF5Output
from torrefy.errors import TorrefyError
from torrefy.graph import state_of
from torrefy.net.net import Net, find_device
from torrefy.net.stored import read_weights
from torrefy.schema import upgrade
from torrefy.train.averaging import Averaging
from torrefy.train.distributed import Processes
from torrefy.train.execution import Execution, Forward, widened
from torrefy.train.feed import Batch, Feed, Joined, Peeked
from torrefy.train.nets import Declared
from torrefy.train.usable import Skipped, skipped
from torrefy.weights.copy import copy_weights
from torrefy.weights.load import read_net


def averages(
    net: Net,
    forward: Forward,
    feed: Peeked,
    count: int,
    *,
    with_loss: bool = False,
    processes: Processes | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Tensor] | None:
    """Each output averaged over so many batches, on the CPU.

    Args:
        net: in phase test.
        forward: runs its passes.
        feed: where batches come from.
        count: how many are taken. Of several processes each takes its share, and the average is
            over all; but as many each where a program has handed over its own batches.
        with_loss: whether "loss", the weighted sum of what counts in the loss, is added where no
            output is called so.
        processes: who runs the same net; None: this one alone.
        stopped: asked before each batch; once it says True there are no averages, but None.
    """
    sums: dict[str, Tensor] = {}
    mine = total = count
    if processes is not None and processes.together:
        if feed.divided(processes.world):
            mine = processes.share(feed.number(processes.world), count)
        else:
            total = count * processes.world
    for _ in range(mine):
        if stopped():
            return None
        with torch.no_grad():
            tops = forward(next(feed))
        if with_loss:
            counted = {name: tops.get(name, torch.zeros(())) for name in net.loss_weights}
            tops.setdefault("loss", net.loss(counted))
        for name, top in tops.items():
            wide = widened(top)  # a sum of many needs its digits
            sums[name] = sums[name] + wide if name in sums else wide
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
    precision: str = "fp32",
    channels_last: bool = False,
    tta: Versions | str | Sequence[str] | None = None,
) -> Scores:
    """Run a net in phase test over its own data and average its outputs, as `caffe test`.

    Its HDF5Output layers write their files, which are there when all batches are through.

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
        precision: as for `torrefy.Solver`, like channels_last.
        channels_last: whether pictures lie in memory with their channels last.

    Raises:
        TorrefyError: a file can't be read or does not fit, iterations is below 1, or there is
            no such device, precision or version.
    """
    if iterations < 1:
        raise TorrefyError(f"iterations must be 1 or more, found {iterations}")
    execution = Execution(find_device(device), precision, channels_last=channels_last)
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
        with (
            _writing(net, execution)
            if versions is None
            else _averaging(net, execution, several) as forward
        ):
            blobs = averages(net, forward, feed, iterations) or {}
    finally:
        feed.close()
    return Scores(blobs, dict(net.loss_weights), iterations, skipped([feed]), versions)


@contextlib.contextmanager
def _averaging(net: Net, execution: Execution, pictures: Sequence[str]) -> Iterator[Forward]:
    """What runs a net on versions of its pictures.

    Raises:
        TorrefyError: it has layers that would write what is not averaged.
    """
    if any(node.type == "HDF5Output" for node in net.graph.nodes):
        raise TorrefyError("HDF5Output layers write nothing that is averaged over versions")
    execution.prepare(net)
    averaging = Averaging(net, pictures)

    def averaged(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with execution.autocast():
            return averaging({name: execution.place(batch[name]) for name in net.graph.inputs})

    yield averaged


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


@contextlib.contextmanager
def _writing(net: Net, execution: Execution) -> Iterator[Forward]:
    """What runs a net's passes, and writes what its HDF5Output layers read."""
    forward = execution.prepare(net)
    nodes = [node for node in net.graph.nodes if node.type == "HDF5Output"]
    if not nodes:
        yield forward
        return
    for node in nodes:
        if not node.spec.hdf5_output_param.file_name:
            raise net.layers[node.key].error("file_name is missing", field="file_name")
    read = [bottom for node in nodes for bottom in node.bottoms]
    with contextlib.ExitStack() as stack:
        files = [
            stack.enter_context(HDF5Output(node.spec.hdf5_output_param.file_name)) for node in nodes
        ]

        def written(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
            fed = {name: execution.place(batch[name]) for name in net.graph.inputs}
            with execution.autocast():
                values = net.run(fed, list(dict.fromkeys([*net.outputs, *read])))
            for node, file in zip(nodes, files, strict=True):
                file.write(*(values[bottom].float() for bottom in node.bottoms))
            return {name: values[name] for name in net.outputs}

        yield written
