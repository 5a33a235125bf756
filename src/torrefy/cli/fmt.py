"""`torrefy fmt`: prototxts in one layout."""

from __future__ import annotations

from pathlib import Path

import click

from torrefy.cli.definition import CARD, DATASET, NET, SOLVER, read_definition
from torrefy.cli.output import (
    json_option,
    one_line,
    print_json,
    problem_json,
    problem_line,
    write_file,
)
from torrefy.errors import Problem, TorrefyError
from torrefy.schema import format_text


@click.command(epilog="\b\nExample:\n  torrefy fmt net.prototxt solver.prototxt\n"
               "  torrefy fmt --check *.prototxt")  # fmt: skip
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a file would change.")
@click.option("-o", "--output", metavar="FILE", help="Write there, not over FILE; - for stdout.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    files: tuple[str, ...],
    check: bool,
    output: str | None,
    as_json: bool,
) -> None:
    """Format prototxts, their comments kept.

    Each FILE, of a net, a solver, a zoo card or a dataset, is rewritten with two spaces a level,
    a line for each field of a layer, and short messages on one line. What it says stays the
    same: the new text is read again and compared before it takes the old one's place.
    """
    if output and (check or len(files) > 1):
        raise click.UsageError("-o takes one FILE, and no --check")
    if output == "-" and as_json:
        raise click.UsageError("-o - and --json both print to stdout; give -o a file")
    changed: list[str] = []
    problems: list[Problem] = []
    for file in files:
        try:
            text = _formatted(file)
            if output == "-":
                click.echo(text, nl=False)
            elif output:
                write_file(output, text.encode())
                click.echo(one_line(f"wrote {output}"), err=True)
            elif text.encode() != Path(file).read_bytes():
                if not check:
                    write_file(file, text.encode())
                changed.append(file)
        except TorrefyError as error:
            problems.extend(error.problems)
    if as_json:
        print_json(
            {
                "ok": not problems and not (check and changed),
                "changed": changed,
                "problems": list(map(problem_json, problems)),
            }
        )
    else:
        for problem in problems:
            click.echo(problem_line(problem), err=True)
        for file in changed:
            click.echo(one_line(f"{'would change' if check else 'formatted'} {file}"))
    if problems or (check and changed):
        ctx.exit(1)


def _formatted(file: str) -> str:
    definition = read_definition(file, (NET, SOLVER, CARD, DATASET))
    return format_text(definition.source, definition.message.DESCRIPTOR.full_name)
