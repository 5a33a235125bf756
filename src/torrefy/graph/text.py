"""A graph written back as a definition."""

from __future__ import annotations

from typing import Any

from torrefy.graph.resolve import Graph
from torrefy.schema import new_message, write_text


def graph_message(graph: Graph) -> Any:
    """The NetParameter of a graph: today's layers, those of the graph's state, without rules.

    It resolves to the same graph in any state. Blobs have their own names again, in-place layers
    included; weights that stood in the definition are left out.
    """
    message = new_message("caffe.NetParameter")
    if graph.name:
        message.name = graph.name
    if graph.definition.message.force_backward:
        message.force_backward = True
    for node in graph.nodes:
        layer = message.layer.add()
        layer.CopyFrom(node.spec)
        for field in ("include", "exclude", "blobs", "phase"):
            layer.ClearField(field)
    return message


def graph_text(graph: Graph) -> str:
    """A graph as prototxt; see `graph_message`."""
    return write_text(graph_message(graph), graph.definition.dialect)
