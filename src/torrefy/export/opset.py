"""Which of ONNX's operator sets a file may be of."""

from __future__ import annotations

import functools

from torrefy.errors import ExportError

OPSET = 20
"""The one that is taken when none is named."""
OLDEST = 19
"""Of older ones ONNX Runtime computes average pooling with the wrong divisor where a window hangs
over the edge."""


@functools.cache
def newest() -> int:
    """The newest that both the installed onnx and the installed ONNX Runtime know."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    for version in range(onnx.defs.onnx_opset_version(), OPSET, -1):
        imported = [helper.make_opsetid("", version)]
        model = helper.make_model_gen_version(graph, opset_imports=imported)
        try:
            onnxruntime.InferenceSession(
                model.SerializeToString(), options, ["CPUExecutionProvider"]
            )
        except Exception:  # noqa: BLE001, S112  ONNX Runtime has no one class of errors
            continue
        return version
    return OPSET


def check_opset(opset: int) -> None:
    """Refuse an operator set that a file can't be of.

    Raises:
        ExportError: it is too old, or newer than what is installed.
    """
    if opset < OLDEST:
        raise ExportError(
            f"opset {opset}: below {OLDEST} ONNX Runtime computes average pooling with a wrong "
            "divisor where a window hangs over the edge",
            hint=f"Take {OLDEST} to {newest()}.",
        )
    if opset > newest():
        raise ExportError(
            f"opset {opset}: the newest that the installed onnx and onnxruntime both know is "
            f"{newest()}"
        )
