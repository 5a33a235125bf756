"""`torrefy fmt`: prototxts in one layout."""

from __future__ import annotations

from typing import Any

import click

from torrefy.cli.definition import read_definition
from torrefy.cli.output import (
    json_option,
    one_line,
    print_json,
    problem_json,
    problem_line,
    write_file,
)
from torrefy.errors import Problem, TorrefyError
from torrefy.schema.format import format_text


@click.command(epilog="\b\nExample:\n  torrefy fmt net.prototxt solver.prototxt\n"
               "  torrefy fmt --check *.prototxt")  # fmt: skip
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a file would change.")
@json_option
@click.pass_context
def command(ctx: click.Context, /, *, files: tuple[str, ...], check: bool, as_json: bool) -> None:
    """Format prototxts, their comments kept.

    Each FILE, of a net or a solver, is rewritten with two spaces a level, a line for each field
    of a layer, and short messages on one line. What it says stays the same: the new text is read
    again and compared before it takes the old one's place.
    """
    changed: list[str] = []
    problems: list[Problem] = []
    for file in files:
        try:
            definition = read_definition(file)
            source = definition.source
            text = format_text(source, definition.message.DESCRIPTOR.full_name)
            if text != source.text:
                changed.append(file)
                if not check:
                    write_file(file, text.encode())
        except TorrefyError as error:
            problems.extend(error.problems)
    if as_json:
        result: dict[str, Any] = {"ok": not problems and not (check and changed)}
        print_json({**result, "changed": changed, "problems": list(map(problem_json, problems))})
    else:
        for problem in problems:
            click.echo(problem_line(problem), err=True)
        for file in changed:
            click.echo(one_line(f"{'would change' if check else 'formatted'} {file}"))
    if problems or (check and changed):
        ctx.exit(1)
