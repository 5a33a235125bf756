"""A net as a list of layers that passes change, and what they changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from torrefy.layers.base import Layer
from torrefy.net.net import Net, compile_net
from torrefy.schema import Definition, new_message


@dataclass(frozen=True)
class Change:
    """What became of one layer."""

    layer: str
    type: str
    what: str
    """"folded into conv1", "left out: nothing reads it"."""


@dataclass(frozen=True)
class PassResult:
    """What one pass did; no changes where it found nothing to do."""

    name: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Pass:
    """A pass by its name. `run` changes a plan and tells each change."""

    name: str
    summary: str
    run: Callable[[Plan], list[Change]]


@dataclass
class Step:
    """A layer of the plan: its message, and the values that it reads and makes."""

    layer: Layer
    """The net's own, which tells the geometry; it stays as it is."""
    spec: Any
    """A copy of its LayerParameter, without bottoms and tops."""
    bottoms: list[str]
    tops: list[str]
    blobs: list[Tensor]
    affine: Any = None
    """The `Affine` that it computes, where a pass has found it out."""

    @property
    def name(self) -> str:
        """The layer's name, unique in the plan."""
        return str(self.spec.name)

    def change(self, what: str) -> Change:
        """A note about this layer, with the type that the definition gives it."""
        return Change(self.name, str(self.layer.spec.type), what)


@dataclass
class Plan:
    """A net's layers in the order in which they run.

    Values are called as in the net's Graph, so that an in-place layer is like any other.
    """

    net: Net
    outputs: tuple[str, ...]
    steps: list[Step] = field(default_factory=list)

    @classmethod
    def of(cls, net: Net, outputs: Iterable[str]) -> Plan:
        """All layers of a net, but for those that feed it."""
        plan = cls(net, tuple(outputs))
        for node in net.graph.nodes:
            if node.feeds:
                continue
            spec = new_message("caffe.LayerParameter")
            spec.CopyFrom(node.spec)
            spec.name = node.key
            for name in ("bottom", "top", "include", "exclude", "param", "loss_weight", "blobs"):
                spec.ClearField(name)
            layer = net.layers[node.key]
            blobs = [blob.detach() for blob in layer.blobs]
            plan.steps.append(Step(layer, spec, list(node.bottoms), list(node.tops), blobs))
        return plan

    @property
    def inputs(self) -> dict[str, str]:
        """The net's inputs: the blob's name to its first value."""
        return self.net.graph.inputs

    def readers(self) -> Counter[str]:
        """How often each value is read; an output is read by the user, too."""
        return Counter([*self.outputs, *(b for step in self.steps for b in step.bottoms)])

    def producers(self) -> dict[str, Step]:
        """The step that makes each value; an input has none."""
        return {top: step for step in self.steps for top in step.tops}

    def only_reader(self, value: str) -> Step | None:
        """The step that alone reads a value that is no output; else None."""
        if self.readers()[value] != 1 or value in self.outputs:
            return None
        return next(step for step in self.steps if value in step.bottoms)

    def remove(self, step: Step) -> None:
        """Take a step out, and what only it read."""
        self.steps = [other for other in self.steps if other is not step]
        readers = self.readers()
        for value in step.bottoms:
            maker = self.producers().get(value)
            if maker is not None and not any(readers[top] for top in maker.tops):
                self.remove(maker)

    def rename(self, old: str, new: str) -> None:
        """Let a value be another one wherever it is made or read."""
        for step in self.steps:
            step.bottoms = [new if value == old else value for value in step.bottoms]
            step.tops = [new if value == old else value for value in step.tops]

    def compiled(self) -> Net:
        """The plan as a net in phase test, on the net's device and of its number type."""
        graph = self.net.graph
        message = new_message("caffe.NetParameter")
        message.name = graph.name
        read = self.readers()
        for name, value in graph.inputs.items():
            if read[value]:
                spec = message.layer.add(name=value, type="Input")
                spec.top.append(value)
                spec.input_param.shape.add().dim.extend(self.net.inputs[name])
        fed = len(message.layer)
        for step in self.steps:
            spec = message.layer.add()
            spec.CopyFrom(step.spec)
            spec.bottom.extend(step.bottoms)
            spec.top.extend(step.tops)
        given = graph.definition
        source = replace(given.source, file=f"{given.source.file} (folded)")
        definition = Definition(message, source, dialect=given.dialect)
        made = compile_net(definition, replace(graph.state, phase="test"), fill=False)
        # An input that is overwritten in place keeps its blob's name.
        inputs = {b: v for b, v in graph.inputs.items() if v in made.graph.inputs}
        made.graph = replace(made.graph, inputs=inputs)
        numbers = [p.dtype for p in self.net.parameters() if p.is_floating_point()]
        if numbers:
            made.to(numbers[0])
        layers = list(made.layers.values())[fed:]
        with torch.no_grad():
            for layer, step in zip(layers, self.steps, strict=True):
                for mine, blob in zip(layer.blobs, step.blobs, strict=True):
                    mine.copy_(blob)
        return made.to(self.net.device)
