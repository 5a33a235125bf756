"""`torrefy upgrade`: an older definition, or an older file of weights, in today's form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from torrefy.cli.definition import read_definition
from torrefy.cli.output import json_option, note_line, one_line, print_json, write_file
from torrefy.schema import upgrade, write_text


@click.command(
    epilog="\b\nExample:\n  torrefy upgrade old.prototxt -o new.prototxt\n"
    "  torrefy upgrade old.caffemodel -o new.caffemodel"
)
@click.argument("file")
@click.option("-o", "--output", metavar="FILE", help="The file to write.  [default: print it]")
@json_option
def command(*, file: str, output: str | None, as_json: bool) -> None:
    """Bring an old definition or file of weights to today's form.

    FILE is the prototxt of a net or a solver, or a .caffemodel. V0 and V1 layers, `input` and
    `input_dim`, old data transforms and `solver_type` are rewritten as Caffe's own tools do it.
    Comments are not kept, but for the dialect; of a .caffemodel the layers' names, types and
    blobs are.
    """
    result: dict[str, Any] = {"ok": True, "file": file, "output": output}
    if file.endswith(".caffemodel"):
        notes = _upgrade_weights(file, output)
    elif output and output.endswith(".caffemodel"):
        raise click.UsageError("FILE is no .caffemodel, so neither is what is written")
    else:
        definition = upgrade(read_definition(file))
        notes = definition.notes
        text = write_text(definition.message, definition.dialect)
        if not output:
            result["text"] = text
        if output:
            write_file(output, text.encode())
        elif not as_json:
            click.echo(text, nl=False)
    if as_json:
        print_json({**result, "notes": list(notes)})
        return
    for note in notes:
        click.echo(note_line(file, note), err=True)
    if output:
        click.echo(one_line(f"wrote {output}"), err=True)


def _upgrade_weights(file: str, output: str | None) -> tuple[str, ...]:
    from torrefy.net.stored import read_weights, write_weights

    if output is None:
        raise click.UsageError("weights are not printed; give -o FILE")
    if Path(output).exists() and Path(output).samefile(file):
        raise click.UsageError("give another file than the one that is read")
    stored = read_weights(file)
    write_weights(output, stored)
    return stored.notes
