"""Graph to program: layers made, shapes found, the torch.fx graph written."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import fx, nn

from torrefy.errors import LayerError, Problem, TorrefyError, did_you_mean
from torrefy.graph import Graph, Node, State, examine
from torrefy.layers.base import Layer, Shape, shape_text
from torrefy.plugins import by_name, plugin_manager
from torrefy.schema import Definition


def layer_types() -> dict[str, type[Layer]]:
    """Every layer type that there is, from all plugins."""
    return by_name(plugin_manager().hook.torrefy_layers(), "type_name")


@dataclass
class Built:
    """What compiling found: the layers by their keys and the shape of every value."""

    layers: dict[str, Layer] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    owners: dict[str, tuple[str, int]] = field(default_factory=dict)
    """A shared param's name to the layer and the index of the blob that holds it."""


def diagnose(definition: Definition, state: State) -> tuple[Graph, Built]:
    """Resolve and build an upgraded definition as far as that goes.

    `Built.problems` is all that is wrong with it, in the order of the text.
    """
    graph, problems = examine(definition, state)
    built = build(graph)
    built.problems = sorted(
        problems + built.problems,
        key=lambda p: (p.place.line, p.place.column) if p.place else (0, 0),
    )
    return graph, built


def build(graph: Graph) -> Built:
    """Make every layer on the meta device and find every shape; problems are collected.

    A layer whose bottoms are unknown because of a problem above it is passed over.
    """
    types = layer_types()
    built = Built()
    for node in graph.nodes:
        cls = types.get(node.type)
        if cls is None:
            built.problems.append(_unknown_type(graph, node, types))
            continue
        try:
            _build_node(graph, node, cls, built)
        except LayerError as error:
            place = graph.place(node, *([error.field] if error.field else []))
            built.problems.extend(error.within(place=place, layer=node.name).problems)
    return built


def _unknown_type(graph: Graph, node: Node, types: Iterable[str]) -> Problem:
    if not node.type:
        return Problem("the layer has no type", node.place, node.name)
    return Problem(
        f'there is no layer type "{node.type}"',
        graph.place(node, "type"),
        node.name,
        did_you_mean(node.type, types) or "Is a plugin missing?",
    )


def _check_counts(node: Node, cls: type[Layer], layer: Layer) -> None:
    spec = node.spec
    for what, count, (low, high) in (
        ("bottom", len(spec.bottom), cls.bottoms),
        ("top", len(spec.top), cls.tops),
    ):
        if count < low or (high is not None and count > high):
            wanted = f"{low}" if low == high else f"{low} or more" if high is None else (
                f"{low} to {high}"
            )  # fmt: skip
            raise layer.error(
                f"{cls.type_name} takes {wanted} {what}{'s' if wanted != '1' else ''}, "
                f"found {count}",
                field=what,
            )
    if cls.pairs and len(spec.bottom) != len(spec.top):
        raise layer.error(
            f"{cls.type_name} makes one top of each bottom; found {len(spec.bottom)} bottoms and "
            f"{len(spec.top)} tops",
            field="top",
        )
    if not cls.in_place:
        for i, top in enumerate(spec.top):
            if i < len(spec.bottom) and spec.bottom[i] == top:
                raise layer.error(
                    f'{cls.type_name} can\'t work in place: top and bottom are both "{top}"',
                    field="top",
                    hint="Give the top a name of its own.",
                )


def _build_node(graph: Graph, node: Node, cls: type[Layer], built: Built) -> None:
    layer = cls(node.spec, len(node.tops))
    layer.train(graph.state.phase == "train")
    _check_counts(node, cls, layer)
    if any(bottom not in built.shapes for bottom in node.bottoms):
        return  # a problem further up; its own message is enough
    shapes = [built.shapes[bottom] for bottom in node.bottoms]
    if node.type == "Input":
        tops: Iterable[Shape] = layer.shapes()  # type: ignore[operator]
    else:
        layer.setup(*shapes)
        tops = _infer(layer, shapes)
    _share(node, layer, built)
    built.layers[node.key] = layer
    for name, shape in zip(node.tops, tops, strict=True):
        built.shapes[name] = shape


