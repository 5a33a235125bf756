"""Solvers of older days, and the one field that Caffe fills in from the file's name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torrefy.errors import DefinitionError
from torrefy.schema.source import Definition

SOLVER_TYPES = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")
"""The types of solvers by the numbers of the older enum `solver_type`."""


def upgrade_solver(definition: Definition) -> Definition:
    """A solver in today's form: the enum `solver_type` becomes the text `type`.

    Raises:
        DefinitionError: both are given.
    """
    old = definition.message
    if not old.HasField("solver_type"):
        return definition
    if old.HasField("type"):
        raise DefinitionError(
            "both type and its older form solver_type are given; give type alone",
            place=definition.place("solver_type"),
        )
    message = type(old)()
    message.CopyFrom(old)
    message.type = SOLVER_TYPES[old.solver_type]
    message.ClearField("solver_type")
    notes = (*definition.notes, "upgraded from solver_type")
    return replace(definition, message=message, notes=notes)


def snapshot_prefix(definition: Definition) -> str:
    """What the names of a solver's snapshots begin with, as Caffe 1.0 fills it in.

    Without `snapshot_prefix` it is the solver's file without its ending ("lenet/solver.prototxt"
    gives "lenet/solver"); a folder that exists gets the file's name added ("out/solver").
    Caffe's upgrade tool leaves the text alone, and so does `upgrade`: the rule is the training's.
    """
    given = str(definition.message.snapshot_prefix)
    file = Path(definition.source.file)
    if not definition.message.HasField("snapshot_prefix"):
        return str(file.with_suffix(""))
    return str(Path(given) / file.stem) if Path(given).is_dir() else given
