"""How long each layer of a net takes, forward and backward, as `caffe time` tells it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torrefy.data.labels import label_limits
from torrefy.errors import TorrefyError
from torrefy.graph import Node
from torrefy.layers.base import Shape
from torrefy.net.net import Net

WARM_UP = 3
"""Passes before time is taken."""


@dataclass(frozen=True)
class LayerTime:
    """One layer's share of a pass."""

    name: str
    type: str
    shapes: tuple[Shape, ...]
    """Of its tops."""
    forward: float
    """Milliseconds, the median of the iterations."""
    backward: float | None
    """Milliseconds; None: no gradient goes through it."""
    multiply_adds: int
    """Of one forward pass; the usual count of FLOPs is twice as much."""
    parameters: int
    """Numbers in its blobs, shared ones and statistics too."""
    bytes: int
    """Of its tops: what training keeps of it at the least. 0 where it works in place."""


@dataclass(frozen=True)
class Timing:
    """How long a net takes."""

    layers: tuple[LayerTime, ...]
    """Each layer run by itself."""
    forward: float
    """Milliseconds of a pass of the whole net, in which layers are merged or work in place."""
    backward: float | None
    """Milliseconds of the way back; None: it was not asked for, or nothing has a gradient."""
    iterations: int
    inputs: dict[str, Shape]
    device: str
    peak_bytes: int | None
    """The most memory that a GPU held meanwhile; None on the CPU, where torch doesn't tell."""


def time_net(
    net: Net,
    inputs: Mapping[str, Tensor] | None = None,
    iterations: int = 50,
    *,
    backward: bool = True,
) -> Timing:
    """Measure a net.

    Every layer is run by itself on what it reads in a pass, with gradients kept, and then back
    from ones; then the whole net is, as it runs in use. The sum of the layers differs from the
    whole: there BatchNorm and Scale are one operation, ReLU works in place, and a pass forward
    keeps nothing where no backward pass is asked for.

    Args:
        net: in either phase, on any device.
        inputs: by blob; None: random numbers, and labels that the net has classes for.
        iterations: how many passes the medians are of.
        backward: whether the way back is measured.

    Raises:
        TorrefyError: iterations is below 1, or the net refuses the inputs.

    Example:
        for layer in time_net(torrefy.load_net("deploy.prototxt")).layers:
            print(layer.name, layer.forward, layer.backward)
    """
    if iterations < 1:
        raise TorrefyError(f"iterations must be 1 or more, found {iterations}")
    fed = made_up(net) if inputs is None else {k: v.to(net.device) for k, v in inputs.items()}
    clock = _Clock(net.device)
    values = {value: fed[name] for name, value in net.graph.inputs.items()}
    with torch.no_grad():
        names = [top for node in net.graph.nodes for top in node.tops if top not in values]
        values.update(net.run(fed, list(dict.fromkeys(names))))
    flows = _flows(net) if backward else set()
    if net.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(net.device)
    layers = tuple(
        _time_layer(net, node, values, clock=clock, iterations=iterations, flows=flows)
        for node in net.graph.nodes
    )
    forward, back = _time_whole(net, fed, clock, iterations, backward)
    peak = torch.cuda.max_memory_allocated(net.device) if net.device.type == "cuda" else None
    shapes = {name: tuple(array.shape) for name, array in fed.items()}
    return Timing(layers, forward, back, iterations, shapes, str(net.device), peak)


def made_up(net: Net) -> dict[str, Tensor]:
    """Random inputs of a net: normal numbers, indices and labels that it has a place for."""
    random = np.random.default_rng(0)
    labels = label_limits(net)
    made = {}
    for name, shape in net.inputs.items():
        numbers: Any = random.standard_normal(shape)
        if name in labels:
            numbers = random.integers(0, labels[name].classes, shape)
        made[name] = torch.as_tensor(numbers, dtype=torch.get_default_dtype()).to(net.device)
    return made


