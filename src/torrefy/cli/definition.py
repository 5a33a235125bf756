"""What commands that take a definition share: the options of its state, and reading it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from torrefy.graph import Graph, state_of
from torrefy.graph.state import PHASES
from torrefy.schema import read_text, upgrade

if TYPE_CHECKING:
    from torrefy.net.compile import Built

Function = TypeVar("Function", bound=Callable[..., Any])


def state_options(function: Function) -> Function:
    """`--phase`, `--stage` (as `stages`) and `--level`."""
    for option in (
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


def diagnose_file(
    file: str, phase: str, stages: tuple[str, ...], level: int
) -> tuple[Graph, Built]:
    """Read and build a definition as far as that goes; what is wrong is in `Built.problems`.

    Raises:
        DefinitionError: the text can't be read; with all of its problems.
    """
    definition = upgrade(read_text(file))
    from torrefy.net.compile import diagnose  # torch; not needed to tell what is wrong with a text

    return diagnose(definition, state_of(definition.message, phase, level, stages))
