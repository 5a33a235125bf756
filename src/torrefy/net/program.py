"""Layers to program: the torch.fx graph that computes some blobs, and nothing else."""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import fx, nn

from torrefy.errors import TorrefyError
from torrefy.graph import Graph, Node
from torrefy.layers.base import Layer
from torrefy.layers.normalization import BatchNorm, ScaledNorm
from torrefy.layers.scale import Scale


def identifier(name: str, taken: set[str]) -> str:
    """A Python identifier for a Caffe name, one that is not taken yet."""
    base = re.sub(r"\W", "_", name) or "_"
    if base[0].isdigit():
        base = f"_{base}"
    candidate, n = base, 1
    while candidate in taken:
        n += 1
        candidate = f"{base}_{n}"
    taken.add(candidate)
    return candidate


RESERVED = frozenset(dir(nn.Module())) | {
    "code", "device", "fill", "forward", "graph", "inputs", "layers", "loss", "loss_weights",
    "outputs", "params", "program", "run", "save", "shapes", "stored",
}  # fmt: skip
"""Attributes of nets and programs that no layer's module may be called by."""


def module_names(graph: Graph) -> dict[str, str]:
    """The attribute under which each layer hangs in the program, by the layer's key."""
    taken = set(RESERVED)
    return {node.key: identifier(node.key, taken) for node in graph.nodes}


def write_program(
    graph: Graph,
    layers: dict[str, Layer],
    inputs: Mapping[str, str],
    outputs: Iterable[str],
    recorded: bool = True,
) -> fx.GraphModule:
    """The net as a `torch.fx.GraphModule` that computes `outputs` and nothing else.

    Its arguments are the inputs in order (a name for each value that is given); it returns a
    tuple. A BatchNorm and the Scale that alone reads it run as one operation; a layer that can
    may compute in the memory of a bottom that nothing else reads, nor the gradient of the layer
    that made it. In phase train a bottom with `propagate_down: false` is detached.

    Args:
        graph: the net.
        layers: its layers by key.
        inputs: the value that each input stands for.
        outputs: the values to compute.
        recorded: whether gradients may be recorded; without, more is computed in place.

    Raises:
        TorrefyError: an output depends on an input that is not given.
    """
    outputs = list(outputs)
    needed = needed_nodes(graph, inputs.values(), outputs)
    nodes = [node for node in graph.nodes if node.key in needed]
    readers = Counter([*outputs, *(bottom for node in nodes for bottom in node.bottoms)])
    names = module_names(graph)
    root = nn.Module()
    program = fx.Graph()
    values: dict[str, fx.Node] = {}
    taken: set[str] = set()
    for name, value in inputs.items():
        values[value] = program.placeholder(identifier(name, taken))
    free: set[str] = set()
    """Values whose memory may be had: no view of another's, and kept for no gradient."""
    cut = {(node.key, i) for node in nodes for i in _without_gradient(graph, node)}
    scaled, absorbed = _scaled_norms(nodes, layers, readers, cut)
    for node in nodes:
        layer = layers[node.key]
        target = names[node.key]
        if node.key in absorbed:
            values[node.tops[0]] = values[node.bottoms[0]]
            free.update(node.tops)
            continue
        norm = scaled.get(node.key)
        root.add_module(target, norm if norm else layer)
        arguments = tuple(
            program.call_method("detach", (values[b],)) if (node.key, i) in cut else values[b]
            for i, b in enumerate(node.bottoms)
        )
        options: dict[str, Any] = {}
        if layer.overwrites:
            own = [i for i, b in enumerate(node.bottoms) if b in free and readers[b] == 1]
            options = {"overwrite": own[0]} if own else {}
        call = program.call_module(target, arguments, options)
        if layer.fresh and not (recorded and layer.needs_tops):
            free.update(node.tops)
        if len(node.tops) == 1:
            values[node.tops[0]] = call
        else:
            for i, top in enumerate(node.tops):
                values[top] = program.call_function(operator.getitem, (call, i))
    program.output(tuple(values[name] for name in outputs))
    return fx.GraphModule(root, program, class_name=identifier(graph.name or "Net", set()))


def _without_gradient(graph: Graph, node: Node) -> list[int]:
    """The bottoms that get no gradient; as in Caffe force_backward overrules `propagate_down`."""
    if graph.state.phase != "train" or graph.definition.message.force_backward:
        return []
    return [i for i, down in enumerate(node.spec.propagate_down) if not down]


def _scaled_norms(
    nodes: list[Node],
    layers: dict[str, Layer],
    readers: Mapping[str, int],
    cut: Collection[tuple[str, int]],
) -> tuple[dict[str, ScaledNorm], set[str]]:
    """Each BatchNorm whose only reader is a Scale of its channels, by its key; the Scales' keys."""
    norms: dict[str, tuple[str, BatchNorm]] = {}
    scaled: dict[str, ScaledNorm] = {}
    absorbed: set[str] = set()
    for node in nodes:
        layer = layers[node.key]
        if isinstance(layer, BatchNorm) and readers[node.tops[0]] == 1:
            norms[node.tops[0]] = node.key, layer
        elif (
            isinstance(layer, Scale)
            and layer.per_channel
            and node.bottoms[0] in norms
            and (node.key, 0) not in cut
        ):
            key, norm = norms[node.bottoms[0]]
            scaled[key] = ScaledNorm(norm, layer)
            absorbed.add(node.key)
    return scaled, absorbed


def needed_nodes(graph: Graph, inputs: Iterable[str], outputs: Iterable[str]) -> set[str]:
    """The keys of the nodes that the outputs depend on, given some values."""
    given = set(inputs)
    waiting = [value for value in outputs if value not in given]
    needed: set[str] = set()
    while waiting:
        value = waiting.pop()
        node = graph.producers[value]
        if node.feeds:
            raise TorrefyError(f'the input "{node.spec.top[node.tops.index(value)]}" is missing')
        if node.key in needed:
            continue
        needed.add(node.key)
        waiting.extend(b for b in node.bottoms if b not in given)
    return needed
