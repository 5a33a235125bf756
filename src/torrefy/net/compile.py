"""Graph to layers: each made on the meta device, every shape found, problems collected."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from torrefy.errors import LayerError, Problem, did_you_mean
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
        tops = infer(layer, shapes)
    _share(node, layer, built)
    built.layers[node.key] = layer
    for name, shape in zip(node.tops, tops, strict=True):
        built.shapes[name] = shape


def infer(layer: Layer, shapes: list[Shape]) -> list[Shape]:
    """The tops' shapes, from running the layer on the meta device.

    Raises:
        LayerError: the layer can't take these shapes.
    """
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
    own: dict[str, tuple[str, int]] = {}
    for i, name in enumerate(node.param_names):
        if not name:
            continue
        owner = built.owners.get(name) or own.setdefault(name, (node.key, i))
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
    built.owners.update(own)
