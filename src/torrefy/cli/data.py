"""`torrefy data`: databases built, their means, and what is in them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from torrefy.cli import augmentations
from torrefy.cli.output import console, json_option, one_line, print_json, write_file


@click.group(
    epilog="\b\nExample:\n"
    "  torrefy data create train.txt train_lmdb --root images/ --resize 256x256\n"
    "  torrefy data mean train_lmdb mean.binaryproto",
)
def command() -> None:
    """Build databases of pictures, compute their means, and look at them."""


@command.command(
    epilog="\b\nExample:\n"
    "  torrefy data create train.txt train_lmdb --root images/ --resize 256x256\n"
    "  torrefy data create photos/ train_lmdb --encoded --shuffle"
)
@click.argument("source")
@click.argument("target")
@click.option("--root", default="", metavar="TEXT",
              help='What is put before each name in a list: "images/".')  # fmt: skip
@click.option("--resize", "size", metavar="WxH", help="Resize pictures, whatever their aspect.")
@click.option("--gray", is_flag=True, help="Make pictures grey.")
@click.option("--encoded", is_flag=True,
              help="Keep pictures as files: smaller, and slower to read.")  # fmt: skip
@click.option("--shuffle", is_flag=True, help="Write them in another order.")
@click.option("--seed", default=0, show_default=True, help="Of that order.")
@click.option("--same-size", is_flag=True, help="Refuse pictures of several sizes.")
@click.option("--bad", type=click.Choice(["fail", "skip"]), default="fail", show_default=True,
              help="What is done about pictures that can't be read.")  # fmt: skip
@json_option
def create(
    *,
    source: str,
    target: str,
    root: str,
    size: str | None,
    gray: bool,
    encoded: bool,
    shuffle: bool,
    seed: int,
    same_size: bool,
    bad: str,
    as_json: bool,
) -> None:
    """Build the LMDB TARGET of the pictures of SOURCE, as Caffe's convert_imageset.

    SOURCE is a list with lines of `name class`, or a folder with a sub-folder for each class,
    numbered in the order of their names. TARGET is written whole or not at all.
    """
    from torrefy.data.create import create_lmdb
    from torrefy.data.sources.image_list import PictureSource, find_classes, read_list

    classes: list[str] = []
    if Path(source).is_dir():
        classes, files, labels = find_classes(source)
        names = [Path(file).relative_to(source).as_posix() for file in files]
    else:
        names, labels = read_list(source)
        files = [root + name for name in names]
    pictures = PictureSource(files, labels, size=_size(size), colour="GRAY" if gray else "BGR")
    with _progress("writing", len(pictures)) as told:
        created = create_lmdb(
            target,
            pictures,
            names=names,
            encoded=encoded,
            shuffle=seed if shuffle else None,
            same_size=same_size,
            bad=bad,
            told=told,
        )
    if as_json:
        about = {"target": target, "records": created.records, "classes": classes}
        print_json({"ok": True, **about, "bad": created.bad})
        return
    _print_bad(created.bad)
    for label, name in enumerate(classes):
        click.echo(one_line(f"class {label}: {name}"))
    left = f", {len(created.bad)} left out" if created.bad else ""
    click.echo(one_line(f"wrote {target}: {created.records} records{left}"))


@command.command(
    epilog="\b\nExample:\n  torrefy data mean train_lmdb mean.binaryproto\n"
    "  torrefy data mean photos/"
)
@click.argument("source")
@click.argument("target", required=False)
@click.option("--root", default="", metavar="TEXT", help="What is put before names in a list.")
@json_option
def mean(*, source: str, target: str | None, root: str, as_json: bool) -> None:
    """Compute the mean of all pictures of SOURCE.

    With TARGET the mean image is written, as .npy or else as .binaryproto; all pictures must
    then be of one size. The mean of each channel is printed as a `transform_param` takes it.
    SOURCE is an LMDB, a LevelDB, a list, a table, or a folder with a sub-folder for each class.
    """
    import io

    import numpy as np

    from torrefy.data.open import open_path
    from torrefy.data.statistics import channel_means, mean_of
    from torrefy.data.transform import write_blob

    opened = open_path(source, root=root)
    with _progress("reading", len(opened)) as told:
        if target is None:
            values = channel_means(opened, told)
        else:
            image = mean_of(opened, told)
            values = image.mean(axis=(1, 2), dtype=np.float64)
    if target is not None:
        if target.endswith(".npy"):
            with io.BytesIO() as file:
                np.save(file, image)
                write_file(target, file.getvalue())
        else:
            write_file(target, write_blob(image))
    if as_json:
        about = {"source": source, "target": target, "pictures": len(opened)}
        print_json({"ok": True, **about, "mean_value": [float(v) for v in values]})
        return
    click.echo("\n".join(f"mean_value: {value:.6g}" for value in values))
    if target is not None:
        click.echo(one_line(f"wrote {target}: {'x'.join(map(str, image.shape))}"))


@command.command(
    epilog="\b\nExample:\n  torrefy data show train_lmdb\n"
    "  torrefy data show --sheet sheet.png --first 100 train_lmdb"
)
@click.argument("source")
@click.option("--first", type=click.IntRange(0), default=10, show_default=True, metavar="N",
              help="How many records are listed, or are on the sheet.")  # fmt: skip
@click.option("--root", default="", metavar="TEXT", help="What is put before names in a list.")
@click.option("--sheet", metavar="PNG", help="Write the first pictures as one, to look at.")
@json_option
def show(*, source: str, first: int, root: str, sheet: str | None, as_json: bool) -> None:
    """Show what SOURCE holds: records, labels, sizes, and what can't be read.

    SOURCE is an LMDB, a LevelDB, a list, a table, or a folder with a sub-folder for each class.
    Every record is read; if one can't be, the exit code is 1.
    """
    from torrefy.data.open import open_path
    from torrefy.data.statistics import contact_sheet, summarize

    opened = open_path(source, root=root)
    with _progress("reading", len(opened)) as told:
        found = summarize(opened, told)
    if sheet is not None:
        import io

        from PIL import Image

        with io.BytesIO() as file:
            Image.fromarray(contact_sheet(opened, first or 100)).save(file, "PNG")
            write_file(sheet, file.getvalue())
    rows = []
    for index in range(min(first, len(opened))):
        key = opened.key(index)
        if key not in found.bad:
            picture, *rest = opened.item(index)
            shape = "x".join(map(str, picture.shape))
            label = f"{float(rest[0]):g}" if rest and not rest[0].ndim else ""
            rows.append((key, shape, str(picture.dtype), label))
    labels = {f"{label:g}": count for label, count in sorted(found.labels.items())}
    shapes = {"x".join(map(str, shape)): count for shape, count in found.shapes.most_common()}
    if as_json:
        first_rows = [
            dict(zip(("key", "shape", "type", "label"), row, strict=True)) for row in rows
        ]
        about = {"source": source, "records": found.count, "labels": labels, "shapes": shapes}
        print_json({"ok": not found.bad, **about, "first": first_rows, "bad": found.bad})
    else:
        _print_rows(rows)
        click.echo(f"records  {found.count:,}")
        click.echo(one_line(f"shapes   {_counts(shapes)}"))
        click.echo(one_line(f"labels   {_counts(labels)}"))
        _print_bad(found.bad)
    if found.bad:
        click.get_current_context().exit(1)


@command.command(
    epilog="\b\nExample:\n  torrefy data verify train_lmdb --against test_lmdb --classes 10\n"
    "  torrefy data verify train.txt --root images/ --sample 2000"
)
@click.argument("source")
@click.option("--against", metavar="OTHER", help="What the net is tested with.")
@click.option("--classes", type=click.IntRange(1), metavar="N", help="How many classes there are.")
@click.option("--ignore-label", type=int, metavar="L", help="A label that is right too.")
@click.option("--sample", type=click.IntRange(1), metavar="N",
              help="Look at so many items of each; else at all.")  # fmt: skip
@click.option("--root", default="", metavar="TEXT", help="What is put before names in a list.")
@json_option
def verify(
    *,
    source: str,
    against: str | None,
    classes: int | None,
    ignore_label: int | None,
    sample: int | None,
    root: str,
    as_json: bool,
) -> None:
    """Look for what would spoil a training with SOURCE.

    Items that can't be read, labels that are no class, pictures that OTHER has too: the exit
    code is then 1. Pictures that are there more than once, classes without an item and uneven
    ones are told. SOURCE and OTHER are as for the other commands.
    """
    from torrefy.data.open import open_path
    from torrefy.data.verify import verify as look

    opened = open_path(source, root=root)
    other = open_path(against, root=root) if against is not None else None
    total = sum(min(len(one), sample or len(one)) for one in (opened, other) if one is not None)
    with _progress("reading", total) as told:
        found = look(
            opened,
            other,
            classes=classes,
            ignore_label=ignore_label,
            sample=sample,
            told=told,
        )
    if as_json:
        labels = {f"{label:g}": count for label, count in sorted(found.labels.items())}
        about = {"source": source, "looked_at": found.looked_at, "count": found.count}
        more = {"outside": found.outside, "missing": found.missing, "leaked": found.leaked}
        rest = {"duplicates": found.duplicates, "bad": found.bad, "labels": labels}
        print_json({"ok": not found.wrong, **about, **more, **rest})
    else:
        for line in found.lines():
            click.echo(one_line(line))
    if found.wrong:
        click.get_current_context().exit(1)


command.add_command(augmentations.preview)
command.add_command(augmentations.listing)


def _counts(counts: dict[str, int], most: int = 20) -> str:
    told = [f"{name} ({count:,})" for name, count in list(counts.items())[:most]]
    left = len(counts) - most
    return ", ".join(told) + (f", and {left} more" if left > 0 else "")


def _print_rows(rows: Sequence[tuple[str, ...]]) -> None:
    from rich.table import Table

    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="")
    for name in ("record", "shape", "type", "label"):
        table.add_column(name, justify="right" if name == "label" else "left")
    for row in rows:
        table.add_row(*map(one_line, row))
    console().print(table)
    click.echo()


def _print_bad(bad: dict[str, str]) -> None:
    for text in bad.values():
        click.echo(one_line(text), err=True)


def _size(text: str | None) -> tuple[int, int] | None:
    """Height and width of "WxH"."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise click.BadParameter(f'expected width x height ("256x256"), found "{text}"')
    return int(parts[1]), int(parts[0])


@contextlib.contextmanager
def _progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns: list[Any] = [TextColumn("{task.description}", markup=False), BarColumn()]
    with Progress(
        *columns, MofNCompleteColumn(), TimeRemainingColumn(), console=console(stderr=True)
    ) as bars:
        task = bars.add_task(label, total=total)
        yield lambda done: bars.update(task, completed=done)
