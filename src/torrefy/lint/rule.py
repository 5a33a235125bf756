"""What a lint rule is, what it sees, and what it finds."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torrefy.errors import Place
from torrefy.graph import Graph, Node
from torrefy.layers.base import Shape
from torrefy.schema import Definition


@dataclass(frozen=True)
class Finding:
    """One trap in one place."""

    message: str
    """What is so, and what it leads to."""
    fix: str
    """What to do about it."""
    path: tuple[str | int, ...] = ()
    """Where in the definition: ("layer", 3, "param")."""
    layer: str = ""
    edit: str = ""
    """A value that may safely stand in place of the one at `path`; empty: none is sure."""


@dataclass(frozen=True)
class Rule:
    """A trap that is looked for. Plugins add more by the hook `torrefy_lint_rules`.

    The docstring of `check` is the rule's page in the docs: its first line says what is wrong,
    the rest why, with the source.
    """

    id: str
    """"T104": T1 are nets, T2 data, T3 solvers; a plugin takes letters of its own."""
    name: str
    """"zero-weights"."""
    check: Callable[[Any], Iterator[Finding]]
    """Takes a `NetSubject`, or a `SolverSubject` where `solver` is set."""
    solver: bool = False
    default: bool = True
    """Whether it is looked for unless it is asked for by `--select`."""

    @property
    def doc(self) -> str:
        """What the rule's page says."""
        return inspect.getdoc(self.check) or ""


RULES: list[Rule] = []
"""The built-in rules, in the order of their ids; `@rule` adds to it."""

Check = Callable[[Any], Iterator[Finding]]


def rule(
    id: str,  # noqa: A002  its name in the docs
    name: str,
    *,
    solver: bool = False,
    default: bool = True,
) -> Callable[[Check], Check]:
    """Make a function a built-in rule: `@rule("T104", "zero-weights")`."""

    def add(check: Check) -> Check:
        RULES.append(Rule(id, name, check, solver, default))
        return check

    return add


@dataclass(frozen=True)
class NetSubject:
    """A net as the rules see it: all of its layers, and the graph of one state."""

    definition: Definition
    """Upgraded."""
    graph: Graph
    shapes: dict[str, Shape] = field(default_factory=dict)
    """The shape of each value of the graph that could be told."""
    losses: frozenset[str] = frozenset()
    """The layer types that are losses."""

    @functools.cached_property
    def layers(self) -> list[tuple[int, Any]]:
        """Every layer of the definition, of all phases, with its index."""
        return list(enumerate(self.definition.message.layer))

    @functools.cached_property
    def trains(self) -> bool:
        """Whether the definition is for training: a loss is in it, in whatever phase."""
        return any(layer.type in self.losses for _, layer in self.layers)

    @functools.cached_property
    def readers(self) -> dict[str, list[Node]]:
        """The nodes that read each value."""
        found: dict[str, list[Node]] = {}
        for node in self.graph.nodes:
            for bottom in node.bottoms:
                found.setdefault(bottom, []).append(node)
        return found

    def of_type(self, *types: str) -> Iterator[tuple[int, Any]]:
        """The definition's layers of some types."""
        return ((i, layer) for i, layer in self.layers if layer.type in types)

    def producer(self, node: Node, bottom: int = 0) -> Node | None:
        """The node that makes a bottom of another, if that is known."""
        return self.graph.producers.get(node.bottoms[bottom]) if node.bottoms else None


@dataclass(frozen=True)
class SolverSubject:
    """A solver's definition as the rules see it."""

    definition: Definition

    @property
    def message(self) -> Any:
        """The SolverParameter."""
        return self.definition.message


@dataclass(frozen=True)
class Trap:
    """A finding with the rule that found it and the place where it stands."""

    rule: Rule
    finding: Finding
    place: Place

    def __str__(self) -> str:
        layer = f'layer "{self.finding.layer}": ' if self.finding.layer else ""
        return (
            f"{self.place}: warning: {layer}{self.finding.message}. {self.finding.fix} "
            f"[{self.rule.id} {self.rule.name}]"
        )


def on_layer(index: int, layer: Any, message: str, fix: str, *path: str | int) -> Finding:
    """A finding about a layer, or about the part of it that `path` names."""
    return Finding(message, fix, ("layer", index, *path), layer.name)
