"""Layers' own forms for ONNX, in place of what they compute in PyTorch, while a net is exported."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from torrefy.layers.base import Layer
from torrefy.net.net import Net


@contextlib.contextmanager
def as_exported(net: Net) -> Iterator[None]:
    """The net's layers compute in `forward` what they say in `exported`, until the end."""
    changed = [la for la in net.layers.values() if type(la).exported is not Layer.exported]
    for layer in changed:
        vars(layer)["forward"] = _exported(layer)
    try:
        yield
    finally:
        for layer in changed:
            del vars(layer)["forward"]


def _exported(layer: Layer) -> Callable[..., Any]:
    """A layer's `exported` in place of its `forward`, which that may call."""

    def call(*bottoms: Tensor, **_: Any) -> Any:
        del vars(layer)["forward"]
        try:
            return layer.exported(*bottoms)
        finally:
            vars(layer)["forward"] = call

    return call


def shape_weights(model: Any) -> None:
    """Give weights the shape in which they are read, where the graph would give it them."""
    from onnx import numpy_helper

    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    readers = Counter(name for node in graph.node for name in node.input)
    shaped: dict[str, str] = {}
    for node in graph.node:
        if node.op_type != "Unsqueeze" or readers[node.input[0]] > 1:
            continue
        weight, axes = (weights.get(name) for name in node.input)
        if weight is None or axes is None:
            continue
        dims = list(weight.dims)
        for axis in sorted(numpy_helper.to_array(axes) % (len(dims) + axes.dims[0])):
            dims.insert(axis, 1)
        weight.dims[:] = dims
        shaped[node.output[0]] = weight.name
    kept = [node for node in graph.node if not shaped.keys() & set(node.output)]
    for node in kept:
        node.input[:] = [shaped.get(name, name) for name in node.input]
    del graph.node[:]
    graph.node.extend(kept)
    changed = {*shaped, *shaped.values()}
    told = [value for value in graph.value_info if value.name not in changed]
    del graph.value_info[:]
    graph.value_info.extend(told)
