"""A graph in fp16, with what would overflow left in fp32.

ONNX Runtime's own converter is not used: where a node left in fp32 takes a value twice, as LRN's
square does, it makes two casts of one name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from torrefy.export.precision.graph import arrays, float_values, of_squares
from torrefy.export.precision.ranges import Spread

LARGEST = float(np.finfo(np.float16).max)
"""65504."""
ROOM = 4.0
"""Other pictures may make values so much larger than those that were looked at."""


def kept_in_fp32(model: Any, spreads: Mapping[str, Spread]) -> set[str]:
    """The nodes that make or take a value too large for fp16, and those that compute of squares."""
    large = {
        name
        for name, spread in spreads.items()
        if max(-spread.least, spread.largest) * ROOM > LARGEST
    }
    large.update(
        name
        for name, values in arrays(model).items()
        if values.dtype == np.float32 and values.size and float(np.abs(values).max()) > LARGEST
    )
    squares = set(of_squares(model))
    return {
        node.name
        for node in model.graph.node
        if node.name in squares or large.intersection([*node.input, *node.output])
    }


def halved(model: Any, kept: Collection[str]) -> Any:
    """The graph in fp16, with inputs, outputs and the nodes of these names in fp32.

    A value is cast once for all that take it in the other precision. What ONNX's schema of an
    operator wants in float32, as the scales of Resize, stays so.
    """
    import onnx

    return _Halving(onnx.shape_inference.infer_shapes(model)).made(kept)


class _Halving:
    """One graph on its way to fp16."""

    def __init__(self, model: Any) -> None:
        import onnx

        self._half, self._float = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
        self._model = model
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        self._constants = {
            item.name: item for item in model.graph.initializer if item.data_type == self._float
        }
        self._types = dict.fromkeys((*float_values(model), *self._constants), self._float)
        self._types.update(
            (value.name, self._float)
            for value in model.graph.input
            if value.type.tensor_type.elem_type == self._float
        )
        self._nodes: list[Any] = []
        self._casts: dict[tuple[str, int], str] = {}
        self._added: list[Any] = []

    def made(self, kept: Collection[str]) -> Any:
        """The graph."""
        import onnx

        model, outputs = self._model, [value.name for value in self._model.graph.output]
        within = _seen_by_subgraphs(model)
        names = {name: name for name in self._types}
        for node in model.graph.node:
            fixed = node.name in kept or within.intersection(node.output)
            takes, makes = self._signature(node)
            half = not fixed and any(
                name in self._types and may for name, may in zip(node.input, takes, strict=False)
            )
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            for place, name in enumerate(node.input):
                if name in self._types:
                    wanted = self._half if half and takes[place] else self._float
                    copy.input[place] = self._as(names[name], wanted)
            self._nodes.append(copy)
            for place, name in enumerate(node.output):
                if name in self._types and half and makes[place]:
                    if name in outputs:
                        names[name] = copy.output[place] = f"{name}.fp16"
                    self._types[names[name]] = self._half
        for name in outputs:
            if names.get(name, name) != name:
                self._nodes.append(
                    onnx.helper.make_node("Cast", [names[name]], [name], to=self._float)
                )
        del model.graph.node[:]
        model.graph.node.extend(self._nodes)
        del model.graph.value_info[:]
        self._store_constants()
        return onnx.shape_inference.infer_shapes(model)

    def _signature(self, node: Any) -> tuple[list[bool], list[bool]]:
        """Which inputs and outputs of a node may be in fp16, by its operator's schema."""
        import onnx

        counts = len(node.input), len(node.output)
        version = self._opsets.get(node.domain, self._opsets.get("", 1))
        subgraph = any(a.type == onnx.AttributeProto.GRAPH for a in node.attribute)
        if subgraph or not onnx.defs.has(node.op_type, node.domain):
            return [False] * counts[0], [False] * counts[1]
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
        allowed = {
            constraint.type_param_str: "tensor(float16)" in constraint.allowed_type_strs
            for constraint in schema.type_constraints
        }

        def may(formals: Any, count: int) -> list[bool]:
            return [
                allowed.get(formals[min(place, len(formals) - 1)].type_str, False)
                for place in range(count)
            ]

        takes, makes = may(schema.inputs, counts[0]), may(schema.outputs, counts[1])
        if node.op_type in ("Cast", "ConstantOfShape"):  # an attribute says what they make
            makes = [False] * counts[1]
        return takes, makes

    def _as(self, name: str, wanted: int) -> str:
        """A value's name in a precision; a cast is put before the node where there is none yet."""
        import onnx

        if self._types[name] == wanted:
            return name
        key = (name, wanted)
        if key not in self._casts:
            made = f"{name}.{'fp16' if wanted == self._half else 'fp32'}"
            if name in self._constants:
                values = onnx.numpy_helper.to_array(self._constants[name]).astype(np.float16)
                self._added.append(onnx.numpy_helper.from_array(values, made))
            else:
                self._nodes.append(onnx.helper.make_node("Cast", [name], [made], to=wanted))
            self._casts[key] = made
        return self._casts[key]

    def _store_constants(self) -> None:
        graph = self._model.graph
        used = {name for node in graph.node for name in node.input}
        used.update(value.name for value in graph.output)
        used.update(_seen_by_subgraphs(self._model))
        for name, item in self._constants.items():
            if name not in used:
                graph.initializer.remove(item)
        graph.initializer.extend(self._added)


def _seen_by_subgraphs(model: Any) -> set[str]:
    """The names that the graphs within nodes use."""
    import onnx

    def names(graph: Any) -> set[str]:
        found = {name for node in graph.node for name in node.input}
        found.update(value.name for value in graph.output)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    found |= names(attribute.g)
        return found

    seen: set[str] = set()
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                seen |= names(attribute.g)
    return seen
