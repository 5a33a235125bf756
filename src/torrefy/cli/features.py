"""`torrefy features`: blobs of a net for pictures, in a file."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator

import click

from torrefy.cli.output import INTERRUPTED, console, json_option, one_line, print_json

MOST_BAD = 10
"""Pictures left out that are named."""


@click.command(
    epilog="\b\nExample:\n  torrefy features squeezenet_v1.1 photos/ -o photos.npz\n"
    "  torrefy features open_nsfw list.txt --blob pool --blob prob -o feats.parquet\n"
    "  torrefy features caffenet_deploy.prototxt --weights caffenet.caffemodel "
    "--preprocessing input.prototxt \\\n    photos/ --blob fc7 -o fc7.h5"
)
@click.argument("model")
@click.argument("data", nargs=-1, required=True)
@click.option("-o", "--output", required=True, metavar="FILE",
              help=".npz, .h5, .parquet; or a name that ends in lmdb: Datum.")  # fmt: skip
@click.option("--blob", "blobs", multiple=True, metavar="NAME",
              help="What features are; may be given several times.  [default: what the last "
              "learned layer reads]")  # fmt: skip
@click.option("--pool", type=click.Choice(["avg", "max", "spp", "flatten", "none"]), default="avg",
              show_default=True, help="What is done to maps; spp: a pyramid of 1, 4 and 16 parts.",
              )  # fmt: skip
@click.option("--tta", metavar="NAME",
              help="Average over versions of each picture: flip, oversample, …")  # fmt: skip
@click.option("--float16", is_flag=True, help="Write half precision.")
@click.option("--format", "kind", type=click.Choice(["npz", "h5", "parquet", "lmdb"]),
              help="The format, where the name's ending doesn't tell.")  # fmt: skip
@click.option("--weights", metavar="FILE", help="The weights of a .prototxt.")
@click.option("--preprocessing", metavar="FILE",
              help="A prototxt of what is done to a picture, where no card says it.")  # fmt: skip
@click.option("--bad-images", type=click.Choice(["fail", "skip"]), default="fail",
              show_default=True, help="What becomes of pictures that can't be read.")  # fmt: skip
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True)
@click.option("--engine", type=click.Choice(["auto", "torch", "onnx", "ray"]), default="auto",
              show_default=True, help="What runs the net; auto: ONNX Runtime for many pictures.",
              )  # fmt: skip
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True,
              help="Processes of the engine ray.")  # fmt: skip
@click.option("--address", metavar="ADDRESS",
              help="Ray's cluster, as auto.  [default: one on this machine]")  # fmt: skip
@click.option("--index", "indexed", is_flag=True, help="Write an index for `torrefy similar`, too.")
@click.option("--device", default="cpu", show_default=True, metavar="NAME")
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32",
              show_default=True)  # fmt: skip
@json_option
def command(
    *,
    model: str,
    data: tuple[str, ...],
    output: str,
    blobs: tuple[str, ...],
    pool: str,
    tta: str | None,
    float16: bool,
    kind: str | None,
    weights: str | None,
    preprocessing: str | None,
    bad_images: str,
    batch: int,
    engine: str,
    workers: int,
    address: str | None,
    indexed: bool,
    device: str,
    precision: str,
    as_json: bool,
) -> None:
    """Take features of pictures.

    MODEL is a zoo model's name, a finetuning's run folder, or a .prototxt. DATA is a folder with a
    folder for each class, a list, a table, an LMDB; or a folder of pictures, or pictures. The file
    has an array for each blob, a row for each picture, and beside it their names, labels and
    classes.

    Ctrl-C, or a kill, loses a few batches: the same command goes on where it was.
    """
    from torrefy.features.extract import Extractor
    from torrefy.features.similar import Index
    from torrefy.features.stream import extract_to

    extractor = Extractor(
        model, blobs, pool=pool, tta=tta, device=device, precision=precision, float16=float16,
        weights=weights, preprocessing=preprocessing,
    )  # fmt: skip
    if not blobs:
        click.echo(one_line(f"the blob is {extractor.blobs[0]}"), err=True)
    try:
        with _progress() as progress:
            done = extract_to(
                output, extractor, data, format=kind or "", batch=batch, bad=bad_images,
                engine=engine, workers=workers, address=address, progress=progress,
            )  # fmt: skip
    except KeyboardInterrupt:
        line = shlex.join(["torrefy", *sys.argv[1:]])
        click.echo(one_line(f"interrupted; the same command goes on with it: {line}"), err=True)
        click.get_current_context().exit(INTERRUPTED)
    made = [Index(path).write() for path in done.paths] if indexed else []
    if as_json:
        print_json(
            {
                "ok": True,
                "files": [str(path) for path in done.paths],
                "indexes": [str(path) for path in made],
                "pictures": done.count,
                "dims": done.dims,
                "skipped": done.bad,
                "resumed": done.resumed,
                "engine": done.engine,
                "seconds": round(done.seconds, 3),
            }
        )
        return
    for place, reason in list(done.bad.items())[:MOST_BAD]:
        click.echo(one_line(f"{place}: left out: {reason}"), err=True)
    if len(done.bad) > MOST_BAD:
        click.echo(f"and {len(done.bad) - MOST_BAD} more were left out", err=True)
    if done.resumed:
        click.echo(f"{done.resumed} pictures were done before", err=True)
    dims = ", ".join(f"{blob}: {count}" for blob, count in done.dims.items())
    click.echo(
        one_line(
            f"wrote {', '.join(map(str, done.paths))}: {done.count} pictures, {dims} numbers each, "
            f"in {done.seconds:.1f} s"
        )
    )
    for path in made:
        click.echo(one_line(f"wrote {path}"))


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal."""
    if not sys.stderr.isatty():
        yield lambda done, count: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bars:
        task = bars.add_task("")
        yield lambda done, count: bars.update(task, completed=done, total=count)
