"""The number of the likeliest class as an output of an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from torrefy.data.recipe import Recipe
from torrefy.errors import ExportError

CLASS = "class"
"""The output: N numbers, the places in `torrefy.labels` of the largest of each picture's scores."""


def add_class(model: Any, recipe: Recipe, names: Mapping[str, str]) -> str:
    """Give an ONNX model the output CLASS; returns the output that it is of.

    Args:
        model: the onnx.ModelProto.
        recipe: it names the classes, and the blob that holds their scores (else: the first).
        names: the net's blob of each output of the file.

    Raises:
        ExportError: no classes are known, or the model has a blob of this name.
    """
    from onnx import TensorProto, helper

    if not recipe.labels:
        raise ExportError("no classes are known", hint="Give --labels FILE, a line for each.")
    if any(CLASS in (*node.input, *node.output) for node in model.graph.node):
        raise ExportError(f'the net has a blob "{CLASS}", which is what the output is to be called')
    scores = next(
        (name for name, blob in names.items() if blob == recipe.output), next(iter(names))
    )
    (given,) = (value for value in model.graph.output if value.name == scores)
    model.graph.node.extend(
        [
            helper.make_node("Flatten", [scores], ["class/scores"], "class/Flatten", axis=1),
            helper.make_node(
                "ArgMax", ["class/scores"], [CLASS], "class/ArgMax", axis=1, keepdims=0
            ),
        ]
    )
    value = helper.make_tensor_value_info(CLASS, TensorProto.INT64, ["batch"])
    value.type.tensor_type.shape.dim[0].CopyFrom(given.type.tensor_type.shape.dim[0])
    model.graph.output.append(value)
    return scores


def check_class(found: Mapping[str, NDArray[Any]], scores: str, count: int) -> None:
    """Hold what a file computed against its scores.

    Raises:
        ExportError: there is not one score for each class, or the class is not that of the largest.
    """
    rows = found[scores].reshape(len(found[scores]), -1)
    if rows.shape[1] != count:
        raise ExportError(f'{count} labels for the output "{scores}", which has {rows.shape[1]}')
    if (found[CLASS] != rows.argmax(1)).any():
        raise ExportError(f'the output "{CLASS}" is not that of the largest of "{scores}"')
