"""`torrefy check`: what is wrong in definitions, and the traps in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from torrefy.cli.definition import state_options
from torrefy.cli.findings import Checked, check_file, count
from torrefy.cli.output import (
    json_option,
    note_line,
    one_line,
    print_json,
    problem_json,
    problem_line,
    write_file,
)
from torrefy.errors import Problem, TorrefyError

if TYPE_CHECKING:
    from torrefy.lint.rule import Trap


@click.command(
    epilog="\b\nExample:\n  torrefy check net.prototxt\n"
    "  torrefy check --phase train --json train_val.prototxt"
)
@click.argument("files", nargs=-1, metavar="FILE...")
@click.option("--select", "select", multiple=True, metavar="RULE",
              help="Look for these traps only: an id, its beginning (T1), or a name.")  # fmt: skip
@click.option("--ignore", "ignore", multiple=True, metavar="RULE", help="Leave out these traps.")
@click.option("--fix", is_flag=True, help="Mend in the file what can surely be mended.")
@click.option("--strict", is_flag=True, help="Count warnings as problems.")
@click.option("--explain", metavar="RULE", help="Print what a rule looks for and why.")
@state_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    files: tuple[str, ...],
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    fix: bool,
    strict: bool,
    explain: str | None,
    as_json: bool,
    **state: Any,
) -> None:
    """Tell what is wrong in definitions, with line and column.

    Each FILE is a net's or a solver's prototxt. Its problems are printed as file:line:column:
    layer: message, all that are independent at once; then the next file is checked. A net that
    tells phases apart is looked at in both, unless --phase is given (of a --shape the batch is then
    that of each phase); behind a solver come the nets that it names, in the states that it runs
    them in. No data are opened. Warnings are traps
    that Caffe falls into without a word; `# torrefy: ignore=T104` on a line silences one. Notes
    say what was upgraded. Exit code 1 if any file has problems.
    """
    if explain is not None:
        _explain(explain, as_json)
        return
    if not files:
        raise click.UsageError("Missing argument 'FILE...'.")
    chosen = _split(select), _split(ignore)
    if any(chosen):  # a rule that is not there is told once, before any file
        from torrefy.lint.run import choose_rules

        choose_rules(*chosen)
    asked = ctx.get_parameter_source("phase") is not ParameterSource.DEFAULT
    results = [
        result
        for file in files
        for result in check_file(file, chosen, {**state, "both": not asked}, files)
    ]
    for file, checked in results:
        if fix and checked.definition:
            _mend(checked)
        if not as_json:
            _print(file, checked)
    problems = [problem for _, checked in results for problem in checked.problems]
    warnings = [warning for _, checked in results for warning in checked.warnings]
    if as_json:
        print_json(
            {
                "ok": not problems and not (strict and warnings),
                "problems": [problem_json(problem) for problem in problems],
                "warnings": [_warning_json(warning) for warning in warnings],
                "files": [
                    {"file": file, "ok": not checked.problems, "problems": len(checked.problems),
                     "warnings": len(checked.warnings), "notes": list(checked.notes)}
                    for file, checked in results
                ],
            }
        )  # fmt: skip
    else:
        _summarize(results, len(problems), len(warnings))
    if problems or (strict and warnings):
        ctx.exit(1)


def _explain(name: str, as_json: bool) -> None:
    """Print the page of a rule, or of several whose ids begin so."""
    from torrefy.lint.run import choose_rules

    rules = choose_rules([name])
    if as_json:
        pages = [{"rule": rule.id, "name": rule.name, "text": rule.doc} for rule in rules]
        print_json({"ok": True, "rules": pages})
        return
    click.echo("\n\n".join(f"{rule.id} {rule.name}\n\n{rule.doc}" for rule in rules))


def _split(names: tuple[str, ...]) -> list[str]:
    """Rules may be given one by one or with commas between."""
    return [part.strip() for name in names for part in name.split(",") if part.strip()]


def _mend(checked: Checked) -> None:
    """Write the sure fixes into the file, and drop their warnings."""
    from torrefy.lint.run import mended

    definition = checked.definition
    if definition is None:
        return
    text, number = mended(definition, checked.warnings)
    if number:
        try:
            write_file(definition.source.file, text.encode())
        except TorrefyError as error:  # the other files are told of all the same
            checked.problems += error.problems
            return
        checked.notes = (*checked.notes, f"{count(number, 'trap')} mended")
        checked.warnings = [w for w in checked.warnings if not w.finding.edit]


def _print(file: str, checked: Checked) -> None:
    for problem in checked.problems:
        click.echo(problem_line(problem))
    for warning in checked.warnings:
        click.echo(one_line(str(warning)))
    for note in checked.notes:
        click.echo(note_line(file, note))
    if not checked.problems:
        click.echo(one_line(f"{file}: ok, {checked.what}"))


def _summarize(results: list[tuple[str, Checked]], problems: int, warnings: int) -> None:
    bad = sum(bool(checked.problems) for _, checked in results)
    counts = [count(problems, "problem")] if problems else []
    counts += [count(warnings, "warning")] if warnings else []
    if counts:
        where = f" in {bad} of {len(results)} files" if problems and len(results) > 1 else ""
        click.echo(" and ".join(counts) + where)
    elif len(results) > 1:
        click.echo(f"no problems in {len(results)} files")


def _warning_json(warning: Trap) -> dict[str, Any]:
    finding = warning.finding
    problem = Problem(finding.message, warning.place, finding.layer, finding.fix)
    return {
        **problem_json(problem),
        "rule": warning.rule.id,
        "name": warning.rule.name,
        "fixable": bool(finding.edit),
    }
