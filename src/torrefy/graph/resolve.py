"""NetParameter to Graph: state filter, wiring, in-place names, sharing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from torrefy.errors import DefinitionError, Place, Problem, did_you_mean
from torrefy.graph.state import State
from torrefy.schema import Definition


@dataclass(frozen=True)
class Node:
    """One layer of the resolved net.

    `bottoms` and `tops` are values: names with one producer each. A blob's last value has the
    blob's name; the values that in-place layers overwrite are called `blob@layer`.
    """

    key: str
    """The layer's name, made unique where a definition repeats one: "conv1", "conv1#2"."""
    spec: Any
    """The LayerParameter."""
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    index: int
    """The layer's position in the (upgraded) definition."""
    place: Place | None = None
    param_names: tuple[str, ...] = ()
    """The name that each param is shared under; "" is not shared."""
    feeds: bool = False
    """Whether the layer's tops are inputs of the net."""

    @property
    def name(self) -> str:
        """The layer's name as the definition gives it."""
        return str(self.spec.name)

    @property
    def type(self) -> str:
        """The layer's type."""
        return str(self.spec.type)


@dataclass(frozen=True)
class Graph:
    """A resolved net: nodes in the definition's order, one producer for each value."""

    name: str
    nodes: tuple[Node, ...]
    inputs: dict[str, str]
    """The tops of the layers that feed the net, in order: the blob's name to its first value.

    They differ where an in-place layer overwrites an input.
    """
    outputs: tuple[str, ...]
    """The values that no layer reads, in order."""
    state: State
    definition: Definition
    notes: tuple[str, ...] = ()
    producers: dict[str, Node] = field(default_factory=dict, repr=False)
    """Value to the node that makes it."""

    def place(self, node: Node, *path: str | int) -> Place:
        """Where a part of a node's layer stands in the text."""
        return self.definition.place("layer", node.index, *path)


FEEDING = ("Input",)
"""The types whose tops are inputs of the net, where no layer class is asked."""


def resolve(
    definition: Definition,
    state: State,
    feeding: Collection[str] = FEEDING,
    losses: Collection[str] = (),
) -> Graph:
    """Resolve an upgraded definition (see `schema.upgrade`) in a state.

    Args:
        definition: a NetParameter with its source.
        state: phase, level and stages.
        feeding: the layer types whose tops are inputs of the net.
        losses: the layer types that get a top, called as the layer, where they have none.

    Raises:
        DefinitionError: with all that is wrong: unknown bottoms, blobs produced twice, params
            shared in contradiction.
    """
    graph, problems = examine(definition, state, feeding, losses)
    if problems:
        raise DefinitionError(problems)
    return graph


def examine(
    definition: Definition,
    state: State,
    feeding: Collection[str] = FEEDING,
    losses: Collection[str] = (),
) -> tuple[Graph, list[Problem]]:
    """Resolve as far as that goes: the graph, and all that is wrong with it.

    A bottom that nothing produces is in its node as the value `?blob`, so that the rest of the
    graph can still be examined.
    """
    return _Resolver(definition, state, feeding, losses).run()


