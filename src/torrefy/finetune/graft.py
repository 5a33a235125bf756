"""A head grafted onto a pretrained net, and the definitions that come of it."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torrefy.errors import TorrefyError
from torrefy.graph import Graph
from torrefy.net.backbone import default_blob
from torrefy.net.net import Net
from torrefy.net.program import needed_nodes
from torrefy.schema import new_message
from torrefy.schema.head import Head, Site

LABEL = "label"
"""The blob of the targets in the definitions that are written."""


@dataclass(frozen=True)
class Graft:
    """A backbone cut at a blob, and a head on it."""

    name: str
    net: Net
    """The pretrained net, in phase test."""
    value: str
    """The value that the head reads, as the net's graph calls it."""
    blob: str
    """What it is called in a definition that ends there."""
    backbone: tuple[Any, ...]
    """The LayerParameters before it, the input's left out."""
    head: Head
    num_output: int
    head_name: str = "head"
    """What its layers' names begin with; another where the net has such layers already."""

    @property
    def input(self) -> str:
        """The blob that takes pictures."""
        return next(iter(self.net.graph.inputs))

    def learned(self) -> list[str]:
        """The backbone's layers that can learn, in order. Statistics stay as they are."""
        return [
            spec.name
            for spec in self.backbone
            if self.net.layers[spec.name].declared and spec.type != "BatchNorm"
        ]

    @property
    def standard(self) -> str:
        """The head's BatchNorm whose statistics are those of the data."""
        return f"{self.head_name}/standard"

    def site(self, label: str = LABEL) -> Site:
        """A new place for the head."""
        return Site(self.blob, self.num_output, label, self.head_name)

    def answers(self) -> tuple[Any, list[str]]:
        """The deploy definition, and the blobs that are its answers.

        One picture goes in; what comes out is what the head makes without targets.
        """
        net = new_message("caffe.NetParameter")
        net.name = self.name
        net.layer.append(input_layer(self.input, (1, *self.net.inputs[self.input][1:])))
        net.layer.extend(self.backbone)
        site = self.site(label="")
        net.layer.extend(self.head.layers(site))
        return net, site.scores

    def trains(self, data: Sequence[Any], rates: Mapping[str, float], head_rate: float) -> Any:
        """A definition to train.

        Args:
            data: its data layers, which make the input and the labels.
            rates: the lr_mult of the backbone's layers by name; the others keep what they have.
            head_rate: the factor of the head's.
        """
        net = new_message("caffe.NetParameter")
        net.name = self.name
        net.layer.extend(data)
        for spec in self.backbone:
            net.layer.append(self.with_rate(spec, rates.get(spec.name, 0.0)))
        site = self.site()
        site.lr_mult = head_rate
        net.layer.extend(self.head.layers(site))
        kept = {spec.name for spec in self.backbone} | {self.standard}
        for spec in net.layer:
            # A few pictures' statistics are worse than those of all that it was trained on.
            if spec.type == "BatchNorm" and spec.name in kept:
                spec.batch_norm_param.use_global_stats = True
        return net

    def with_rate(self, spec: Any, rate: float) -> Any:
        """A backbone's layer that learns at a rate; 0: not at all."""
        made = type(spec)()
        made.CopyFrom(spec)
        blobs = len(self.net.layers[spec.name].declared)
        if spec.type == "BatchNorm" or not blobs:
            return made
        while len(made.param) < blobs:
            made.param.add()
        for param in made.param[:blobs]:
            had = param.lr_mult
            param.lr_mult = rate * (had if had else 1.0)
            if not rate:
                param.decay_mult = 0
        return made


