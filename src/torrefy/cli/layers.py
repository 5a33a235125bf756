"""`torrefy layers`: the layer types that there are, and what each takes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from torrefy.cli.output import console, json_option, one_line, print_json
from torrefy.errors import TorrefyError, did_you_mean

if TYPE_CHECKING:
    from torrefy.layers.describe import Description


@click.command(epilog="\b\nExample:\n  torrefy layers\n  torrefy layers Pooling")
@click.argument("types", nargs=-1, metavar="[TYPE]...")
@json_option
def command(*, types: tuple[str, ...], as_json: bool) -> None:
    """List the layer types, or print the page of each TYPE.

    A page has the formula, blobs and shapes, what differs from PyTorch, the parameters with
    their defaults, and an example. Types of plugins are among them.
    """
    from torrefy.layers.describe import describe
    from torrefy.layers.registry import layer_types

    known = layer_types()
    for name in types:
        if name not in known:
            raise TorrefyError(f'there is no layer type "{name}"', hint=did_you_mean(name, known))
    names = types or sorted(known)
    classes = [cls for name in names for cls in known.choose_all(name) or [known[name]]]
    pages = [describe(cls) for cls in classes]
    if as_json:
        print_json({"ok": True, "layers": [asdict(page) for page in pages]})
    elif types:
        for page in pages:
            _print_page(page)
    else:
        _print_list(pages)


def _print_list(pages: list[Description]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("type", "bottoms", "tops", "what it does"):
        table.add_column(column, overflow="fold")
    for page in pages:
        summary = page.summary + (f" (Not for ONNX: {page.onnx}.)" if page.onnx else "")
        table.add_row(page.type, page.bottoms, page.tops, one_line(summary))
    console().print(table)


def _print_page(page: Description) -> None:
    from rich.table import Table

    place = "may work in place" if page.in_place else "not in place"
    click.echo(f"{page.type}: bottoms {page.bottoms}; tops {page.tops}; {place}\n")
    click.echo(f"{page.text}\n")
    if page.parameters:
        table = Table(box=None, pad_edge=False)
        documented = any(p.doc for p in page.parameters)
        for column in (page.field, "takes", "default", *(["what it is"] if documented else [])):
            table.add_column(column, overflow="fold")
        for p in page.parameters:
            kind = p.kind + (" (repeated)" if p.repeated else "")
            table.add_row(p.name, kind, p.default, *([one_line(p.doc)] if documented else []))
        console().print(table)
        click.echo()
    click.echo(page.example)
    if page.onnx:
        click.echo(f"\nNot for ONNX: {page.onnx}.")
    if not page.origin.startswith("torrefy."):
        click.echo(f"\nFrom {page.origin}.")
    click.echo()