class _Resolver:
    def __init__(
        self,
        definition: Definition,
        state: State,
        feeding: Collection[str],
        losses: Collection[str],
    ) -> None:
        self.definition = definition
        self.state = state
        self.feeding = feeding
        self.losses = losses
        self.blobs = {top for layer in definition.message.layer for top in layer.top}
        self.problems: list[Problem] = []
        self.notes = list(definition.notes)
        self.current: dict[str, tuple[int, int]] = {}
        """Blob to the (node, top) that made its present value."""

    def problem(self, layer: Any, index: int, path: tuple[str | int, ...], message: str,
                hint: str = "") -> None:  # fmt: skip
        place = self.definition.place("layer", index, *path)
        self.problems.append(Problem(message, place, layer.name, hint))

    def run(self) -> tuple[Graph, list[Problem]]:
        message = self.definition.message
        kept = []
        for index, layer in enumerate(message.layer):
            if layer.include and layer.exclude:
                self.problem(
                    layer, index, ("exclude",), "has both include and exclude rules; give one kind"
                )
            if self.state.keeps(layer):
                kept.append((index, self.with_loss(layer)))
        self.dropped = {
            top: (layer.name, index)
            for index, layer in enumerate(message.layer)
            for top in layer.top
            if not self.state.keeps(layer)
        }
        if not message.layer:
            place = Place(self.definition.source.file)
            self.problems.append(Problem("the net has no layers", place))
        elif not kept:
            self.problems.append(
                Problem(
                    f"no layer is left in phase {self.state.phase}",
                    Place(self.definition.source.file),
                    hint="Ask for another phase, level or stage.",
                )
            )
        keys: dict[str, int] = {}
        wired: list[tuple[str, int, Any, list[tuple[int, int] | None], list[str]]] = []
        all_tops = {top for _, layer in kept for top in layer.top}
        used: set[tuple[int, int]] = set()
        for position, (index, layer) in enumerate(kept):
            count = keys[layer.name] = keys.get(layer.name, 0) + 1
            key = layer.name if count == 1 else f"{layer.name}#{count}"
            sources: list[tuple[int, int] | None] = []
            for i, bottom in enumerate(layer.bottom):
                source = self.current.get(bottom)
                if source is None:
                    self.unknown_bottom(layer, index, i, bottom, all_tops)
                else:
                    used.add(source)
                sources.append(source)
            for i, top in enumerate(layer.top):
                in_place = i < len(layer.bottom) and layer.bottom[i] == top
                if top in self.current and not in_place:
                    maker = kept[self.current[top][0]]
                    line = self.definition.place("layer", maker[0], "top").line
                    self.problem(
                        layer, index, ("top", i),
                        f'top "{top}" is already produced by layer "{maker[1].name}"'
                        + (f" in line {line}" if line else ""),
                        "A layer may only overwrite its own bottom of the same index; "
                        "choose another name.",
                    )  # fmt: skip
                self.current[top] = (position, i)
            wired.append((key, index, layer, sources, list(layer.top)))
        self.check_sharing(kept)
        return self.graph(wired, used), self.problems

    def with_loss(self, layer: Any) -> Any:
        """A loss layer without tops with one, as Caffe adds it (it calls them "(automatic)")."""
        if layer.top or layer.type not in self.losses:
            return layer
        name = layer.name or "loss"
        while name in self.blobs:
            name += "'"
        self.blobs.add(name)
        layer, old = type(layer)(), layer
        layer.CopyFrom(old)
        layer.top.append(name)
        return layer

    def unknown_bottom(
        self, layer: Any, index: int, i: int, bottom: str, all_tops: set[str]
    ) -> None:
        hint = did_you_mean(bottom, self.current)
        if bottom in self.definition.shapeless:
            hint = f'input: "{bottom}" has no shape; give input_shape {{ dim: … }} for it.'
        elif bottom in all_tops:
            hint = "A layer further down produces it; layers stand in the order they run in."
        elif bottom in self.dropped:
            hint = (
                f'Layer "{self.dropped[bottom][0]}" produces it, but is not part of the net in '
                f"phase {self.state.phase}."
            )
        self.problem(
            layer, index, ("bottom", i),
            f'bottom "{bottom}" is not produced by any layer above it', hint,
        )  # fmt: skip

    def check_sharing(self, kept: list[tuple[int, Any]]) -> None:
        first: dict[tuple[str, str], tuple[Any, float]] = {}
        for index, layer in kept:
            for i, param in enumerate(layer.param):
                for multiplier in ("lr_mult", "decay_mult"):
                    if not param.name or not param.HasField(multiplier):
                        continue
                    value = getattr(param, multiplier)
                    owner, expected = first.setdefault((param.name, multiplier), (layer, value))
                    if value != expected:
                        self.problem(
                            layer, index, ("param", i, multiplier),
                            f'shared param "{param.name}" has {multiplier} {value:g} here and '
                            f'{expected:g} in layer "{owner.name}"',
                            "Give it once, or the same.",
                        )  # fmt: skip

    def graph(
        self,
        wired: list[tuple[str, int, Any, list[tuple[int, int] | None], list[str]]],
        used: set[tuple[int, int]],
    ) -> Graph:
        last = {(p, i): blob for blob, (p, i) in self.current.items()}
        taken = set(self.current)
        names: dict[tuple[int, int], str] = {}
        for position, (key, _, _, _, tops) in enumerate(wired):
            for i, top in enumerate(tops):
                name = last.get((position, i))
                if name is None:
                    name = f"{top}@{key}"
                    while name in taken:
                        name += "'"
                    taken.add(name)
                names[position, i] = name
        nodes = []
        producers: dict[str, Node] = {}
        for position, (key, index, layer, sources, tops) in enumerate(wired):
            node = Node(
                key=key,
                spec=layer,
                bottoms=tuple(
                    names[source] if source else f"?{layer.bottom[i]}"
                    for i, source in enumerate(sources)
                ),
                tops=tuple(names[position, i] for i in range(len(tops))),
                index=index,
                place=self.definition.place("layer", index),
                param_names=tuple(p.name for p in layer.param),
                feeds=layer.type in self.feeding,
            )
            nodes.append(node)
            for top in node.tops:
                producers[top] = node
        inputs = {
            blob: value
            for node in nodes
            if node.feeds
            for blob, value in zip(node.spec.top, node.tops, strict=True)
        }
        outputs = tuple(
            names[p, i]
            for p, (_, _, _, _, tops) in enumerate(wired)
            for i in range(len(tops))
            if (p, i) not in used
        )
        return Graph(
            name=self.definition.message.name,
            nodes=tuple(nodes),
            inputs=inputs,
            outputs=outputs,
            state=self.state,
            definition=self.definition,
            notes=tuple(self.notes),
            producers=producers,
        )
