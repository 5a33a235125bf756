"""`torrefy heads`: what finetuning can put onto a net."""

from __future__ import annotations

import inspect
from typing import Any

import click

from torrefy.cli.output import console, json_option, one_line, print_json


@click.command(epilog="\b\nExample:\n  torrefy heads\n  torrefy heads MLP Margin")
@click.argument("types", nargs=-1, metavar="[TYPE]…")
@json_option
def command(*, types: tuple[str, ...], as_json: bool) -> None:
    """List the heads, or print the page of each TYPE."""
    from torrefy.schema.head import find_head, head_types

    classes = [find_head(name) for name in types] if types else list(head_types().values())
    if as_json:
        print_json({"ok": True, "heads": [_as_json(cls) for cls in classes]})
    elif types:
        for number, cls in enumerate(classes):
            click.echo("\n" if number else "", nl=False)
            _page(cls)
    else:
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for name in ("head", "learns", ""):
            table.add_column(name)
        for cls in classes:
            first = inspect.cleandoc(cls.__doc__ or "").partition("\n")[0]
            table.add_row(cls.type_name, ", ".join(cls.kinds), one_line(first))
        console().print(table)


def _page(cls: Any) -> None:
    from torrefy.schema.fields import declared

    click.echo(f"{cls.type_name}, for {', '.join(cls.kinds)}\n")
    click.echo(inspect.cleandoc(cls.__doc__ or ""))
    fields = declared(cls)
    if fields:
        click.echo(f"\n{cls.param}:")
    for name, one in fields.items():
        click.echo(one_line(f"  {name}{_default(one)}: {one.doc}"))


def _default(one: Any) -> str:
    if one.repeated:
        return " [...]"
    return " (must be given)" if one.required else f" {one.default}"


def _as_json(cls: Any) -> dict[str, Any]:
    from torrefy.schema.fields import declared

    return {
        "type": cls.type_name,
        "learns": list(cls.kinds),
        "doc": inspect.cleandoc(cls.__doc__ or ""),
        "param": cls.param or None,
        "fields": [
            {
                "name": name,
                "doc": one.doc,
                "default": None if one.required or one.repeated else one.default,
                "repeated": one.repeated,
                "required": one.required,
            }
            for name, one in declared(cls).items()
        ],
    }
