"""How long a net takes, and each of its layers, forward and backward."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from torrefy.errors import TorrefyError
from torrefy.layers.base import Layer, Shape
from torrefy.layers.normalization import ScaledNorm
from torrefy.net.net import Net
from torrefy.net.program import module_names

WARM_UP = 5
"""Passes that go before those that are measured, at most."""

Progress = Callable[[int, int], None]
"""Is told how many passes are done, and how many there are."""


@dataclass(frozen=True)
class LayerTime:
    """What one layer takes of a pass; the times are medians."""

    name: str
    """The layer's key in `net.layers`."""
    type: str
    shapes: tuple[Shape, ...]
    """The tops' shapes."""
    forward_ms: float | None
    """None: the layer is not run by itself, as inputs and what `part_of` tells."""
    backward_ms: float | None
    """None: no gradient goes through the layer, or none was asked for."""
    part_of: str
    """The layer within which this one is computed: a BatchNorm for the Scale behind it."""
    multiply_adds: int
    """One forward pass's: a multiplication and the addition behind it count as one."""
    parameters: int
    """Learned numbers; those of a shared param count in the first layer that has it."""
    activation_bytes: int
    """What the tops take; 0 where they lie in a bottom's memory."""

    @property
    def total_ms(self) -> float:
        """Forward and backward, as far as they were measured."""
        return (self.forward_ms or 0.0) + (self.backward_ms or 0.0)


