"""`torrefy convert`: anyone's Caffe net as an ONNX file."""

from __future__ import annotations

from typing import Any

import click

from torrefy.cli.definition import state_options
from torrefy.cli.export import loaded, recipe_for, write
from torrefy.cli.file_form import form_options, target_option
from torrefy.cli.output import json_option


@click.command(
    epilog="\b\nExample:\n  torrefy convert deploy.prototxt net.caffemodel -o net.onnx\n"
    "  torrefy convert train_val.prototxt net.caffemodel -o net.onnx --shape data=1x3x227x227"
)
@click.argument("definition")
@click.argument("weights")
@target_option
@click.option("--blob", "blobs", multiple=True, metavar="NAME",
              help="A blob to make an output, one or several (else: the outputs).")  # fmt: skip
@click.option("--preprocessing", metavar="FILE",
              help="A prototxt of what is done to a picture, to travel with the file.")  # fmt: skip
@click.option("--labels", metavar="FILE", help="The classes, a line each, to travel with the file.")
@click.option("--fresh", multiple=True, metavar="LAYER",
              help="A layer (or pattern) that the weights may have nothing for.")  # fmt: skip
@click.option("--explain", is_flag=True, help="Tell what became of each layer that is gone.")
@click.option("--tolerance", type=click.FloatRange(0), default=1e-4, show_default=True,
              help="The largest difference allowed between PyTorch and ONNX Runtime.")  # fmt: skip
@form_options
@state_options
@json_option
def command(
    *,
    definition: str,
    weights: str,
    output: str,
    blobs: tuple[str, ...],
    preprocessing: str | None,
    labels: str | None,
    fresh: tuple[str, ...],
    explain: bool,
    tolerance: float,
    form: dict[str, Any],
    as_json: bool,
    **state: Any,
) -> None:
    """Convert a Caffe net to ONNX.

    DEFINITION is a deploy.prototxt or a train_val.prototxt, of any age of Caffe; WEIGHTS its
    .caffemodel, .h5 or .safetensors. What is folded is told. The file takes any batch size, and is
    written only if ONNX Runtime computes with it what the net does in PyTorch.
    """
    net, blobs, deployed = loaded(definition, weights, blobs, fresh, state)
    recipe = recipe_for(net, preprocessing, labels, blobs or list(net.outputs))
    write(
        net, output, blobs, recipe, form=form, deployed=deployed, tolerance=tolerance,
        explain=explain, as_json=as_json,
    )  # fmt: skip
