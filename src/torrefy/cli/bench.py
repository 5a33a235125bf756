"""`torrefy bench`: how fast a model is, in each runtime and precision."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from torrefy.cli.output import console, json_option, one_line, print_json

if TYPE_CHECKING:
    from torrefy.runtime.bench import Bench, Row


@click.command(
    epilog="\b\nExample:\n  torrefy bench squeezenet_v1.1\n"
    "  torrefy bench net.onnx --batch 1 --batch 32 --pictures photos/\n"
    "  torrefy bench deploy.prototxt --weights x.caffemodel --runtime pytorch"
)
@click.argument("model")
@click.option("--weights", metavar="FILE", help="Those of a .prototxt.")
@click.option("--runtime", "runtimes", multiple=True, metavar="NAME",
              help="One that is measured; may be repeated (else: all).")  # fmt: skip
@click.option("--precision", "precisions", multiple=True, metavar="NAME",
              help="fp32, bf16, fp16 or int8; may be repeated (else: all).")  # fmt: skip
@click.option("--batch", "batches", multiple=True, type=click.IntRange(1), default=(1, 8),
              show_default=True, metavar="N",
              help="Pictures at once; may be repeated.")  # fmt: skip
@click.option("--pictures", metavar="PICTURES",
              help="A folder, list or table: up to half of them calibrate int8, agreement is "
              "measured on others (else: on noise).")  # fmt: skip
@click.option("--device", default="cpu", show_default=True, metavar="NAME",
              help="cpu, cuda or cuda:1.")  # fmt: skip
@click.option("--threads", type=click.IntRange(0), default=0, metavar="N",
              help="How many compute  [default: as each runtime decides]")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(0.1), default=2.0, show_default=True, metavar="S",
              help="How long each batch is measured.")  # fmt: skip
@json_option
def command(
    *,
    model: str,
    weights: str | None,
    runtimes: tuple[str, ...],
    precisions: tuple[str, ...],
    batches: tuple[int, ...],
    pictures: str | None,
    device: str,
    threads: int,
    seconds: float,
    as_json: bool,
) -> None:
    """Tell how fast a model is, in each runtime and precision.

    MODEL is a zoo model's name, a folder with a card, an .onnx file or a .prototxt. Each is
    measured in a process of its own: the times of a batch at the 50th, 90th and 99th percentile,
    pictures a second, the most memory, and how far its answers are those of fp32.
    """
    from torrefy.runtime.bench import bench
    from torrefy.runtime.runnable import Runnable

    Runnable(model, weights)  # what is fetched has a bar of its own
    with console(stderr=True).status("") as status:
        found = bench(
            model,
            weights,
            runtimes=runtimes,
            precisions=precisions,
            batches=batches,
            device=device,
            threads=threads,
            pictures=pictures,
            seconds=seconds,
            told=status.update if sys.stderr.isatty() and not as_json else lambda _: None,
        )
    if as_json:
        print_json({"ok": True, **found.as_json()})
    else:
        _print(found)


def _print(found: Bench) -> None:
    from rich.table import Table

    threads = f", {found.threads} threads" if found.threads else ""
    click.echo(one_line(f"{found.model} on {found.machine}{threads}, device {found.device}"))
    click.echo(f"agreement with {found.compared_with}, on {found.compared_on}")
    table = Table(box=None, pad_edge=False)
    for name in ("runtime", "precision"):
        table.add_column(name)
    for name in ("batch", "p50 ms", "p90", "p99", "pictures/s", "MB", "same class", "difference"):
        table.add_column(name, justify="right")
    fastest = {
        batch: min(row.p50_ms for row in found.rows if row.batch == batch)
        for batch in {row.batch for row in found.rows}
    }
    for row in found.rows:
        best = row.p50_ms == fastest[row.batch]
        table.add_row(*_cells(row), style="bold" if best else None)
    console().print(table)
    for runtime, precision, reason in found.left_out:
        click.echo(one_line(f"left out: {runtime} in {precision}: {reason}"), err=True)


def _cells(row: Row) -> list[str]:
    return [
        row.runtime,
        row.precision,
        str(row.batch),
        f"{row.p50_ms:.2f}",
        f"{row.p90_ms:.2f}",
        f"{row.p99_ms:.2f}",
        f"{row.pictures_per_second:.0f}",
        "" if row.memory_mb is None else f"{row.memory_mb:.0f}",
        "" if row.same_class is None else f"{row.same_class:.1%}",
        "" if row.difference is None else f"{row.difference:.1e}",
    ]
