"""Graph to layers: each made on the meta device, every shape found, problems collected."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from torrefy.errors import DefinitionError, LayerError, PluginError, Problem, did_you_mean
from torrefy.graph import Graph, Node, State, examine
from torrefy.layers.base import MOST_ELEMENTS, Layer, Shape, shape_text
from torrefy.layers.registry import layer_types
from torrefy.net.given import Given, leave_wanted, shape_wanted
from torrefy.schema import Definition


@dataclass
class Built:
    """What compiling found: the layers by their keys and the shape of every value."""

    layers: dict[str, Layer] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    missing: list[Problem] = field(default_factory=list)
    """What is not wrong, but must be given before the net can run: a shape that only the data
    tell, leave to run a Python class. Layers that depend on it are passed over."""
    owners: dict[str, tuple[str, int]] = field(default_factory=dict)
    """A shared param's name to the layer and the index of the blob that holds it."""

    def demand_all(self) -> None:
        """Raise unless the net can run.

        Raises:
            DefinitionError: with all that is wrong or missing, in the order of the text.
        """
        if self.problems or self.missing:
            raise DefinitionError(_in_order([*self.problems, *self.missing]))


def _in_order(problems: list[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda p: (p.place.line, p.place.column) if p.place else (0, 0))


def diagnose(
    definition: Definition,
    state: State,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    allow_python: Collection[str] = (),
) -> tuple[Graph, Built]:
    """Resolve and build an upgraded definition as far as that goes.

    `Built.problems` is all that is wrong with it, in the order of the text; `compile_net` tells
    what the arguments are.
    """
    given = Given(shapes or {}, allow_python)
    types = layer_types()
    used = [types.choose_all(layer.type) for layer in definition.message.layer]
    feeding = {cls.type_name for classes in used for cls in classes if cls.feeds}
    losses = {cls.type_name for classes in used for cls in classes if cls.loss}
    if given.shapes:
        definition = given.written_into(definition)
    graph, problems = examine(definition, state, feeding, losses)
    built = build(graph, given)
    built.problems = _in_order([*given.problems(graph), *problems, *built.problems])
    return graph, built


def build(graph: Graph, given: Given) -> Built:
    """Make every layer on the meta device and find every shape; problems are collected.

    A layer whose bottoms are unknown because of what is wrong or missing above it is passed over.
    """
    types = layer_types()
    present = types.sole_owners(node.type for node in graph.nodes)
    built = Built()
    for node in graph.nodes:
        if node.type not in types:
            built.problems.append(_unknown_type(graph, node, types))
            continue
        try:
            cls = types.choose(
                node.type,
                graph.definition.dialect,
                told_by=partial(_claims, node.spec),
                present=present,
            )
        except PluginError as error:
            told = error.within(place=graph.place(node, "type"), layer=node.name)
            built.problems.extend(told.problems)
            continue
        try:
            _build_node(graph, node, cls, built, given)
        except LayerError as error:
            place = graph.place(node, *([error.field] if error.field else []))
            built.problems.extend(error.within(place=place, layer=node.name).problems)
        except Exception as error:
            if cls.__module__.startswith("torrefy."):
                raise
            reason = f"{cls.__module__}.{cls.__qualname__} failed: {type(error).__name__}: {error}"
            built.problems.append(Problem(reason, node.place, node.name))
    return built


def _claims(spec: Any, cls: type[Layer]) -> bool:
    try:
        return cls.claims(spec)
    except Exception as error:
        raise PluginError(
            f"{cls.__module__}.{cls.__qualname__}.claims failed: {type(error).__name__}: {error}"
        ) from error


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


def _build_node(graph: Graph, node: Node, cls: type[Layer], built: Built, given: Given) -> None:
    layer = cls(node.spec, len(node.tops))
    layer.train(graph.state.phase == "train")
    _check_counts(node, cls, layer)
    if cls.feeds:
        _feed(node, layer, built, given)
        return
    code = layer.foreign_code()
    if code and not given.allows(code):
        built.missing.append(leave_wanted(node, graph.place(node, cls.param), code))
        return
    if any(bottom not in built.shapes for bottom in node.bottoms):
        return  # a problem further up; its own message is enough
    shapes = [built.shapes[bottom] for bottom in node.bottoms]
    layer.setup(*shapes)
    tops = infer(layer, shapes)
    _share(node, layer, built)
    built.layers[node.key] = layer
    for name, shape in zip(node.tops, tops, strict=True):
        built.shapes[name] = shape


def _feed(node: Node, layer: Layer, built: Built, given: Given) -> None:
    """The shapes of inputs: what is given, else what the layer tells of them."""
    blobs = list(node.spec.top)
    outlines: Sequence[Sequence[int | str]] = [given.shapes.get(blob, ()) for blob in blobs]
    if not given.shapes.keys() >= set(blobs):
        told = zip(blobs, layer.outline(), strict=True)
        outlines = [given.shapes.get(blob, outline) for blob, outline in told]
    _share(node, layer, built)
    built.layers[node.key] = layer
    for blob, value, outline in zip(blobs, node.tops, outlines, strict=True):
        shape = tuple(dim for dim in outline if isinstance(dim, int))
        if len(shape) < len(outline):
            built.missing.append(shape_wanted(node, blob, tuple(outline)))
            continue
        if math.prod(shape) >= MOST_ELEMENTS:
            raise layer.error(
                f'"{blob}" would have {math.prod(shape):,} elements; a blob holds fewer than '
                f"{MOST_ELEMENTS:,}"
            )
        built.shapes[value] = shape


def infer(layer: Layer, shapes: list[Shape]) -> list[Shape]:
    """The tops' shapes: what the layer says itself, else from running it on the meta device.

    Raises:
        LayerError: the layer can't take these shapes.
    """
    known = layer.shapes(*shapes)
    if known is not None:
        return list(known)
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
