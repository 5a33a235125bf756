"""`torrefy data`: databases built, their means and statistics, and what is in them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torrefy.cli import augmentations
from torrefy.cli.output import console, json_option, one_line, print_json, write_file

if TYPE_CHECKING:
    from torrefy.data.normalise.statistics import Statistics


@click.group(
    epilog="\b\nExample:\n"
    "  torrefy data create train.txt train_lmdb --root images/ --resize 256x256\n"
    "  torrefy data mean train_lmdb mean.binaryproto",
)
def command() -> None:
    """Build databases of pictures, compute their statistics, and look at them."""


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
    epilog="\b\nExample:\n  torrefy data stats train_val.prototxt -o stats.safetensors\n"
    "  torrefy data stats photos/ --whiten zca --pictures seen/"
)
@click.argument("source", metavar="SOURCE|DEFINITION")
@click.option("-o", "--output", default="stats.safetensors", show_default=True, metavar="FILE",
              help="The file to write.")  # fmt: skip
@click.option("--layer", default="", metavar="NAME",
              help="The data layer, where the definition has several.")  # fmt: skip
@click.option("--whiten", type=click.Choice(["pca", "zca"]),
              help="Find what whitening takes, too; the file is good for both.")  # fmt: skip
@click.option("--components", type=click.IntRange(1), metavar="N",
              help="How many components are kept (else: all of pictures of up to 4096 values, "
              "256 of larger ones).")  # fmt: skip
@click.option("--epsilon", type=click.FloatRange(0), default=1e-5, show_default=True,
              help="What is added to eigenvalues before they are divided by.")  # fmt: skip
@click.option("--sample", type=click.IntRange(1), metavar="N", help="Look at so many pictures.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Of the sample.")  # fmt: skip
@click.option("--pictures", metavar="FOLDER",
              help="Write pictures there: mean, deviation, components, whitened.")  # fmt: skip
@click.option("--root", default="", metavar="TEXT", help="What is put before names in a list.")
@click.option("--workers", type=click.IntRange(0), metavar="N",
              help="Processes that read (else: a core each but one, 4 at most).")  # fmt: skip
@json_option
def stats(
    *,
    source: str,
    output: str,
    layer: str,
    whiten: str | None,
    components: int | None,
    epsilon: float,
    sample: int | None,
    seed: int,
    pictures: str | None,
    root: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Compute statistics of training pictures, for `transform_param { statistics: … }`.

    They are of the pictures as the data layer of DEFINITION in phase train gives them, cropped at
    the centre and not augmented; or of those of SOURCE as they are, which is an LMDB, a LevelDB, a
    list, a table, or a folder with a sub-folder for each class.
    """
    from torrefy.data.normalise.compute import compute_statistics, first_pictures
    from torrefy.data.normalise.normaliser import what_changes_values, without_chance
    from torrefy.data.normalise.pictures import SAMPLES, draw_pictures
    from torrefy.data.open import find_layer, open_path, open_source, open_transform
    from torrefy.schema import read_text, upgrade

    if (components or epsilon != 1e-5) and not whiten:
        raise click.UsageError("--components and --epsilon go with --whiten")
    transform, said = None, ""
    if source.endswith(".prototxt"):
        spec = without_chance(find_layer(upgrade(read_text(source)), "train", layer))
        opened = open_source(spec, "test")
        transform = open_transform(spec, "test")
        said = what_changes_values(spec)
    else:
        opened = open_path(source, root=root)
    with _progress("reading", min(len(opened), sample or len(opened))) as told:
        found = compute_statistics(
            opened,
            transform=transform,
            whiten=whiten is not None,
            components=components,
            epsilon=epsilon,
            sample=sample,
            seed=seed,
            workers=workers,
            about=(said, source),
            told=told,
        )
    found.write(output)
    drawn = {}
    if pictures is not None:
        drawn = draw_pictures(found, first_pictures(opened, transform, SAMPLES))
        Path(pictures).mkdir(parents=True, exist_ok=True)
        for name, data in drawn.items():
            write_file(Path(pictures, name), data)
    written = [output, *(str(Path(pictures or "", name)) for name in drawn)]
    notes = list(found.notes())
    if as_json:
        print_json({"ok": True, **_statistics_json(found), "notes": notes, "written": written})
        return
    shape = "x".join(map(str, found.shape))
    click.echo(f"pictures    {found.count:,} of {shape}")
    click.echo(f"mean        {_numbers(found.channel_mean)}")
    click.echo(f"std         {_numbers(found.channel_std)}")
    if found.eigenvalues is not None:
        click.echo(
            f"components  {len(found.eigenvalues):,} of {found.mean.size:,}, "
            f"{100 * found.explained:.4g}% of the variance; {found.method}"
        )
    for note in notes:
        click.echo(one_line(f"note: {note}"))
    for name in written:
        click.echo(one_line(f"wrote {name}"))
    kind = whiten.upper() if whiten else "STANDARDISE"
    click.echo(one_line(f'transform_param {{ statistics: "{output}" normalise: {kind} }}'))


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


def _numbers(values: Any) -> str:
    return " ".join(f"{value:.6g}" for value in values)


def _statistics_json(found: Statistics) -> dict[str, Any]:
    values = found.eigenvalues
    return {
        "pictures": found.count,
        "shape": list(found.shape),
        "mean": found.channel_mean.tolist(),
        "std": found.channel_std.tolist(),
        "components": None if values is None else len(values),
        "variance": None if values is None else found.explained,
        "method": found.method or None,
    }


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