@dataclass(frozen=True)
class Timing:
    """What a net takes, whole and layer by layer; times are medians over the iterations.

    `caffe time` averages; but on a machine that does other things too, one pass that was
    interrupted moves an average more than what is to be measured.

    The whole passes are the net as anyone runs it. Their times differ from the sums of the
    layers': between layers stand the marks of the clock, and adding up the gradients of a blob
    that several layers read belongs to none of them.
    """

    layers: tuple[LayerTime, ...]
    """In the net's order."""
    iterations: int
    warm_up: int
    forward_ms: float
    """A whole forward pass; in phase train it keeps what the backward pass needs."""
    backward_ms: float | None
    """A whole backward pass: from the losses, or from the outputs where nothing counts in the
    loss. None: none was asked for, or nothing in the net is learned."""
    forward_backward_ms: float | None
    """Both, one behind the other."""
    total_ms: float
    """All measured whole passes together, with their backward passes where these are measured."""
    peak_bytes: int | None
    """The most memory that PyTorch had given out on the GPU, params included; None on the CPU."""

    @property
    def layers_forward_ms(self) -> float:
        """The sum of the layers' forward times."""
        return sum(layer.forward_ms or 0.0 for layer in self.layers)

    @property
    def layers_backward_ms(self) -> float:
        """The sum of the layers' backward times."""
        return sum(layer.backward_ms or 0.0 for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """The sum of what all tops take: what a pass holds at once if it keeps them all."""
        return sum(layer.activation_bytes for layer in self.layers)

    @property
    def slowest(self) -> LayerTime | None:
        """The layer that takes the most time; None where none is run."""
        run = [layer for layer in self.layers if layer.forward_ms is not None]
        return max(run, key=lambda layer: layer.total_ms, default=None)


def time_net(
    net: Net,
    inputs: Mapping[str, Tensor],
    iterations: int = 50,
    backward: bool = True,
    progress: Progress | None = None,
) -> Timing:
    """Measure a net, whole and layer by layer, as `caffe time` does.

    In phase test a forward pass records no gradients, and layers compute in place where they
    may. A layer's backward time is that of all gradients that a training would ask it for: of
    its params that are learned, and of bottoms that depend on learned params. On a GPU a layer
    that is done sooner than it is launched takes as long as its launch.

    Args:
        net: on the CPU or a CUDA device; its params and statistics stay as they are.
        inputs: an array for each input of the net, on its device
            (`torrefy.data.noise.random_inputs`).
        iterations: passes to take the median of; up to 5 unmeasured ones go before them.
        backward: whether backward passes are measured, too.
        progress: is told after each pass.

    Raises:
        TorrefyError: the net is on another kind of device, or the inputs don't fit.

    Example:
        timing = time_net(net, random_inputs(net), iterations=10)
        timing.forward_ms, timing.slowest.name
    """
    if iterations < 1:
        raise TorrefyError(f"iterations must be 1 or more, found {iterations}")
    demand_clock(net.device)
    kept = [(buffer, buffer.clone()) for buffer in net.buffers()]
    try:
        return _Measuring(net, inputs, iterations, backward, progress).run()
    finally:
        for buffer, before in kept:  # a forward pass in phase train moves the statistics
            buffer.copy_(before)
        _reset(net)


def demand_clock(device: torch.device) -> None:
    """Raise unless times can be measured on a device.

    Raises:
        TorrefyError: it is neither a CPU nor a CUDA device.
    """
    if device.type not in {"cpu", "cuda"}:
        raise TorrefyError(f"times are measured on CPUs and CUDA devices, not on {device.type}")


def _reset(net: Net) -> None:
    for layer in net.layers.values():
        layer.reset()


class _Clock:
    """Marks in the device's own time, read when all of them are behind.

    On a GPU they are events: the processor need not wait for it between them.
    """

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"

    def mark(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def between(self, start: Any, stop: Any) -> float:
        """Milliseconds between two marks; `wait` went before."""
        return float(start.elapsed_time(stop)) if self.cuda else 1000 * (stop - start)


class _Measuring:
    def __init__(
        self,
        net: Net,
        inputs: Mapping[str, Tensor],
        iterations: int,
        backward: bool,
        progress: Progress | None,
    ) -> None:
        self.net = net
        self.inputs = inputs
        self.iterations = iterations
        self.warm_up = min(WARM_UP, iterations)
        self.trains = net.graph.state.phase == "train"
        self.backward = backward
        self.progress = progress or (lambda done, of: None)
        self.clock = _Clock(net.device)
        self.done = 0
        self.total = 0.0
        # whole forward; whole both; layers forward; layers both, which in phase train are one
        self.passes = (1 + (2 if backward else 0) + (not (backward and self.trains))) * (
            iterations + self.warm_up
        )

    def run(self) -> Timing:
        if self.clock.cuda:
            with torch.cuda.device(self.net.device):
                torch.cuda.reset_peak_memory_stats()
                return self.measured()
        return self.measured()

    def measured(self) -> Timing:
        forward = self.clock_all(self.whole_forward)["forward"]
        both = self.clock_all(self.whole_both) if self.backward else {}
        peak = torch.cuda.max_memory_allocated() if self.clock.cuda else None
        steps = _Steps(self.net, self.clock, recording=self.trains, backward=False)
        if self.backward and self.trains:
            steps = _Steps(self.net, self.clock, recording=True, backward=True)
        forwards = self.clock_all(lambda: self.layers(steps))
        backwards = forwards
        if self.backward and not self.trains:
            recorded = _Steps(self.net, self.clock, recording=True, backward=True)
            backwards = self.clock_all(lambda: self.layers(recorded))
        return Timing(
            layers=self.rows(steps, forwards, backwards),
            iterations=self.iterations,
            warm_up=self.warm_up,
            forward_ms=forward,
            backward_ms=both.get("backward"),
            forward_backward_ms=both.get("both"),
            total_ms=self.total,
            peak_bytes=peak,
        )

    def clock_all(self, one_pass: Callable[[], dict[str, tuple[Any, Any]]]) -> dict[str, float]:
        """The median time of each part of a pass, in milliseconds."""
        marks: dict[str, list[tuple[Any, Any]]] = {}
        for number in range(self.warm_up + self.iterations):
            _reset(self.net)
            parts = one_pass()
            if number >= self.warm_up:
                for name, pair in parts.items():
                    marks.setdefault(name, []).append(pair)
            self.done += 1
            self.progress(self.done, self.passes)
        self.clock.wait()
        spans = {
            name: [self.clock.between(start, stop) for start, stop in pairs]
            for name, pairs in marks.items()
        }
        for name in ("forward", "both"):  # the whole passes; what comes last is the longest
            self.total = sum(spans.get(name, [])) or self.total
        return {name: statistics.median(found) for name, found in spans.items()}

    def whole_forward(self) -> dict[str, tuple[Any, Any]]:
        with torch.set_grad_enabled(self.trains):
            begin = self.clock.mark()
            self.net(**self.inputs)
            return {"forward": (begin, self.clock.mark())}

    def whole_both(self) -> dict[str, tuple[Any, Any]]:
        with torch.enable_grad():
            begin = self.clock.mark()
            blobs = self.net(**self.inputs)
            middle = self.clock.mark()
            ends = self.ends(blobs)
            learned = [param for param in self.net.parameters() if param.requires_grad]
            if not ends or not learned:
                return {}
            weights = [torch.full_like(blob, weight) for blob, weight in ends]
            start = self.clock.mark()
            torch.autograd.grad([blob for blob, _ in ends], learned, weights, allow_unused=True)
            end = self.clock.mark()
        return {"forward": (begin, middle), "backward": (start, end), "both": (begin, end)}

    def ends(self, blobs: Mapping[str, Tensor]) -> list[tuple[Tensor, float]]:
        """Where a backward pass begins, each with its weight."""
        weights = self.net.loss_weights if self.net.loss_weights.keys() <= blobs.keys() else {}
        chosen = weights or dict.fromkeys(blobs, 1.0)
        return [(blobs[n], weight) for n, weight in chosen.items() if blobs[n].requires_grad]

    def layers(self, steps: _Steps) -> dict[str, tuple[Any, Any]]:
        steps.marks = {}
        with torch.set_grad_enabled(steps.recording):
            steps.run(*(self.inputs[name] for name in self.net.graph.inputs))
        return steps.marks

    def rows(
        self, steps: _Steps, forwards: dict[str, float], backwards: dict[str, float]
    ) -> tuple[LayerTime, ...]:
        net = self.net
        names = module_names(net.graph)
        within = _absorbed(net)
        counted: set[int] = set()
        rows = []
        for node in net.graph.nodes:
            layer, target = net.layers[node.key], names[node.key]
            if node.feeds:
                arrays = [self.inputs[top] for top in node.spec.top]
                seen = _Seen((), tuple(map(_shape, arrays)), sum(map(_bytes, arrays)))
            else:
                expected = tuple(net.shapes[top] for top in node.tops)
                seen = steps.seen.get(target, _Seen((), expected, 0))
            own = {id(p): p.numel() for p in layer.parameters(recurse=False)}
            rows.append(
                LayerTime(
                    name=node.key,
                    type=node.type,
                    shapes=seen.tops,
                    forward_ms=forwards.get(f"forward {target}"),
                    backward_ms=backwards.get(f"backward {target}"),
                    part_of=within.get(node.key, ""),
                    multiply_adds=layer.multiply_adds(seen.bottoms, seen.tops)
                    if seen.bottoms
                    else 0,
                    parameters=sum(n for key, n in own.items() if key not in counted),
                    activation_bytes=seen.bytes,
                )
            )
            counted |= own.keys()
        return tuple(rows)


def _absorbed(net: Net) -> dict[str, str]:
    """Each layer that the program computes within another: its key, the other's."""
    keys = {id(layer): key for key, layer in net.layers.items()}
    norms = [module for module in net.program().modules() if isinstance(module, ScaledNorm)]
    return {keys[id(module.scale)]: keys[id(module.norm)] for module in norms}


@dataclass(frozen=True)
class _Seen:
    """What went through a layer."""

    bottoms: tuple[Shape, ...]
    tops: tuple[Shape, ...]
    bytes: int


class _Steps(fx.Interpreter):
    """The net's program, run layer by layer with a mark around each.

    So the layers are what the program makes of them: a BatchNorm with its Scale is one step, a
    ReLU may overwrite its bottom. For the backward times every layer is cut off from those above
    it, and its gradients are taken at once, from ones. Hooks on modules would miss layers in
    place, count a shared layer once, and hold a step apart from the next on the processor only;
    cut off, each is measured alone, and no more than one layer's intermediates is kept.
    """

    def __init__(self, net: Net, clock: _Clock, recording: bool, backward: bool) -> None:
        super().__init__(net.program())
        self.clock = clock
        self.recording = recording
        self.backward = backward
        self.marks: dict[str, tuple[Any, Any]] = {}
        self.seen: dict[str, _Seen] = {}

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one layer."""
        module: Layer = self.fetch_attr(target)
        begin = self.clock.mark()
        found = module(*args, **kwargs)
        self.marks[f"forward {target}"] = begin, self.clock.mark()
        tops = found if isinstance(found, tuple) else (found,)
        if target not in self.seen:
            held = {bottom.untyped_storage().data_ptr() for bottom in args}
            self.seen[target] = _Seen(
                tuple(map(_shape, args)),
                tuple(map(_shape, tops)),
                sum(_bytes(t) for t in tops if t.untyped_storage().data_ptr() not in held),
            )
        if not self.recording:
            return found
        if self.backward:
            self._back(target, [getattr(x, "leaf", x) for x in args], module, tops)
        cut = tuple(map(self._cut, tops))
        return cut if isinstance(found, tuple) else cut[0]

    def _cut(self, top: Tensor) -> Tensor:
        """A top that nothing stands behind; the next layer may overwrite it, as it may a top."""
        if not top.requires_grad:
            return top.detach()
        leaf = top.detach().requires_grad_()
        copy: Any = leaf.clone()
        copy.leaf = leaf  # where the gradient goes to
        return copy  # type: ignore[no-any-return]

    def _back(
        self, target: str, bottoms: list[Tensor], module: Layer, tops: tuple[Tensor, ...]
    ) -> None:
        ends = [top for top in tops if top.grad_fn is not None]
        sources = [x for x in bottoms if x.requires_grad]
        wanted = [*sources, *(p for p in module.parameters() if p.requires_grad)]
        if not ends or not wanted:
            return
        ones = [torch.ones_like(top) for top in ends]
        begin = self.clock.mark()
        torch.autograd.grad(ends, wanted, ones, allow_unused=True)
        self.marks[f"backward {target}"] = begin, self.clock.mark()


def _shape(array: Tensor) -> Shape:
    return tuple(array.shape)


def _bytes(array: Tensor) -> int:
    return array.numel() * array.element_size()
