"""The net for inference that one for training holds: inputs for data, scores for losses."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torrefy.errors import ExportError, Place
from torrefy.graph import Graph, Node, State
from torrefy.layers.base import Layer, Shape
from torrefy.layers.labels import Labelled
from torrefy.layers.shape import Silence
from torrefy.net.compile import Built, diagnose
from torrefy.net.passes.plan import Change, PassResult
from torrefy.schema import Definition, new_message

NAME = "deploy"
"""What the pass is called."""
ANSWER = "prob"
"""What the scores are called, where the definition has no name for them."""


@dataclass(frozen=True)
class Deployed:
    """A net for inference, and what became of the one for training."""

    definition: Definition
    """Upgraded; it has layers for phase test alone."""
    outputs: tuple[str, ...]
    result: PassResult


def is_trained(graph: Graph, built: Built) -> bool:
    """Whether a net is one for training: it has data layers, losses, or counts right answers."""
    return any(
        (node.feeds and node.type != "Input") or _is_judge(built.layers[node.key])
        for node in graph.nodes
        if node.key in built.layers
    )


def deploy(
    definition: Definition,
    state: State,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    allow_python: Collection[str] = (),
) -> Deployed | None:
    """Derive the net for inference, as Caffe's users do by hand when they write a deploy.prototxt.

    Data layers become inputs of one picture; a loss becomes what it does to scores (`Layer.scores`:
    SoftmaxWithLoss a Softmax, SigmoidCrossEntropyLoss a Sigmoid, most others nothing); Accuracy
    and Silence go, and what only labels lead to. Of several losses those of the largest loss_weight
    count: the others help training.

    Args:
        definition: an upgraded definition.
        state: in phase test.
        shapes: shapes of inputs, which may be those of data layers.
        allow_python: the Python classes that may run.

    Returns:
        None where the definition is one for inference as it stands.

    Raises:
        DefinitionError: the definition is wrong.
        ExportError: nothing is left of it.
    """
    graph, built = diagnose(definition, state, shapes=shapes, allow_python=allow_python)
    if more := _of_labels(graph, built, shapes or {}):
        graph, built = diagnose(definition, state, shapes=more, allow_python=allow_python)
    built.demand_all()
    if not is_trained(graph, built):
        return None
    return _Deploying(graph, built).run()


def _is_judge(layer: Layer) -> bool:
    """Whether a layer compares scores with labels."""
    return layer.loss or isinstance(layer, Labelled)


def _of_labels(
    graph: Graph, built: Built, shapes: Mapping[str, Sequence[int]]
) -> dict[str, Sequence[int]]:
    """The shapes with those of labels, where a data layer's picture was given another batch."""
    more = dict(shapes)
    for node in graph.nodes:
        if not node.feeds or node.type == "Input" or not shapes.get(node.spec.top[0]):
            continue
        for blob, value in zip(node.spec.top[1:], node.tops[1:], strict=True):
            if blob not in more and built.shapes.get(value):
                more[blob] = (shapes[node.spec.top[0]][0], *built.shapes[value][1:])
    return more if len(more) > len(shapes) else {}


