"""`torrefy weights`: what files of weights hold, their conversion and their differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from torrefy.cli.output import (
    console,
    json_option,
    note_line,
    one_line,
    print_json,
    problem_json,
)
from torrefy.errors import Place, Problem, WeightsError
from torrefy.net.stored import StoredNet, read_weights, write_weights
from torrefy.weights.compare import BlobDifference, BlobSummary, Comparison, compare, summarize
from torrefy.zoo.progress import size_text


@click.group(
    epilog="\b\nExample:\n  torrefy weights show net.caffemodel\n"
    "  torrefy weights convert net.caffemodel net.safetensors",
)
def command() -> None:
    """Show, convert and compare files of weights.

    The format of a file is told by its suffix: .caffemodel (of any age), .h5 in Caffe's layout,
    .safetensors, and what plugins add.
    """


@command.command(
    epilog="\b\nExample:\n  torrefy weights show net.caffemodel\n"
    "  torrefy weights show --json net.h5"
)
@click.argument("file")
@json_option
def show(*, file: str, as_json: bool) -> None:
    """Show every blob of FILE in numbers.

    Its shape, type and size, the mean of |x|, the smallest and the largest number, and how many
    are NaN or infinite. Mean, smallest and largest are those of the finite numbers. Layers
    without blobs are counted only.
    """
    stored = read_weights(file)
    rows = summarize(stored)
    totals = {
        "layers": len(stored.layers),
        "count": sum(row.count for row in rows),
        "bytes": _size(stored),
        "nan": sum(row.nan for row in rows),
        "inf": sum(row.inf for row in rows),
    }
    if as_json:
        about = {"file": file, "name": stored.name, **totals, "notes": stored.notes}
        print_json({"ok": True, **about, "blobs": [asdict(row) for row in rows]})
        return
    _print_blobs(rows)
    _print_notes(file, stored)
    click.echo()
    layers = f"{totals['layers']:,}, {len({row.layer for row in rows}):,} of them with blobs"
    click.echo(f"{'layers':<8} {layers}")
    click.echo(f"{'numbers':<8} {totals['count']:,} in {len(rows):,} blobs")
    click.echo(f"{'size':<8} {size_text(totals['bytes'])}")
    if totals["nan"] or totals["inf"]:
        click.echo(f"{'odd':<8} {totals['nan']:,} NaN, {totals['inf']:,} infinite")


@command.command(
    epilog="\b\nExample:\n  torrefy weights convert net.caffemodel net.safetensors\n"
    "  torrefy weights convert snapshot.caffemodel.h5 net.caffemodel"
)
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@json_option
def convert(*, source: str, target: str, as_json: bool) -> None:
    """Write the weights of IN to OUT, in OUT's format.

    OUT is written whole or not at all. Numbers are kept as they are, but float16 becomes float32
    in a .caffemodel. An .h5 file of Caffe's holds a shared blob in one layer only, and so will
    OUT: to have it in each, load the file into its net and save that.
    """
    if Path(source).exists() and Path(target).exists() and Path(source).samefile(target):
        raise WeightsError("this is the file that is read", place=Place(target))
    stored = read_weights(source)
    write_weights(target, stored)
    size = Path(target).stat().st_size
    layers = sum(bool(layer.blobs) for layer in stored.layers)
    blobs = sum(len(layer.blobs) for layer in stored.layers)
    if as_json:
        about = {"source": source, "target": target, "layers": layers, "blobs": blobs}
        print_json({"ok": True, **about, "bytes": size, "notes": stored.notes})
        return
    _print_notes(source, stored)
    held = f"{_count(layers, 'layer')} with {_count(blobs, 'blob')}, {size_text(size)}"
    click.echo(one_line(f"wrote {target}: {held}"))


@command.command(
    epilog="\b\nExample:\n  torrefy weights diff net.caffemodel net.h5\n"
    "  torrefy weights diff --tolerance 1e-6 --json iter_100.caffemodel iter_200.caffemodel"
)
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@click.option(
    "--tolerance", type=click.FloatRange(min=0), default=0.0, metavar="T",
    show_default=True, help="The largest |a - b| that is no difference.",
)  # fmt: skip
@json_option
@click.pass_context
def diff(ctx: click.Context, *, one: str, other: str, tolerance: float, as_json: bool) -> None:
    """Tell how the weights of A and B differ.

    Printed are the layers that only one of them has, shapes, and the largest differences of each
    blob. Layers are matched by name, blobs by place. The relative difference is |a - b| divided
    by the larger of |a| and |b|. A NaN is the same as a NaN. Exit code 1 if the files differ.
    """
    if not math.isfinite(tolerance):
        raise click.UsageError("--tolerance takes a finite number")
    files = one, other
    found = compare(read_weights(one), read_weights(other))
    same = found.same(tolerance)
    if as_json:
        print_json(_diff_json(files, found, tolerance))
    else:
        _print_diff(files, found, tolerance)
    if not same:
        ctx.exit(1)


def _print_blobs(rows: Sequence[BlobSummary]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("layer", "type"):
        table.add_column(column, overflow="fold")
    for column in ("blob", "shape", "dtype", "count", "mean |x|", "min", "max", "NaN", "Inf"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        numbers = (_number(value) for value in (row.mean_abs, row.min, row.max))
        odd = (f"{count:,}" if count else "-" for count in (row.nan, row.inf))
        head = (row.layer, row.type or "-", str(row.blob), _shape(row.shape), row.dtype)
        table.add_row(*map(one_line, (*head, f"{row.count:,}", *numbers, *odd)))
    console().print(table)


def _diff_json(files: tuple[str, str], found: Comparison, tolerance: float) -> dict[str, Any]:
    differing = found.differing(tolerance)
    same = found.same(tolerance)
    problem = Problem(_verdict(found, tolerance), Place(files[1]))
    blobs = []
    for blob in found.blobs:
        about = asdict(blob)
        for key in ("absolute", "relative"):
            if about[key] is not None and not math.isfinite(about[key]):
                about[key] = None
        about["same_shape"] = blob.absolute is not None
        blobs.append({**about, "differs": blob in differing})
    lacking = [
        {"layer": layer, "blob": place, "only_in": files[side]}
        for layer, place, side in found.lacking
    ]
    return {
        "ok": same,
        "problems": [] if same else [problem_json(problem)],
        "files": files,
        "tolerance": tolerance,
        "only_in": [{"file": f, "layers": n} for f, n in zip(files, found.only, strict=True)],
        "lacking": lacking,
        "blobs": blobs,
    }


def _print_diff(files: tuple[str, str], found: Comparison, tolerance: float) -> None:
    for file, names in zip(files, found.only, strict=True):
        for name in names:
            click.echo(one_line(f'only in {file}: layer "{name}"'))
    for layer, place, side in found.lacking:
        click.echo(one_line(f'only in {files[side]}: layer "{layer}", blob {place}'))
    differing = found.differing(tolerance)
    if differing:
        _print_differences(differing)
    click.echo(_verdict(found, tolerance))


def _verdict(found: Comparison, tolerance: float) -> str:
    more = f" by more than {tolerance:g}" if tolerance else ""
    if found.same(tolerance):
        return f"no differences{more} in {_count(len(found.blobs), 'blob')}"
    both = f"{len(found.blobs):,} blobs that both have"
    return f"{len(found.differing(tolerance)):,} of {both} differ{more}"


def _print_differences(differing: Sequence[BlobDifference]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("layer", overflow="fold")
    for column in ("blob", "shape", "|a - b|", "relative", "NaN/Inf"):
        table.add_column(column, justify="right", no_wrap=True)
    for blob in differing:
        one, other = (_shape(shape) for shape in blob.shapes)
        shapes = f"{one} / {other}" if blob.absolute is None else one
        unlike = f"{blob.unlike:,}" if blob.unlike else "-"
        numbers = _number(blob.absolute), _number(blob.relative)
        table.add_row(one_line(blob.layer), str(blob.blob), shapes, *numbers, unlike)
    console().print(table)


def _print_notes(file: str, stored: StoredNet) -> None:
    for note in stored.notes:
        click.echo(note_line(file, note), err=True)


def _size(stored: StoredNet) -> int:
    return sum(blob.nbytes for layer in stored.layers for blob in layer.blobs)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
