"""`torrefy data preview` and `torrefy data augmentations`: what is done to training pictures."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from torrefy.cli.output import console, json_option, one_line, print_json, write_file
from torrefy.errors import TorrefyError, did_you_mean

if TYPE_CHECKING:
    from torrefy.data.augment.describe import Page


@click.command(
    epilog="\b\nExample:\n  torrefy data preview train_val.prototxt\n"
    "  torrefy data preview train_val.prototxt --layer data --count 3 -o data.png"
)
@click.argument("net")
@click.option("--layer", "name", default="", metavar="NAME",
              help="The data layer.  [default: the first of phase train]")  # fmt: skip
@click.option("--count", type=click.IntRange(1, 50), default=8, show_default=True, metavar="N",
              help="How many versions of each picture.")  # fmt: skip
@click.option("--pictures", type=click.IntRange(1, 20), default=4, show_default=True, metavar="N",
              help="How many pictures, the first of the data.")  # fmt: skip
@click.option("--output", "-o", default="preview.png", show_default=True, metavar="PNG",
              help="The file.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Of what is drawn.")
@json_option
def preview(
    *, net: str, name: str, count: int, pictures: int, output: str, seed: int, as_json: bool
) -> None:
    """Draw the pictures of NET's data layer as the net would see them in training.

    Each picture has a column: above as it is stored; below augmented, cropped and mirrored, with
    what was drawn, before mean and scale. Points and boxes that move with it are marked.
    """
    import io

    from torrefy.data.augment.preview import data_layer
    from torrefy.data.augment.preview import preview as drawn
    from torrefy.schema import read_text, upgrade

    definition = upgrade(read_text(net))
    layer = data_layer(definition, name)
    try:
        sheet = drawn(layer, versions=count, pictures=pictures, seed=seed)
    except TorrefyError as error:
        raise error.within(layer=layer.name) from None
    with io.BytesIO() as file:
        sheet.save(file, "PNG")
        write_file(output, file.getvalue())
    if as_json:
        print_json({"ok": True, "layer": layer.name, "output": output, "size": list(sheet.size)})
        return
    click.echo(one_line(f"wrote {output}: layer {layer.name}, {sheet.width}x{sheet.height}"))


@click.command(
    "augmentations",
    epilog="\b\nExample:\n  torrefy data augmentations\n  torrefy data augmentations Rotation",
)
@click.argument("types", nargs=-1, metavar="[TYPE]...")
@json_option
def listing(*, types: tuple[str, ...], as_json: bool) -> None:
    """List the augmentation types, or print the page of each TYPE.

    A page has the formula, its source, the parameters with their defaults, and an example. Types
    of plugins are among them.
    """
    from torrefy.data.augment.augmentation import augmentation_types
    from torrefy.data.augment.describe import describe

    known = augmentation_types()
    for name in types:
        if name not in known:
            raise TorrefyError(f'there is no augmentation "{name}"', hint=did_you_mean(name, known))
    pages = [describe(known[name]) for name in types or known]
    if as_json:
        print_json({"ok": True, "augmentations": [asdict(page) for page in pages]})
    elif types:
        for page in pages:
            _print_page(page)
    else:
        _print_list(pages)


def _print_list(pages: list[Page]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("type", "what it does"):
        table.add_column(column, overflow="fold")
    for page in pages:
        table.add_row(page.type, one_line(page.summary))
    console().print(table)


def _print_page(page: Page) -> None:
    from rich.table import Table

    click.echo(f"{page.type}\n\n{page.text}\n")
    if page.parameters:
        table = Table(box=None, pad_edge=False)
        for column in (page.field, "takes", "default", "what it is"):
            table.add_column(column, overflow="fold")
        for p in page.parameters:
            kind = p.kind + (" (repeated)" if p.repeated else "")
            table.add_row(p.name, kind, p.default, one_line(p.doc))
        console().print(table)
        click.echo()
    click.echo(page.example)
    if not page.origin.startswith("torrefy."):
        click.echo(f"\nFrom {page.origin}.")
    click.echo()
