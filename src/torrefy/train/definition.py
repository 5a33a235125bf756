"""A solver's definition: read, and all that is wrong with it told before any net is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from google.protobuf.message import Message

from torrefy.errors import DefinitionError, Place, Problem, TorrefyError, did_you_mean
from torrefy.lint.rule import SolverSubject
from torrefy.lint.solvers import never_tested, no_rate
from torrefy.schema import Definition, parse_text, read_text, upgrade, write_text
from torrefy.schema.solver import snapshot_prefix
from torrefy.train import snapshots
from torrefy.train.optimisers import REGULARISATIONS, SolverOptimizer, solver_types
from torrefy.train.policies import Policy, find_policy

MESSAGE = "caffe.SolverParameter"

READ_OVER = {
    "solver_mode": "the device is chosen by the argument `device`",
    "device_id": "the device is chosen by the argument `device`",
    "snapshot_diff": "gradients are not written",
}
"""Fields that change nothing here, and why."""
AT_LEAST = {
    "max_iter": 0, "snapshot": 0, "display": 0, "test_interval": 0, "warmup_iter": 0,
    "iter_size": 1, "average_loss": 1,
}  # fmt: skip
"""The least that fields may be."""


@dataclass(frozen=True)
class Plan:
    """What a solver's definition asks for."""

    definition: Definition
    policy: Policy
    kind: type[SolverOptimizer]
    notes: tuple[str, ...]
    """What was upgraded, and what is read over."""
    snapshot_prefix: str
    """What the names of snapshots begin with."""

    @property
    def parameter(self) -> Any:
        """The SolverParameter."""
        return self.definition.message

    @property
    def snapshot_format(self) -> str:
        """BINARYPROTO or HDF5."""
        return str(self.parameter.SnapshotFormat.Name(self.parameter.snapshot_format))

    def optimizer(self, params: Any) -> SolverOptimizer:
        """The optimiser for params, or groups of them."""
        return self.kind(params, **self.kind.options(self.parameter))


def read_solver(solver: str | Path | Definition | Message, run: str | Path | None = None) -> Plan:
    """Read a solver and find what it asks for.

    Args:
        solver: a prototxt's path, a definition read before, or a SolverParameter.
        run: the folder that snapshots are written to, made when they are; None: that of
            `snapshot_prefix`.

    Raises:
        DefinitionError: with all that is wrong with it, save for its nets.
    """
    if isinstance(solver, Message):
        solver = parse_text(write_text(solver), MESSAGE, "SolverParameter")
    elif isinstance(solver, (str, Path)):
        solver = _read(solver)
    elif not isinstance(solver, Definition):
        raise TorrefyError(
            f"a solver is a path or a SolverParameter, found {type(solver).__name__}"
        )
    definition = upgrade(solver)
    problems = list(_numbers(definition))
    prefix = snapshot_prefix(definition)
    if run is not None:
        prefix = str(Path(run) / Path(prefix).name)
    elif definition.message.snapshot or definition.message.snapshot_after_train:
        try:
            snapshots.check_folder(prefix, definition.place("snapshot_prefix"))
        except TorrefyError as error:
            problems.extend(error.problems)
    policy: Policy | None = None
    kind: type[SolverOptimizer] | None = None
    try:
        policy = find_policy(definition)
    except DefinitionError as error:
        problems.extend(error.problems)
    try:
        kind = _kind(definition)
    except DefinitionError as error:
        problems.extend(error.problems)
    if problems or policy is None or kind is None:
        raise DefinitionError(sorted(problems, key=_where))
    parameter = definition.message
    notes = [
        f"{definition.place(name)}: {name} is read over: {reason}"
        for name, reason in READ_OVER.items()
        if parameter.HasField(name)
    ]
    notes += _missing(definition)
    return Plan(definition, policy, kind, (*definition.notes, *notes), prefix)


def _missing(definition: Definition) -> Iterator[str]:
    """What is left out and so is 0, as in Caffe, which hardly anybody means."""
    for rule in (no_rate, never_tested):
        for finding in rule(SolverSubject(definition)):
            yield f"{definition.place(*finding.path)}: {finding.message}"


def _read(path: str | Path) -> Definition:
    try:
        return read_text(path, MESSAGE)
    except DefinitionError:
        try:
            net = read_text(path)
        except DefinitionError:
            net = None
        if net is None:
            raise
        raise DefinitionError(
            "this is a net's definition, not a solver's",
            place=Place(str(path)),
            hint="Give a solver that names it as its net.",
        ) from None


def _numbers(definition: Definition) -> Iterator[Problem]:
    parameter = definition.message
    for name, least in AT_LEAST.items():
        value = getattr(parameter, name)
        if value < least:
            message = f"{name} must be {least} or more, found {value}"
            yield Problem(message, definition.place(name))
    kind = parameter.regularization_type
    if kind not in REGULARISATIONS:
        hint = did_you_mean(kind, REGULARISATIONS) or "It is L2 or L1."
        place = definition.place("regularization_type")
        yield Problem(f'there is no regularization_type "{kind}"', place, hint=hint)


def _kind(definition: Definition) -> type[SolverOptimizer]:
    known = solver_types()
    parameter, place = definition.message, definition.place("type")
    name = parameter.type
    if name not in known:
        raise DefinitionError(
            f'there is no solver type "{name}"',
            place=place,
            hint=did_you_mean(name, known) or f"There are {', '.join(known)}.",
        )
    found: type[SolverOptimizer] = known[name]
    if parameter.regularization_type in REGULARISATIONS and parameter.iter_size > 0:
        try:
            found([torch.zeros(1)], **found.options(parameter))  # what it refuses, it refuses now
        except TorrefyError as error:
            raise DefinitionError(error.within(place=place).problems) from None
    return found


def _where(problem: Problem) -> tuple[int, int]:
    return (problem.place.line, problem.place.column) if problem.place else (0, 0)