class _Deploying:
    def __init__(self, graph: Graph, built: Built) -> None:
        self.graph, self.built = graph, built
        self.changes: list[Change] = []
        self.blobs = {blob for node in graph.nodes for blob in (*node.spec.bottom, *node.spec.top)}

    def run(self) -> Deployed:
        kept, seen = self.kept()
        losses = self.losses(kept, seen)
        read = {value for node in kept for value in node.bottoms}
        ends = [top for node in kept for top in node.tops if top not in read and top in seen]
        specs = [node.spec for node in kept]
        outputs = []
        for loss in losses:
            blob, spec = self.scores(loss)
            if blob in outputs:
                continue
            outputs.append(blob)
            if spec is not None:
                specs.append(spec)
        judged = {
            value for node in self.graph.nodes if self.built.layers[node.key].loss
            for value in node.bottoms
        }  # fmt: skip
        outputs += [end for end in ends if end not in outputs and end not in judged]
        if not outputs:
            raise ExportError(
                "nothing is left of this net without labels",
                place=Place(self.graph.definition.source.file),
                hint="Name blobs by --blob.",
            )
        return Deployed(self.made(specs, outputs), tuple(outputs), self.result())

    def result(self) -> PassResult:
        return PassResult(NAME, tuple(self.changes))

    def change(self, node: Node, what: str) -> None:
        self.changes.append(Change(node.name, node.type, what))

    def kept(self) -> tuple[list[Node], set[str]]:
        """The layers that need no label, and the values that pictures lead to."""
        seen: set[str] = set()
        gone: set[str] = set()
        kept = []
        for node in self.graph.nodes:
            layer = self.built.layers[node.key]
            if node.feeds:
                # What a data layer gives first is the picture, all else is taken for labels.
                seen.update(node.tops if node.type == "Input" else node.tops[:1])
                continue
            if _is_judge(layer) or isinstance(layer, Silence):
                gone.update(node.tops)
                if not layer.loss:
                    self.change(node, "left out: inference has no use for it")
            elif gone.intersection(node.bottoms):
                gone.update(node.tops)
                self.change(node, "left out: it reads what is left out")
            elif seen.intersection(node.bottoms) or not node.bottoms:
                seen.update(node.tops)
                kept.append(node)
            else:
                self.change(node, "left out: only labels lead to it")
                gone.update(node.tops)
        return kept, seen

    def losses(self, kept: Sequence[Node], seen: set[str]) -> list[Node]:
        """The losses whose scores are the answer."""
        found = [
            node for node in self.graph.nodes
            if self.built.layers[node.key].loss and node.bottoms[0] in seen
        ]  # fmt: skip
        weights = [node.spec.loss_weight[0] if node.spec.loss_weight else 1.0 for node in found]
        main = []
        for node, weight in zip(found, weights, strict=True):
            if weight == max(weights):
                main.append(node)
            else:
                self.change(node, f"left out: its loss_weight, {weight:g}, is not the largest")
        return main

    def scores(self, loss: Node) -> tuple[str, Any]:
        """The blob of a loss's scores, and the layer that makes it; None: it is there already."""
        layer = self.built.layers[loss.key]
        bottom = loss.spec.bottom[0]
        if not layer.scores:
            self.change(loss, f'left out: "{bottom}", which it reads, is the answer')
            return bottom, None
        named = loss.spec.top[1] if len(loss.spec.top) > 1 else ANSWER
        top = named
        if top in self.blobs and len(loss.spec.top) < 2:
            top = f"{loss.name}/{ANSWER}"
        self.blobs.add(top)
        spec = new_message("caffe.LayerParameter")
        spec.name, spec.type = top, layer.scores
        spec.bottom.append(bottom)
        spec.top.append(top)
        if isinstance(layer, Labelled) and layer.along != 1:
            spec.softmax_param.axis = layer.along
        self.change(loss, f'became the {layer.scores} "{top}"')
        return top, spec

    def made(self, specs: Sequence[Any], outputs: Sequence[str]) -> Definition:
        """The definition: inputs, and the layers that lead to the outputs."""
        wanted, needed = set(outputs), []
        for spec in reversed(specs):
            if wanted.intersection(spec.top):
                wanted.update(spec.bottom)
                needed.append(spec)
        message = new_message("caffe.NetParameter")
        message.name = self.graph.name
        for node in self.graph.nodes:
            if node.feeds:
                self.feed(message, node, wanted)
        for spec in reversed(needed):
            made = message.layer.add()
            made.CopyFrom(spec)
            for rule in ("include", "exclude", "loss_weight"):
                made.ClearField(rule)
        given = self.graph.definition
        source = replace(given.source, file=f"{given.source.file} ({NAME})")
        return Definition(message, source, dialect=given.dialect)

    def feed(self, message: Any, node: Node, wanted: set[str]) -> None:
        """Inputs for what is read of a layer that feeds the net."""
        read = [blob for blob in node.spec.top if blob in wanted]
        for blob in read:
            shape: Shape = self.built.shapes[self.graph.inputs[blob]]
            spec = message.layer.add(name=blob, type="Input")
            spec.top.append(blob)
            batch = shape if node.type == "Input" else (1, *shape[1:])
            spec.input_param.shape.add().dim.extend(batch)
        if node.type == "Input":
            return
        if read:
            inputs = ", ".join(f'"{blob}"' for blob in read)
            self.change(node, f"became the input {inputs}")
        else:
            self.change(node, "left out: nothing reads it")
