"""`torrefy similar`: the pictures that are most like one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from torrefy.cli.output import json_option, one_line, print_json, write_file
from torrefy.errors import DataError, PictureError, Place

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from torrefy.features.similar import Neighbour


@click.command(
    epilog="\b\nExample:\n  torrefy similar photos.npz new.jpg -o alike.png\n"
    "  torrefy similar photos.npz new.jpg --top 3 --json"
)
@click.argument("features")
@click.argument("picture")
@click.option(
    "-o", "--output", metavar="PNG", help="Draw them: the picture first, then the others."
)
@click.option("--top", type=click.IntRange(1), default=11, show_default=True)
@click.option("--blob", default="", metavar="NAME", help="The blob, where there are several.")
@click.option("--model", metavar="MODEL", help="The net, where it isn't known or has moved.")
@json_option
def command(
    *, features: str, picture: str, output: str | None, top: int, blob: str, model: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Find the pictures that are most like one.

    FEATURES is what `torrefy features` wrote; PICTURE is a file. Likeness is the cosine of the
    angle between features: 1 of the same picture.
    """
    from torrefy.features.extract import extract, reopened
    from torrefy.features.similar import Index

    if Path(picture).is_dir():
        raise DataError("this is a folder", place=Place(picture), hint="Give one picture.")
    index = Index(features, blob)
    extractor = reopened(index.features.origin, index.blob, model)
    query = extract(extractor, [picture]).matrix()
    (found,) = index.nearest(query, top)
    if output:
        write_file(output, _sheet(Path(picture), found))
    if as_json:
        print_json(
            {
                "ok": True,
                "picture": picture,
                "neighbours": [
                    {
                        "name": one.name,
                        "file": str(one.file) if one.file else None,
                        "likeness": one.likeness,
                    }
                    for one in found
                ],
            }
        )
        return
    for one in found:
        click.echo(one_line(f"{one.likeness:.4f}  {one.name}"))
    if output:
        click.echo(one_line(f"wrote {output}"))


def _sheet(picture: Path, found: list[Neighbour]) -> bytes:
    from torrefy.finetune.sheet import Tile, as_png, contact_sheet

    tiles = [Tile(_read(picture), ("looked for", picture.name))]
    tiles += [Tile(_read(one.file), (f"{one.likeness:.3f}", one.name)) for one in found]
    return as_png(contact_sheet(tiles))


def _read(file: Path | None) -> NDArray[np.uint8] | None:
    from torrefy.data.pictures import read_picture

    if file is None:
        return None
    try:
        return read_picture(file, "RGB")
    except PictureError:
        return None
