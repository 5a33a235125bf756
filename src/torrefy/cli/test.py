"""`torrefy test`: a net's outputs over its test data."""

from __future__ import annotations

import math
from typing import Any

import click

from torrefy.cli.output import json_option, one_line, print_json
from torrefy.cli.tta import as_json as tta_json
from torrefy.cli.tta import told, tta_options, versions_of


@click.command(
    epilog="\b\nExample:\n  torrefy test train_val.prototxt net.caffemodel\n"
    "  torrefy test train_val.prototxt net.caffemodel --iterations 100 --device cuda\n"
    "  torrefy test train_val.prototxt net.caffemodel --tta flip"
)
@click.argument("definition")
@click.argument("weights")
@click.option("--iterations", type=click.IntRange(1), default=50, show_default=True, metavar="N",
              help="How many batches are taken.")  # fmt: skip
@click.option("--device", default="cpu", show_default=True, metavar="NAME",
              help='Where to compute: "cpu", "cuda", "cuda:1", "mps".')  # fmt: skip
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32",
              show_default=True, help="What convolutions and products compute in.")  # fmt: skip
@click.option("--channels-last", is_flag=True,
              help="Keep pictures in memory with their channels last.")  # fmt: skip
@click.option("--workers", type=click.IntRange(0), metavar="N",
              help="Processes that read data (else: a core each but one, 4 at most).")  # fmt: skip
@click.option("--bad-images", type=click.Choice(["fail", "skip"]), default="fail",
              show_default=True, help="What becomes of data that can't be used.")  # fmt: skip
@click.option("--stage", "stages", multiple=True, metavar="NAME",
              help="A stage that the net is in; may be given several times.")  # fmt: skip
@click.option("--level", type=int, default=0, metavar="N", help="The net's level.")
@click.option("--allow-python", multiple=True, metavar="MODULE.CLASS",
              help="A class that Python layers may run.")  # fmt: skip
@tta_options
@json_option
def command(
    *,
    definition: str,
    weights: str,
    iterations: int,
    device: str,
    precision: str,
    channels_last: bool,
    workers: int | None,
    bad_images: str,
    stages: tuple[str, ...],
    level: int,
    allow_python: tuple[str, ...],
    tta: tuple[str, ...],
    tta_count: int | None,
    tta_seed: int,
    as_json: bool,
) -> None:
    """Average a net's outputs over its test data.

    The net is that of phase test, its data what its data layers name; WEIGHTS must hold all of
    its layers. What counts in the loss is shown with its weight, as `caffe test` does. With --tta
    what the net makes of the versions of a picture is averaged before it meets the labels.
    """
    versions = versions_of(tta, tta_count, tta_seed)
    from torrefy.train.scores import score

    loading: dict[str, Any] = {"bad": bad_images}
    if workers is not None:
        loading["workers"] = workers
    found = score(
        definition,
        weights,
        iterations,
        device=device,
        stages=stages,
        level=level,
        loading=loading,
        allow_python=allow_python,
        tta=versions,
        precision=precision,
        channels_last=channels_last,
    )
    if as_json:
        blobs = {
            name: [v if math.isfinite(v) else None for v in blob.flatten().tolist()]
            for name, blob in found.blobs.items()
        }
        passed = {"skipped": found.skipped.items, "times_skipped": found.skipped.times}
        result = {"ok": True, "iterations": found.iterations, "tta": tta_json(versions)}
        print_json({**result, "blobs": blobs, **passed})
        return
    if versions is not None:
        click.echo(one_line(told(versions)))
    for name, blob in found.blobs.items():
        weight = found.loss_weights.get(name, 0.0)
        for value in blob.flatten().tolist():
            loss = f" (* {weight:g} = {weight * value:g} loss)" if weight else ""
            click.echo(one_line(f"{name} = {value:g}{loss}"))
    if found.skipped.items:
        click.echo(one_line(str(found.skipped)))
