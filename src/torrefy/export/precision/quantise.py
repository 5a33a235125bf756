"""A graph in int8: what ONNX Runtime's quantiser writes, with biases that undo its rounding."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.export.precision.graph import WEIGHTED, arrays, of_squares, users_of
from torrefy.export.precision.ranges import Spread

OPERATORS = (
    *WEIGHTED, "Relu", "Clip", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool",
    "Concat", "Add", "Reshape", "Flatten", "Squeeze", "Unsqueeze",
)  # fmt: skip
"""What is computed in int8, so that a trunk stays in int8 from one convolution to the next.
Softmax is not: of 256 steps of a probability most classes get 0."""


@functools.cache
def saturates() -> bool:
    """Whether this CPU's products of uint8 and int8 overflow, as they do on x86 without VNNI.

    It adds two of them in 16 bits: 255·127·2 > 32767. Weights then have 7 bits.
    """
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    size = 64
    node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    weights = helper.make_tensor("b", TensorProto.INT8, (size, 16), [127] * size * 16)
    graph = helper.make_graph(
        [node], "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, (4, size))],
        [helper.make_tensor_value_info("y", TensorProto.INT32, (4, 16))],
        [weights],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"a": np.full((4, size), 255, np.uint8)})
    return bool((found != 255 * 127 * size).any())


class Quantiser:
    """Makes a graph int8, with any of its layers left in fp32.

    Activations are uint8 with a zero point, in the ranges that calibration found; weights int8,
    symmetric, with a scale for each channel that they make. The bias of a layer is shifted by what
    rounding its weights adds to the mean of each channel, Σ (Wq − W)·E[x] (Nagel et al. 2019,
    arXiv:1906.04721, section 4.2), where E[x] are the means of its input's channels.
    """

    def __init__(
        self,
        model: Any,
        spreads: Mapping[str, Spread],
        *,
        least: float = 0.0,
        reduce_range: bool | None = None,
    ) -> None:
        """Take a prepared graph, and how its values are spread.

        Args:
            model: the graph.
            spreads: of its values.
            least: the share of a range that is left at least, where it is clipped.
            reduce_range: weights of 7 bits; None: where this CPU needs them.
        """
        self.model = model
        self.reduce_range = saturates() if reduce_range is None else reduce_range
        self._spreads = spreads
        self._ranges = {name: spread.clipped(least) for name, spread in spreads.items()}
        self._never = set(of_squares(model))
        self._never.update(
            node.name
            for node in model.graph.node
            if any(name not in spreads for name in node.output)
        )
        self._constants = arrays(model)

    @property
    def units(self) -> list[list[Any]]:
        """What can be kept in fp32 by itself: a layer with weights or a sum, with its ReLU."""
        users = users_of(self.model)
        units = []
        for node in self.model.graph.node:
            if node.name in self._never or node.op_type not in (*WEIGHTED, "Add"):
                continue
            after = users.get(node.output[0], [])
            relu = len(after) == 1 and after[0].op_type in ("Relu", "Clip")
            units.append([node, *(after if relu else [])])
        return units

    def only(self, names: Collection[str]) -> Any:
        """The graph with these nodes in int8 and all others in fp32."""
        return self._quantised(self.model, [n for n in self._all() if n not in names])

    def without(self, kept: Collection[str]) -> Any:
        """The graph in int8, without the nodes of these names."""
        excluded = [name for name in self._all() if name in kept]
        return self._quantised(self._corrected(excluded), excluded)

    def _all(self) -> list[str]:
        return [node.name for node in self.model.graph.node]

    def _quantised(self, model: Any, excluded: Collection[str]) -> Any:
        import onnx
        from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
        from onnxruntime.quantization.calibrate import TensorData, TensorsData

        ranges = {
            name: TensorData(lowest=np.float32(low), highest=np.float32(high))
            for name, (low, high) in self._ranges.items()
        }
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        with _quiet():
            quantiser = QDQQuantizer(
                copy, True, self.reduce_range, QuantType.QInt8, QuantType.QUInt8,
                TensorsData(CalibrationMethod.MinMax, ranges), [],
                sorted({*excluded, *self._never}), list(OPERATORS), {},
            )  # fmt: skip
            quantiser.quantize_model()
            quantiser.model.topological_sort()
        return quantiser.model.model

    def _corrected(self, excluded: Collection[str]) -> Any:
        """The graph with the biases that its int8 form shall have."""
        import onnx
        from onnx import numpy_helper

        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        for node in copy.graph.node:
            if node.op_type not in ("Conv", "Gemm") or node.name in {*excluded, *self._never}:
                continue
            shift = self._shift(node)
            if shift is None:
                continue
            bias = node.input[2] if len(node.input) > 2 else ""
            if bias and bias not in self._constants:
                continue
            values = self._constants[bias] if bias else np.zeros(1, np.float32)
            name = f"{node.name}.bias_of_int8"  # of its own: layers may share one
            copy.graph.initializer.append(
                numpy_helper.from_array((values - shift).astype(np.float32), name)
            )
            del node.input[2:]
            node.input.append(name)
        return copy

    def _shift(self, node: Any) -> NDArray[np.float64] | None:
        """What rounding a layer's weights adds to the mean of each of its channels."""
        import onnx

        weights = self._constants.get(node.input[1])
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if weights is None or node.input[0] not in self._spreads:
            return None
        groups = 1
        if node.op_type == "Gemm":
            plain = all(attributes.get(key, 1.0) == 1.0 for key in ("alpha", "beta"))
            if not plain or attributes.get("transA", 0):
                return None
            weights = weights if attributes.get("transB", 0) else weights.T
        else:
            groups = attributes.get("group", 1)
        outputs, inputs = weights.shape[:2]
        means = self._spreads[node.input[0]].means
        if means.size != inputs * groups:
            return None
        flat = weights.reshape(outputs, -1).astype(np.float64)
        levels = 63 if self.reduce_range else 127
        step = np.maximum(np.abs(flat).max(axis=1, keepdims=True) / levels, 1e-30)
        error = (np.round(flat / step) * step - flat).reshape(outputs, inputs, -1).sum(axis=2)
        seen = np.repeat(means.reshape(groups, inputs), outputs // groups, axis=0)
        return np.asarray((error * seen).sum(axis=1))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser logs on the root what it passes over."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
