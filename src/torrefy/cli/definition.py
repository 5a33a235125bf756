"""What commands that take a definition share: the options of its state, and reading it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from torrefy.errors import DefinitionError
from torrefy.graph import Graph, State, state_of
from torrefy.graph.state import PHASES
from torrefy.schema import Definition, read_text, upgrade
from torrefy.schema.source import read_source
from torrefy.schema.text import parse

if TYPE_CHECKING:
    from torrefy.net.compile import Built

NET = "caffe.NetParameter"
SOLVER = "caffe.SolverParameter"
CARD = "torrefy.Card"
DATASET = "torrefy.Dataset"

Function = TypeVar("Function", bound=Callable[..., Any])


class _Shape(click.ParamType[tuple[str, tuple[int, ...]]]):
    """`data=1x3x227x227`, as the pair of a blob's name and its shape."""

    name = "shape"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        """Read one."""
        blob, _, dims = value.rpartition("=")
        if not blob or not re.fullmatch(r"[0-9]+(x[0-9]+)*", dims):
            self.fail(f'"{value}" is no shape; write it as data=1x3x227x227', param, ctx)
        return blob, tuple(map(int, dims.split("x")))


def _by_name(
    _: click.Context, __: click.Parameter, pairs: tuple[tuple[str, tuple[int, ...]], ...]
) -> dict[str, tuple[int, ...]]:
    return dict(pairs)


def state_options(function: Function) -> Function:
    """What says which net a definition is.

    `--phase`, `--stage` (as `stages`), `--level`, `--shape` (as `shapes`) and `--allow-python`.
    """
    for option in (
        click.option(
            "--allow-python", "allow_python", multiple=True, metavar="MODULE.CLASS",
            help="A class that Python layers may run, found as Python finds modules (PYTHONPATH); "
            "MODULE.* for all of a module.",
        ),
        click.option(
            "--shape", "shapes", type=_Shape(), multiple=True, metavar="BLOB=NxCxHxW",
            callback=_by_name, help="The shape of an input, over the definition's own.",
        ),
        click.option("--level", type=int, default=0, metavar="N", help="The net's level."),
        click.option(
            "--stage", "stages", multiple=True, metavar="NAME",
            help="A stage that the net is in; may be given several times.",
        ),
        click.option(
            "--phase", type=click.Choice(PHASES, case_sensitive=False), default="test",
            show_default=True, help="The phase to build the net for.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def read_definition(file: str, kinds: Sequence[str] = (NET, SOLVER)) -> Definition:
    """A net's definition or a solver's: whichever the text reads as, or nearly reads as."""
    source = read_source(file)
    errors = []
    for kind in kinds:
        try:
            return parse(source, kind)
        except DefinitionError as error:
            errors.append(error)
    raise min(errors, key=lambda error: len(error.problems))


def is_zoo_name(model: str) -> bool:
    """Whether a name is a model's: no file's, or that of a folder with a card."""
    if (Path(model) / "card.prototxt").is_file():
        return True
    return not (Path(model).exists() or "/" in model or model.endswith(".prototxt"))


def diagnose_file(file: str, **state: Any) -> tuple[Graph, Built]:
    """Read and build a definition as far as that goes; what is wrong is in `Built.problems`.

    The state is what `state_options` gives.

    Raises:
        DefinitionError: the text can't be read; with all of its problems.
    """
    return diagnose_definition(read_text(file), **state)


def diagnose_definition(
    definition: Definition,
    *,
    phase: str,
    stages: tuple[str, ...],
    level: int,
    shapes: Mapping[str, tuple[int, ...]],
    allow_python: tuple[str, ...],
) -> tuple[Graph, Built]:
    """Upgrade and build a definition as far as that goes."""
    definition = upgrade(definition)
    state = state_of(definition.message, phase, level, stages)
    return diagnose_state(definition, state, shapes, allow_python)


def diagnose_state(
    definition: Definition,
    state: State,
    shapes: Mapping[str, tuple[int, ...]],
    allow_python: tuple[str, ...],
) -> tuple[Graph, Built]:
    """Build an upgraded definition in a state as far as that goes.

    What allowed Python classes print on the way goes to stderr: stdout is for results.
    """
    from torrefy.net.compile import diagnose  # torch; not needed to tell what is wrong with a text

    with redirect_stdout(sys.stderr):
        return diagnose(definition, state, shapes=shapes, allow_python=allow_python)
