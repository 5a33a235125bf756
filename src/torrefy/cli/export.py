"""`torrefy export`: a net with its weights as an ONNX file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torrefy.cli.definition import is_zoo_name, state_options
from torrefy.cli.output import json_option, one_line, print_json
from torrefy.errors import TorrefyError

if TYPE_CHECKING:
    from torrefy.data.recipe import Recipe
    from torrefy.export.front import Front
    from torrefy.export.onnx import ExportReport
    from torrefy.net.net import Net


@click.command(
    epilog="\b\nExample:\n  torrefy export net.prototxt weights.caffemodel -o net.onnx\n"
    "  torrefy export squeezenet_v1.1 -o squeezenet.onnx"
)
@click.argument("model", metavar="DEFINITION|NAME")
@click.argument("weights", required=False)
@click.option("-o", "--output", required=True, metavar="FILE", help="The file to write.")
@click.option("--blob", "blobs", multiple=True, metavar="NAME",
              help="A blob to make an output, one or several (else: the outputs).")  # fmt: skip
@click.option("--preprocessing", metavar="FILE",
              help="A prototxt of what is done to a picture, to travel with the file.")  # fmt: skip
@click.option("--labels", metavar="FILE", help="The classes, a line each, to travel with the file.")
@click.option("--with-statistics", "statistics", metavar="DEFINITION",
              help="Build the statistics in that a data layer of this train_val has: the file "
              "then takes pictures of 0..255.")  # fmt: skip
@click.option("--layer", default="", metavar="NAME", help="That layer, where there are several.")
@click.option("--fresh", multiple=True, metavar="LAYER",
              help="A layer (or pattern) that the weights may have nothing for.")  # fmt: skip
@click.option("--no-weights", is_flag=True, help="Export the values that the fillers make.")
@click.option("--tolerance", type=click.FloatRange(0), default=1e-4, show_default=True,
              help="The largest difference allowed between PyTorch and ONNX Runtime.")  # fmt: skip
@state_options
@json_option
def command(
    *,
    model: str,
    weights: str | None,
    output: str,
    blobs: tuple[str, ...],
    preprocessing: str | None,
    labels: str | None,
    statistics: str | None,
    layer: str,
    fresh: tuple[str, ...],
    no_weights: bool,
    tolerance: float,
    as_json: bool,
    **state: Any,
) -> None:
    """Write a net with its weights as an ONNX file.

    DEFINITION is a prototxt, WEIGHTS its .caffemodel; or give a zoo model's NAME alone. The file
    is folded for inference, takes any batch size, is run in ONNX Runtime beside the net in
    PyTorch on random inputs, and written only if the two agree.
    """
    from torrefy.export.onnx import export_onnx
    from torrefy.weights.load import load_net

    net: Net
    recipe: Recipe
    if weights is None and is_zoo_name(model):
        from torrefy.zoo import find_card, pull
        from torrefy.zoo.recipe import recipe_of

        recipe = recipe_of(find_card(model))
        pulled = pull(model)
        net = load_net(pulled.definition, pulled.weights, fresh=fresh, **state)
        blobs = blobs or ((recipe.output,) if recipe.output else ())
    else:
        if weights is None and not no_weights and Path(model).is_file():
            raise click.UsageError("give the weights too, or --no-weights")
        net = load_net(model, weights, fresh=fresh, **state)
        recipe = _recipe(net, preprocessing, labels, blobs or list(net.outputs))
    front = _front(net, statistics, layer) if statistics else None
    report = export_onnx(
        net, output, blobs=blobs or None, recipe=recipe, front=front, tolerance=tolerance
    )
    if as_json:
        print_json(_as_json(report))
    else:
        _print(report)


def _front(net: Net, definition: str, layer: str) -> Front:
    from torrefy.data.open import find_layer
    from torrefy.export.front import Front
    from torrefy.schema import read_text, upgrade

    return Front(find_layer(upgrade(read_text(definition)), "test", layer, normalised=True), net)


def _recipe(
    net: Net, preprocessing: str | None, labels: str | None, blobs: Sequence[str]
) -> Recipe:
    from torrefy.data.preprocess import MESSAGE, Preprocessor
    from torrefy.data.recipe import Recipe
    from torrefy.layers.base import shape_text
    from torrefy.schema import read_text
    from torrefy.zoo import read_labels

    preprocessor = None
    if preprocessing:
        definition = read_text(preprocessing, MESSAGE)
        preprocessor = Preprocessor(definition.message, definition.place)
        if preprocessor.blob not in net.inputs:
            raise TorrefyError(
                f'the net has no input "{preprocessor.blob}"', place=definition.place("blob")
            )
    names = tuple(read_labels(Path(labels))) if labels else ()
    for blob in blobs[:1] if names else ():
        shape = net.shapes.get(blob, ())
        if math.prod(shape[1:]) != len(names):
            raise TorrefyError(
                f'{len(names)} labels for the output "{blob}", which is {shape_text(shape)}'
            )
    return Recipe(name=net.graph.name, preprocessor=preprocessor, labels=names)


def _print(report: ExportReport) -> None:
    for what, blobs in (("input", report.inputs), ("output", report.outputs)):
        for name, shape in blobs.items():
            click.echo(one_line(f"{what} {name}: {'x'.join(map(str, shape))}"))
    click.echo(
        f"{report.layers} layers, {report.folded} of them folded; opset {report.opset}; "
        f"{report.bytes:,} bytes"
    )
    click.echo(
        f"largest difference between PyTorch and ONNX Runtime: {report.difference:.2e} "
        f"({one_line(report.blob)})"
    )
    for note in report.notes:
        click.echo(f"note: {one_line(note)}")
    click.echo(one_line(f"wrote {report.path}"))


def _as_json(report: ExportReport) -> dict[str, Any]:
    return {
        "ok": True,
        "file": str(report.path),
        "inputs": {name: list(shape) for name, shape in report.inputs.items()},
        "outputs": {name: list(shape) for name, shape in report.outputs.items()},
        "opset": report.opset,
        "bytes": report.bytes,
        "layers": report.layers,
        "folded": report.folded,
        "difference": report.difference,
        "difference_blob": report.blob,
        "notes": list(report.notes),
    }
