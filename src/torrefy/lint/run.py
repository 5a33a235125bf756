"""Running the rules over a definition; leaving out what it asks to ignore; mending what is sure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from torrefy.errors import TorrefyError, did_you_mean
from torrefy.graph import Graph
from torrefy.layers.base import Shape
from torrefy.layers.registry import layer_types
from torrefy.lint.rule import NetSubject, Rule, SolverSubject, Trap
from torrefy.plugins import cached, named
from torrefy.schema import Definition

_COMMENT = re.compile(r"#\s*torrefy:\s*(ignore|ignore-file)\s*=\s*([\w-]+(?:\s*,\s*[\w-]+)*)")
_TOKEN = re.compile(r"[\w.+-]+|\"[^\"\n]*\"|'[^'\n]*'")


@cached
def lint_rules() -> dict[str, Rule]:
    """Every rule that there is, from all plugins, by its id.

    Raises:
        PluginError: two plugins have rules of one id.
    """
    rules = named("torrefy_lint_rules", "id", "lint rule")
    return {id_: rules[id_] for id_ in sorted(rules)}


def choose_rules(select: Collection[str] = (), ignore: Collection[str] = ()) -> list[Rule]:
    """The rules that are asked for.

    Args:
        select: ids, beginnings of ids ("T1") or names; empty: all that are on by default.
        ignore: likewise, what to leave out of them.

    Raises:
        TorrefyError: there is no such rule.
    """
    rules = lint_rules()
    for asked in (*select, *ignore):
        if not any(_named(rule, asked) for rule in rules.values()):
            names = [*rules, *(rule.name for rule in rules.values())]
            raise TorrefyError(
                f'there is no lint rule "{asked}"', hint=did_you_mean(asked.lower(), names)
            )
    return [
        rule
        for rule in rules.values()
        if (any(_named(rule, s) for s in select) if select else rule.default)
        and not any(_named(rule, i) for i in ignore)
    ]


def _named(rule: Rule, asked: str) -> bool:
    return rule.id.startswith(asked.upper()) or rule.name == asked.lower()


def lint_net(
    graph: Graph, shapes: dict[str, Shape], rules: Iterable[Rule] | None = None
) -> list[Trap]:
    """What the rules find in a net, in the order of the text.

    Args:
        graph: the net in one state; layers of other phases are looked at too.
        shapes: the values' shapes, as far as they are known.
        rules: which; None: all that are on by default.
    """
    types = layer_types()
    used = {layer.type for layer in graph.definition.message.layer}
    losses = frozenset(n for n in used if any(cls.loss for cls in types.choose_all(n)))
    subject = NetSubject(graph.definition, graph, shapes, losses)
    return _run(subject, graph.definition, rules, solver=False)


def lint_solver(definition: Definition, rules: Iterable[Rule] | None = None) -> list[Trap]:
    """What the rules find in a solver's definition."""
    return _run(SolverSubject(definition), definition, rules, solver=True)


def _run(
    subject: Any, definition: Definition, rules: Iterable[Rule] | None, solver: bool
) -> list[Trap]:
    found = [
        Trap(rule, finding, definition.place(*finding.path))
        for rule in (choose_rules() if rules is None else rules)
        if rule.solver == solver
        for finding in rule.check(subject)
    ]
    ignored = Ignored(definition.source.text)
    kept = [w for w in found if not ignored.has(w.rule, w.place.line)]
    return sorted(kept, key=lambda w: (w.place.line, w.place.column, w.rule.id))


class Ignored:
    """What the comments of a text ask to ignore.

    `# torrefy: ignore=T104` counts for its own line, or for the next one where it stands alone;
    `# torrefy: ignore-file=T104` for the whole file. Several ids have commas between; a
    reason may follow.
    """

    def __init__(self, text: str) -> None:
        """Read the comments."""
        self._lines: dict[int, set[str]] = {}
        self._file: set[str] = set()
        for number, line in enumerate(text.split("\n"), 1):
            for match in _COMMENT.finditer(line):
                ids = {name.strip() for name in match[2].split(",")}
                if match[1] == "ignore-file":
                    self._file |= ids
                else:
                    alone = not line[: match.start()].strip()
                    self._lines.setdefault(number + alone, set()).update(ids)

    def has(self, rule: Rule, line: int) -> bool:
        """Whether a rule's findings in a line are ignored."""
        return any(_named(rule, name) for name in self._file | self._lines.get(line, set()))


def mended(definition: Definition, warnings: Iterable[Trap]) -> tuple[str, int]:
    """The text with every sure fix made, and how many there were."""
    text = definition.source.text
    edits = sorted(_edits(definition, warnings), reverse=True)
    for start, end, value in edits:
        text = f"{text[:start]}{value}{text[end:]}"
    return text, len(edits)


def _edits(definition: Definition, warnings: Iterable[Trap]) -> Iterator[tuple[int, int, str]]:
    for warning in warnings:
        if warning.finding.edit:
            start = definition.offset(*warning.finding.path)
            token = _TOKEN.match(definition.source.text, start)
            if token:
                yield start, token.end(), warning.finding.edit
