"""`torrefy check`: what is wrong in definitions."""

from __future__ import annotations

from typing import Any

import click

from torrefy.cli.definition import diagnose_file, state_options
from torrefy.cli.output import (
    json_option,
    note_line,
    one_line,
    print_json,
    problem_json,
    problem_line,
)
from torrefy.errors import Problem, TorrefyError


@click.command(
    epilog="\b\nExample:\n  torrefy check net.prototxt\n"
    "  torrefy check --phase train --json train_val.prototxt"
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@state_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    *,
    files: tuple[str, ...],
    phase: str,
    stages: tuple[str, ...],
    level: int,
    as_json: bool,
) -> None:
    """Tell what is wrong in definitions, with line and column.

    Each FILE is a prototxt. Its problems are printed as file:line:column: layer: message, all
    that are independent at once; then the next file is checked. Notes say what was upgraded.
    Exit code 1 if any file has problems.
    """
    problems: list[Problem] = []
    results: list[dict[str, Any]] = []
    bad = 0
    for file in files:
        found: tuple[Problem, ...] | list[Problem]
        notes: tuple[str, ...] = ()
        layers = 0
        try:
            graph, built = diagnose_file(file, phase, stages, level)
            found, notes, layers = built.problems, graph.notes, len(graph.nodes)
        except TorrefyError as error:
            found = error.problems
        problems.extend(found)
        bad += bool(found)
        results.append(
            {"file": file, "ok": not found, "problems": len(found), "notes": list(notes)}
        )
        if as_json:
            continue
        for problem in found:
            click.echo(problem_line(problem))
        for note in notes:
            click.echo(note_line(file, note))
        if not found:
            click.echo(one_line(f"{file}: ok, {_count(layers, 'layer')} in phase {phase}"))
    if as_json:
        print_json(
            {
                "ok": not problems,
                "problems": [problem_json(problem) for problem in problems],
                "files": results,
            }
        )
    elif problems:
        where = f" in {bad} of {len(files)} files" if len(files) > 1 else ""
        click.echo(f"{_count(len(problems), 'problem')}{where}")
    elif len(files) > 1:
        click.echo(f"no problems in {len(files)} files")
    if problems:
        ctx.exit(1)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