def _flows(net: Net) -> set[str]:
    """The values that have a gradient: those that a param or such a value comes into."""
    flows: set[str] = set()
    for node in net.graph.nodes:
        learns = any(p.requires_grad for p in net.layers[node.key].parameters())
        if learns or any(bottom in flows for bottom in node.bottoms):
            flows.update(node.tops)
    return flows


def _time_layer(
    net: Net,
    node: Node,
    values: Mapping[str, Tensor],
    *,
    clock: _Clock,
    iterations: int,
    flows: set[str],
) -> LayerTime:
    layer = net.layers[node.key]
    bottoms = [
        values[name].detach().requires_grad_(name in flows and values[name].is_floating_point())
        for name in node.bottoms
    ]
    given = [values[name] for name in node.tops] if node.feeds else []

    def forward() -> list[Tensor]:
        if node.feeds:
            return given
        tops = layer(*bottoms)
        return [tops] if isinstance(tops, Tensor) else list(tops)

    sources = [b for b in bottoms if b.requires_grad]
    sources += [p for p in layer.parameters() if p.requires_grad]
    ahead, back = [], []
    backs = bool(flows) and bool(sources)
    with torch.set_grad_enabled(backs):
        for i in range(iterations + WARM_UP):
            tops, spent = clock.measure(forward)
            ends = [top for top in tops if top.requires_grad]
            if ends and backs:
                _, returned = clock.measure(lambda: _gradients(ends, sources))  # noqa: B023
                back += [returned] * (i >= WARM_UP)
            ahead += [spent] * (i >= WARM_UP)
        layer.reset()
    shapes = tuple(tuple(values[top].shape) for top in node.tops)
    own = [i for i, top in enumerate(node.spec.top) if top not in node.spec.bottom]
    return LayerTime(
        node.name,
        node.type,
        shapes,
        clock.typical(ahead),
        clock.typical(back) if back else None,
        layer.multiply_adds([tuple(b.shape) for b in bottoms], shapes),
        sum(blob.numel() for blob in layer.blobs),
        sum(values[node.tops[i]].element_size() * math.prod(shapes[i]) for i in own),
    )


def _gradients(tops: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    ones = [torch.ones_like(top) for top in tops]
    torch.autograd.grad(tops, sources, ones, allow_unused=True)


def _time_whole(
    net: Net, fed: Mapping[str, Tensor], clock: _Clock, iterations: int, backward: bool
) -> tuple[float, float | None]:
    params = [p for p in net.parameters() if p.requires_grad]
    ahead, back = [], []
    with torch.set_grad_enabled(backward and bool(params)):
        for i in range(iterations + WARM_UP):
            tops, spent = clock.measure(lambda: net(**fed))
            ahead += [spent] * (i >= WARM_UP)
            loss = net.loss(tops) if net.loss_weights else sum(t.sum() for t in tops.values())
            if isinstance(loss, Tensor) and loss.requires_grad:
                _, returned = clock.measure(
                    lambda: torch.autograd.grad(loss, params, allow_unused=True)  # noqa: B023
                )
                back += [returned] * (i >= WARM_UP)
    for layer in net.layers.values():
        layer.reset()
    return clock.typical(ahead), clock.typical(back) if back else None


class _Clock:
    """Takes time; that of a GPU is only waited for when all is done."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"

    def measure(self, what: Callable[[], Any]) -> tuple[Any, Any]:
        """What a function returns, and a mark of how long it took."""
        if self.cuda:
            event: Any = torch.cuda.Event
            begin, end = event(enable_timing=True), event(enable_timing=True)
            begin.record()
            done = what()
            end.record()
            return done, (begin, end)
        begun = time.perf_counter()
        done = what()
        return done, 1000 * (time.perf_counter() - begun)

    def typical(self, marks: Sequence[Any]) -> float:
        """The median, in milliseconds: what else the machine does counts little."""
        if self.cuda:
            torch.cuda.synchronize()
            marks = [begin.elapsed_time(end) for begin, end in marks]
        return float(statistics.median(marks))