def _infer(layer: Layer, shapes: list[Shape]) -> list[Shape]:
    """The tops' shapes, from running the layer on the meta device."""
    bottoms = [torch.empty(shape, device="meta") for shape in shapes]
    try:
        with torch.no_grad():
            tops = layer(*bottoms)
    except LayerError:
        raise
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        given = ", ".join(map(shape_text, shapes))
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise layer.error(
            f"{layer.type_name} can't take bottoms of {given}: {reason}", field="bottom"
        ) from error
    if isinstance(tops, torch.Tensor):
        tops = (tops,)
    if len(tops) != layer.num_tops:
        raise layer.error(
            f"{layer.type_name} makes {len(tops)} tops, the definition names {layer.num_tops}",
            field="top",
        )
    return [tuple(top.shape) for top in tops]


def _share(node: Node, layer: Layer, built: Built) -> None:
    """Blobs of one `param { name }` are one: the first layer's; the others point to it."""
    if len(node.param_names) > len(layer.declared):
        raise layer.error(
            f"{len(node.param_names)} param entries, but the layer has {len(layer.declared)} "
            "params",
            field="param",
        )
    for i, name in enumerate(node.param_names):
        if not name:
            continue
        owner = built.owners.setdefault(name, (node.key, i))
        if owner == (node.key, i):
            continue
        mine = layer.declared[i]
        holder = layer if owner[0] == node.key else built.layers[owner[0]]
        theirs = holder.declared[owner[1]]
        spec = node.spec.param[i]
        permissive = spec.DimCheckMode.Name(spec.share_mode) == "PERMISSIVE"
        same = mine.shape == theirs.shape
        if permissive and not same:
            same = math.prod(mine.shape) == math.prod(theirs.shape)
        if not same:
            raise layer.error(
                f'param "{name}" is {shape_text(mine.shape)} here and {shape_text(theirs.shape)} '
                f'in layer "{owner[0]}", which shares it',
                field="param",
                hint=""
                if permissive or math.prod(mine.shape) != math.prod(theirs.shape)
                else "share_mode: PERMISSIVE takes another shape of the same count.",
            )
        layer.share(mine.attribute, holder, theirs.attribute)


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
    "code", "device", "fill", "forward", "graph", "inputs", "layers", "outputs", "params",
    "program", "run", "save", "shapes", "stored",
}  # fmt: skip
"""Attributes of nets and programs that no layer's module may be called by."""


def module_names(graph: Graph) -> dict[str, str]:
    """The attribute under which each layer hangs in the program, by the layer's key."""
    taken = set(RESERVED)
    return {node.key: identifier(node.key, taken) for node in graph.nodes}


def write_program(
    graph: Graph, layers: dict[str, Layer], inputs: Mapping[str, str], outputs: Iterable[str]
) -> fx.GraphModule:
    """The net as a `torch.fx.GraphModule` that computes `outputs` and nothing else.

    Its arguments are the inputs in order (a name for each value that is given); it returns a
    tuple.

    Raises:
        TorrefyError: an output depends on an input that is not given.
    """
    outputs = list(outputs)
    needed = needed_nodes(graph, inputs.values(), outputs)
    names = module_names(graph)
    root = nn.Module()
    program = fx.Graph()
    values: dict[str, fx.Node] = {}
    taken: set[str] = set()
    for name, value in inputs.items():
        values[value] = program.placeholder(identifier(name, taken))
    for node in graph.nodes:
        if node.key not in needed:
            continue
        target = names[node.key]
        root.add_module(target, layers[node.key])
        call = program.call_module(target, tuple(values[b] for b in node.bottoms))
        if len(node.tops) == 1:
            values[node.tops[0]] = call
        else:
            for i, top in enumerate(node.tops):
                values[top] = program.call_function(operator.getitem, (call, i))
    program.output(tuple(values[name] for name in outputs))
    return fx.GraphModule(root, program, class_name=identifier(graph.name or "Net", set()))


def needed_nodes(graph: Graph, inputs: Iterable[str], outputs: Iterable[str]) -> set[str]:
    """The keys of the nodes that the outputs depend on, given some values."""
    given = set(inputs)
    waiting = [value for value in outputs if value not in given]
    needed: set[str] = set()
    while waiting:
        value = waiting.pop()
        node = graph.producers[value]
        if node.type == "Input":
            raise TorrefyError(f'the input "{node.spec.top[node.tops.index(value)]}" is missing')
        if node.key in needed:
            continue
        needed.add(node.key)
        waiting.extend(b for b in node.bottoms if b not in given)
    return needed
