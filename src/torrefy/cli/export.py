"""`torrefy export`: a net with its weights as an ONNX file."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torrefy.cli.definition import is_zoo_name, state_options
from torrefy.cli.file_form import form_options, target_option
from torrefy.cli.output import console, json_option, one_line, print_json
from torrefy.cli.precision import check_lowered, lower_file, precision_options, print_lowered
from torrefy.errors import TorrefyError

if TYPE_CHECKING:
    from torrefy.data.recipe import Recipe
    from torrefy.export.front import Front
    from torrefy.export.onnx import ExportReport
    from torrefy.export.parity import LayerDifference
    from torrefy.export.precision.report import PrecisionReport
    from torrefy.net.net import Net
    from torrefy.net.passes.plan import PassResult


@click.command(
    epilog="\b\nExample:\n  torrefy export net.prototxt weights.caffemodel -o net.onnx\n"
    "  torrefy export squeezenet_v1.1 -o squeezenet.onnx"
)
@click.argument("model", metavar="DEFINITION|NAME")
@click.argument("weights", required=False)
@target_option
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
@click.option("--explain", is_flag=True, help="Tell what became of each layer that is gone.")
@click.option("--parity", type=click.Choice(["layers"]),
              help="Compare each layer with PyTorch and name the first that departs.")  # fmt: skip
@click.option("--tolerance", type=click.FloatRange(0), default=1e-4, show_default=True,
              help="The largest difference allowed between PyTorch and ONNX Runtime.")  # fmt: skip
@form_options
@precision_options
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
    explain: bool,
    parity: str | None,
    tolerance: float,
    form: dict[str, Any],
    lowered: dict[str, Any] | None,
    as_json: bool,
    **state: Any,
) -> None:
    """Write a net with its weights as an ONNX file.

    DEFINITION is a prototxt, WEIGHTS its .caffemodel; or give a zoo model's NAME alone. Of a net
    for training its net for inference is taken: data layers become inputs, losses scores. The file
    is folded, takes any batch size, is run in ONNX Runtime beside the net in PyTorch on random
    inputs, and written only if the two agree.
    """
    from torrefy.weights.load import load_net

    if parity and statistics:
        raise click.UsageError("--parity layers knows no --with-statistics")
    if statistics and form["whole"]:
        raise click.UsageError("give --with-preprocessing or --with-statistics, not both")
    if lowered and (statistics or form["whole"]):
        raise click.UsageError(
            "--precision goes with neither --with-preprocessing nor --with-statistics"
        )
    deployed: PassResult | None = None
    net: Net
    recipe: Recipe
    if weights is None and is_zoo_name(model):
        if preprocessing or labels:
            raise click.UsageError(f"{model} knows its preprocessing and labels: leave out these")
        from torrefy.zoo import find_card, pull
        from torrefy.zoo.recipe import recipe_of

        recipe = recipe_of(find_card(model))
        pulled = pull(model)
        net = load_net(pulled.definition, pulled.weights, fresh=fresh, **state)
        blobs = blobs or ((recipe.output,) if recipe.output else ())
    else:
        if weights is None and not no_weights and Path(model).is_file():
            raise click.UsageError("give the weights too, or --no-weights")
        net, blobs, deployed = loaded(model, weights, blobs, fresh, state)
        recipe = recipe_for(net, preprocessing, labels, blobs or list(net.outputs))
    front = _front(net, statistics, layer) if statistics else None
    write(
        net, output, blobs, recipe, front=front, form=form, lowered=lowered, deployed=deployed,
        tolerance=tolerance, explain=explain, layers=parity == "layers", as_json=as_json,
    )  # fmt: skip


def loaded(
    model: str, weights: str | None, blobs: tuple[str, ...], fresh: Sequence[str],
    state: dict[str, Any],
) -> tuple[Net, tuple[str, ...], PassResult | None]:  # fmt: skip
    """A net for inference, its outputs (empty: all), and how it was derived from one for training.

    Where blobs are named the net stays as it is defined.
    """
    from torrefy.graph import state_of
    from torrefy.net.deploy import deploy
    from torrefy.schema import upgrade
    from torrefy.weights.load import load_net, read_net

    if blobs or state["phase"] != "test":
        return load_net(model, weights, fresh=fresh, **state), blobs, None
    definition = upgrade(read_net(model))
    phase = state_of(definition.message, "test", state["level"], state["stages"])
    shapes, allowed = state["shapes"], state["allow_python"]
    deployed = deploy(definition, phase, shapes=shapes, allow_python=allowed)
    if deployed is None:
        return load_net(definition, weights, fresh=fresh, **state), blobs, None
    net = load_net(deployed.definition, weights, fresh=fresh, allow_python=allowed)
    return net, deployed.outputs, deployed.result


def write(
    net: Net,
    output: str,
    blobs: tuple[str, ...],
    recipe: Recipe,
    *,
    front: Front | None = None,
    form: Mapping[str, Any] | None = None,
    lowered: dict[str, Any] | None = None,
    deployed: PassResult | None = None,
    tolerance: float = 1e-4,
    explain: bool = False,
    layers: bool = False,
    as_json: bool = False,
) -> None:
    """Export a net, and print what it became."""
    from torrefy.export.onnx import export_onnx

    compared: list[LayerDifference] = []
    if layers:
        from torrefy.export.parity import compare_layers

        compared = compare_layers(net, blobs or None, recipe=recipe)
        if not as_json:
            _print_layers(compared, tolerance)
    lower: PrecisionReport | None = None
    with tempfile.TemporaryDirectory(prefix="torrefy-") as folder:
        file = Path(folder) / Path(output).name if lowered else Path(output)
        if lowered:
            check_lowered(output, recipe=recipe, **lowered)
        report = export_onnx(
            net, file, blobs=blobs or None, recipe=recipe, front=front, tolerance=tolerance,
            **(form or {}),
        )  # fmt: skip
        if deployed is not None:
            report = replace(report, passes=(deployed, *report.passes))
        if lowered:
            lower = lower_file(str(file), output, lowered, quiet=as_json)
    if as_json:
        told = _as_json(report, compared, tolerance) | {"file": output}
        print_json(told | ({"lowered": lower.as_json()} if lower else {}))
    else:
        _print(report, explain, written=lower is None)
        if lower is not None:
            print_lowered(lower)


def _front(net: Net, definition: str, layer: str) -> Front:
    from torrefy.data.open import find_layer
    from torrefy.export.front import Front
    from torrefy.schema import read_text, upgrade

    return Front(find_layer(upgrade(read_text(definition)), "test", layer, normalised=True), net)


def recipe_for(
    net: Net, preprocessing: str | None, labels: str | None, blobs: Sequence[str]
) -> Recipe:
    """What travels with a file: preprocessing and classes, read from files."""
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


def _print(report: ExportReport, explain: bool, *, written: bool = True) -> None:
    from torrefy.net.fold import PASSES

    summaries = {each.name: each.summary for each in PASSES}
    for result in report.passes:
        if not result.changes:
            continue
        told = summaries.get(result.name, "derive the net for inference")
        count = len(result.changes)
        click.echo(one_line(f"{result.name}: {told}: {count} layer{'s' * (count > 1)}"))
        for change in result.changes if explain else ():
            click.echo(one_line(f"  {change.layer} ({change.type}): {change.what}"))
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
    if report.levels is not None:
        click.echo(f"largest difference of a resized picture from Pillow: {report.levels:g} levels")
    for note in report.notes:
        click.echo(f"note: {one_line(note)}")
    if written:
        click.echo(one_line(f"wrote {report.path}"))


def _print_layers(compared: Sequence[LayerDifference], tolerance: float) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("layer", overflow="fold")
    table.add_column("type")
    table.add_column("blob", overflow="fold")
    for name in ("difference", "largest"):
        table.add_column(name, justify="right")
    for one in compared:
        numbers = f"{one.difference:.2e}", f"{one.largest:.4g}"
        table.add_row(one_line(one.layer), one.type, one_line(one.blob), *numbers)
    console().print(table)
    first = next((one for one in compared if one.departs(tolerance)), None)
    if first is None:
        click.echo(f"no layer departs from PyTorch by more than {tolerance:g}")
    else:
        click.echo(one_line(f"the first that departs from PyTorch is {first.layer}"))


def _as_json(
    report: ExportReport, compared: Sequence[LayerDifference], tolerance: float
) -> dict[str, Any]:
    layers = {
        "layers_compared": [asdict(one) | {"departs": one.departs(tolerance)} for one in compared]
    }
    return {
        **(layers if compared else {}),
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
        "levels": report.levels,
        "notes": list(report.notes),
        "passes": [asdict(result) for result in report.passes],
    }