def graft(
    net: Net, head: Head, num_output: int, *, blob: str = "", output: str = "", name: str = ""
) -> Graft:
    """Cut a net at a blob and put a head there.

    Args:
        net: the pretrained net, in phase test.
        head: what is grafted; it is made to suit the blob.
        num_output: how many classes, or numbers, it has.
        blob: the blob; empty: what the net's last learned layer reads.
        output: the blob that holds the net's answer.
        name: of the definitions.

    Raises:
        TorrefyError: there is no such blob, it doesn't depend on pictures, or the net has several
            inputs.
    """
    graph = net.graph
    if len(graph.inputs) != 1:
        raise TorrefyError(
            f"the net takes {', '.join(graph.inputs) or 'nothing'}: a head goes onto a net of one "
            "input, pictures"
        )
    if blob:
        net.check_blob(blob)
    value = _without_dropout(graph, blob or default_blob(net, output))
    needed = needed_nodes(graph, graph.inputs.values(), [value])
    nodes = [node for node in graph.nodes if node.key in needed and not node.feeds]
    if not nodes or not _reaches(graph, value):
        raise TorrefyError(f'the blob "{blob or value}" doesn\'t depend on pictures')
    repeated = [node.name for node in nodes if node.key != node.name]
    if repeated:
        raise TorrefyError(
            f'two layers of the net are called "{repeated[0]}"', hint="Rename one of them."
        )
    head.suit({**net.shapes, _text_name(graph, value): net.shapes[value]}, _text_name(graph, value))
    return Graft(
        name or graph.name,
        net,
        value,
        _text_name(graph, value),
        tuple(node.spec for node in nodes),
        head,
        num_output,
        _free(graph),
    )


def _free(graph: Graph) -> str:
    """A name for a head, of which the net has no layers."""
    names = (f"head{number}" if number > 1 else "head" for number in itertools.count(1))
    return next(
        name for name in names if not any(node.name.startswith(f"{name}/") for node in graph.nodes)
    )


def _without_dropout(graph: Graph, value: str) -> str:
    """The value before the Dropout that made it, which a head has of its own."""
    node = graph.producers.get(value)
    while node is not None and node.type == "Dropout":
        value = node.bottoms[0]
        node = graph.producers.get(value)
    return value


def _text_name(graph: Graph, value: str) -> str:
    """What the text calls a value."""
    node = graph.producers[value]
    return str(node.spec.top[node.tops.index(value)])


def _reaches(graph: Graph, value: str) -> bool:
    inputs = set(graph.inputs.values())
    seen = set(inputs)
    for node in graph.nodes:
        if seen.intersection(node.bottoms):
            seen.update(node.tops)
    return value in seen - inputs


def input_layer(top: str, shape: Sequence[int], name: str = "") -> Any:
    """An Input layer, as a LayerParameter, called as its top unless it has a name."""
    layer = new_message("caffe.LayerParameter")
    layer.name, layer.type = name or top, "Input"
    layer.top.append(top)
    layer.input_param.shape.add().dim.extend(shape)
    return layer


@dataclass(frozen=True)
class Frontier:
    """Where what is computed once ends, and what is learned begins."""

    fixed: tuple[str, ...]
    """The values that what is learned reads, as the training net's graph calls them."""
    blobs: tuple[str, ...]
    """What its text calls them."""
    before: frozenset[str]
    """The names of the layers that come before."""


def frontier(graph: Graph, data: str, learned: Collection[str]) -> Frontier | None:
    """Where a net that is trained can be cut, so that what lies before is the same in every epoch.

    Args:
        graph: of the net, in phase train.
        data: the blob of the pictures.
        learned: the layers that learn.

    Returns:
        The cut; None: a layer that reads pictures learns, or two of the values have one name.
    """
    start = graph.inputs[data]
    fixed = {start}
    before, behind = set(), []
    for node in graph.nodes:
        if node.feeds:
            continue
        steady = all(bottom in fixed for bottom in node.bottoms) and node.name not in learned
        if steady and not _by_chance(node):
            fixed.update(node.tops)
            before.add(node.name)
        else:
            behind.append(node)
    read = dict.fromkeys(b for node in behind for b in node.bottoms if b in fixed)
    names = [_text_name(graph, value) for value in read if value != start]
    if start in read or not read or len(set(names)) < len(names):
        return None
    return Frontier(tuple(read), tuple(names), frozenset(before))


def _by_chance(node: Any) -> bool:
    """Whether a layer does other things to a picture each time."""
    spec = node.spec
    if spec.type == "BatchNorm":
        return not spec.batch_norm_param.use_global_stats
    if spec.type == "Pooling":
        return bool(spec.pooling_param.pool == spec.pooling_param.STOCHASTIC)
    return spec.type in ("Dropout", "Python")
