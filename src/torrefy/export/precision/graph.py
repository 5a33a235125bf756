"""ONNX graphs made ready for fewer bits, and run with any of their values as outputs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.errors import ExportError

MOST_INLINE = 1 << 30
"""Bytes of weights that ONNX Runtime is given in memory; more go through a file."""
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""The operators that hold a net's weights."""


def prepared(model: Any) -> Any:
    """A copy with shapes and names everywhere, and means over a picture as GlobalAveragePool.

    The quantised form of that takes channels last, as all of ONNX Runtime's quantised operators
    do; ReduceMean's has none.
    """
    import onnx

    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    constants = arrays(model)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
        if node.op_type == "ReduceMean" and _over_pictures(node, constants):
            node.op_type = "GlobalAveragePool"
            del node.input[1:]
            del node.attribute[:]
    used = {name for node in model.graph.node for name in node.input}
    used.update(value.name for value in model.graph.output)
    unused = [item for item in model.graph.initializer if item.name not in used]
    for item in unused:
        model.graph.initializer.remove(item)
    return model


def _over_pictures(node: Any, constants: Mapping[str, NDArray[Any]]) -> bool:
    import onnx

    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    axes = constants.get(node.input[1]) if len(node.input) > 1 else None
    whole = axes is not None and sorted(axes.ravel().tolist()) in ([2, 3], [-2, -1])
    return whole and attributes.get("keepdims", 1) == 1


def arrays(model: Any) -> dict[str, NDArray[Any]]:
    """The constants of a graph by name."""
    import onnx

    return {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}


def float_values(model: Any) -> list[str]:
    """The names of all values of float32 that nodes make."""
    import onnx

    known = {
        value.name
        for value in (*model.graph.value_info, *model.graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    return [name for node in model.graph.node for name in node.output if name in known]


def users_of(model: Any) -> dict[str, list[Any]]:
    """The nodes that take each value."""
    users: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    return users


def of_squares(model: Any) -> list[str]:
    """The nodes that compute with squares, up to where the result joins the values again.

    So LRN and the normalisations do; squares span the square of the range, which neither 8 bits
    nor the 5 bits of an fp16 number's exponent hold.
    """
    constants = {item.name for item in model.graph.initializer}
    made: set[str] = set()
    nodes: list[str] = []
    for node in model.graph.node:
        given = [name for name in node.input if name and name not in constants]
        square = node.op_type == "Mul" and len(given) == 2 and given[0] == given[1]
        within = bool(given) and all(name in made for name in given)
        if square or within or node.op_type == "Pow":
            made.update(node.output)
        if square or node.op_type == "Pow" or any(name in made for name in given):
            nodes.append(node.name)
    return nodes


def layer_name(node: Any) -> str:
    """What the report calls a node: its layer, which its weights are named after."""
    for name in node.input:
        if name.endswith(".weight"):
            return str(name.removesuffix(".weight"))
    return str(node.output[0])


def with_outputs(model: Any, names: Iterable[str]) -> Any:
    """A copy that has these values as outputs, too."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {value.name: value for value in model.graph.value_info}
    there = {value.name for value in model.graph.output}
    for name in dict.fromkeys(names):
        if name not in there:
            value = known.get(name) or onnx.helper.make_tensor_value_info(
                name, onnx.TensorProto.FLOAT, None
            )
            copy.graph.output.append(value)
    return copy


class Running:
    """A graph in ONNX Runtime on the CPU."""

    def __init__(self, model: Any, threads: int = 0) -> None:
        """Open it.

        Raises:
            ExportError: ONNX Runtime can't take it.
        """
        import onnx
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        providers = ["CPUExecutionProvider"]
        try:
            if sum(len(item.raw_data) for item in model.graph.initializer) < MOST_INLINE:
                given: Any = model.SerializeToString()
                self.session = onnxruntime.InferenceSession(given, options, providers)
                return
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "model.onnx")
                copy = onnx.ModelProto()
                copy.CopyFrom(model)
                onnx.save_model(copy, path, save_as_external_data=True, location="data")
                self.session = onnxruntime.InferenceSession(str(path), options, providers)
        except Exception as error:  # noqa: BLE001  ONNX Runtime has no one class of errors
            reason = str(error).strip().splitlines()[0]
            raise ExportError(f"ONNX Runtime can't take the file that was made: {reason}") from None

    def __call__(self, pictures: NDArray[np.float32], names: Sequence[str]) -> list[NDArray[Any]]:
        """The values of these names for a batch of pictures."""
        given = self.session.get_inputs()[0].name
        values: list[NDArray[Any]] = self.session.run(list(names), {given: pictures})
        return values
