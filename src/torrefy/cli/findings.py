"""What is wrong in one file, and, where it is a solver, in the nets that it names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torrefy.cli.definition import SOLVER, diagnose_state, read_definition
from torrefy.errors import Place, Problem, TorrefyError
from torrefy.graph import PHASES, Graph, State, state_of
from torrefy.schema import Definition, upgrade

if TYPE_CHECKING:
    from torrefy.lint.rule import Trap
    from torrefy.net.compile import Built

Chosen = tuple[list[str], list[str]]
"""The lint rules that are selected and ignored, as they were given."""


@dataclass
class Checked:
    """What is known of one file after it was checked."""

    problems: tuple[Problem, ...] = ()
    warnings: list[Trap] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    what: str = ""
    """What a sound file is: "9 layers in phase test"."""
    definition: Definition | None = None


def check_file(
    file: str, chosen: Chosen, state: dict[str, Any], given: Sequence[str]
) -> list[tuple[str, Checked]]:
    """Check a file; behind a solver come the nets that it names, each by its file.

    Args:
        file: a net's or a solver's prototxt.
        chosen: which lint rules.
        state: what `state_options` gives, and "both": whether a net that tells phases apart is
            looked at in both.
        given: the files that are checked for themselves: a solver's nets among them are left to
            that, unless it gives them a level or stages.
    """
    options = {name: state[name] for name in ("shapes", "allow_python")}
    try:
        definition = read_definition(file)
        solver = definition.message.DESCRIPTOR.full_name == SOLVER
        definition = upgrade(definition)
        if not solver:
            states = _states(definition, state)
            options["own_batch"] = len(states) > 1
            return [(file, _check_net(definition, states, chosen, options))]
    except TorrefyError as error:
        return [(file, Checked(error.problems))]
    checked, nets = _check_solver(definition, chosen)
    results = [(file, checked)]
    for name, (net, states) in nets.items():
        plain = all(one == state_of(net.message, one.phase) for one in states)
        if not plain or Path(name).resolve() not in [Path(one).resolve() for one in given]:
            found = _check_net(net, states, chosen, {**options, "own_batch": True})
            if not Path(name).is_file():  # a net within the solver: no file to mend
                found.definition = None
            results.append((name, found))
    return results


def _states(definition: Definition, state: dict[str, Any]) -> list[State]:
    layers = definition.message.layer
    rules = (rule for layer in layers for rule in (*layer.include, *layer.exclude))
    both = state["both"] and any(rule.HasField("phase") for rule in rules)
    phases = PHASES if both else (state["phase"],)
    return [state_of(definition.message, p, state["level"], state["stages"]) for p in phases]


def _check_solver(
    solver: Definition, chosen: Chosen
) -> tuple[Checked, dict[str, tuple[Definition, list[State]]]]:
    """What is wrong with the solver itself; its nets by their files, and the states they run in."""
    from torrefy.lint.run import choose_rules, lint_solver
    from torrefy.train.definition import read_solver
    from torrefy.train.nets import Declared, test_nets, train_net

    problems: dict[Problem, None] = {}  # in order, each once: a missing file is named twice
    declared: list[Declared] = []
    with _collected(problems):
        # As for a run with a folder: whether that of snapshot_prefix is there, T305 tells.
        read_solver(solver, run=".")
    with _collected(problems):
        declared.append(train_net(solver))
    with _collected(problems):
        declared += test_nets(solver)
    nets: dict[str, tuple[Definition, list[State]]] = {}
    for net in declared:
        states = nets.setdefault(net.definition.source.file, (net.definition, []))[1]
        if net.state not in states:
            states.append(net.state)
    warnings = lint_solver(solver, choose_rules(*chosen))
    return Checked(tuple(problems), warnings, solver.notes, "a solver", solver), nets


@contextmanager
def _collected(problems: dict[Problem, None]) -> Iterator[None]:
    try:
        yield
    except TorrefyError as error:
        problems.update(dict.fromkeys(error.problems))


def _check_net(
    definition: Definition, states: Sequence[State], chosen: Chosen, options: dict[str, Any]
) -> Checked:
    """A net in some states. What is found in all of them is told as it is, else where it is."""
    from torrefy.data.augment.read import augmentation_problems
    from torrefy.lint.run import choose_rules, lint_net

    rules = choose_rules(*chosen)
    built = _build(definition, states, **options)
    if len({state.phase for state in states}) == 2 and any(graph.inputs for _, graph, _ in built):
        built = [one for one in built if one[1].inputs]  # it is not for a phase without any input
    problems: dict[Problem, list[State]] = {}
    warnings: dict[Trap, list[State]] = {}
    notes: list[str] = []
    for state, graph, found in built:
        for problem in found.problems:
            problems.setdefault(problem, []).append(state)
        for warning in lint_net(graph, found.shapes, rules):
            warnings.setdefault(warning, []).append(state)
        notes += [*graph.notes, *map(str, found.missing)]
    everywhere = [state for state, _, _ in built]
    whole = built[0][1].definition  # upgraded
    for i in range(len(whole.message.layer)):
        problems.update(dict.fromkeys(augmentation_problems(whole, i), everywhere))
    counts = (f"{count(len(graph.nodes), 'layer')} in {_name(state)}" for state, graph, _ in built)
    told = [replace(p, message=_within(p.message, at, built)) for p, at in problems.items()]
    traps = [
        replace(
            trap, finding=replace(trap.finding, message=_within(trap.finding.message, at, built))
        )
        for trap, at in warnings.items()
    ]
    return Checked(
        tuple(sorted(told, key=lambda one: _position(one.place))),
        sorted(traps, key=lambda one: (*_position(one.place), one.rule.id)),
        tuple(dict.fromkeys(notes)),
        " and ".join(counts),
        definition,
    )


def _build(
    definition: Definition,
    states: Sequence[State],
    shapes: dict[str, tuple[int, ...]],
    allow_python: tuple[str, ...],
    own_batch: bool,
) -> list[tuple[State, Graph, Built]]:
    """A net in each state.

    Where the shapes are given for several of them, the batch that the definition tells is each
    state's own, and an input need not be there in each.
    """
    if not (own_batch and shapes):
        return [(one, *diagnose_state(definition, one, shapes, allow_python)) for one in states]
    bare = [(one, *diagnose_state(definition, one, {}, allow_python)) for one in states]
    anywhere = {name for _, graph, _ in bare for name in graph.inputs}
    found = []
    for state, graph, built in bare:
        batches = dict(_batches(graph, built))
        own = {
            name: (*batches.get(name, shape[:1]), *shape[1:])
            for name, shape in shapes.items()
            if name in graph.inputs or name not in anywhere
        }
        found.append((state, *diagnose_state(definition, state, own, allow_python)))
    return found


def _batches(graph: Graph, built: Built) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The batch of each input of which the definition tells that much but not all."""
    for node in graph.nodes:
        if node.feeds and node.key in built.layers:
            for top, outline in zip(node.spec.top, built.layers[node.key].outline(), strict=True):
                known = tuple(dim for dim in outline if isinstance(dim, int))
                if outline[:1] == known[:1] and len(known) < len(outline):
                    yield top, known[:1]


def _within(message: str, found_in: Sequence[State], built: Sequence[Any]) -> str:
    """A message, and before it where it holds, unless that is everywhere."""
    if len(found_in) == len(built):
        return message
    return f"in {' and '.join(map(_name, found_in))}: {message}"


def _position(place: Place | None) -> tuple[int, int]:
    return (place.line, place.column) if place else (0, 0)


def _name(state: State) -> str:
    if not state.stages:
        return f"phase {state.phase}"
    return f"phase {state.phase}, stage{'s' * (len(state.stages) > 1)} {' '.join(state.stages)}"


def count(number: int, what: str) -> str:
    """A number of things: "1 layer", "2 layers"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
