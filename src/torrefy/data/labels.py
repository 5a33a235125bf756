"""Which labels a net can take, told before training rather than by a crash within it."""

from __future__ import annotations

from typing import NamedTuple

from torrefy.net.net import Net


class LabelLimit(NamedTuple):
    """The labels that are right in an input."""

    classes: int
    """They are below it, and 0 or more."""
    ignore_label: int | None
    """One that is right too."""


def label_limits(net: Net) -> dict[str, LabelLimit]:
    """The limits of the inputs that layers take class numbers from, by the input's name.

    Of several layers that read an input, the one with the fewest classes counts.
    """
    limits: dict[str, LabelLimit] = {}
    for node in net.graph.nodes:
        layer = net.layers[node.key]
        shapes = [net.shapes[value] for value in node.bottoms]
        for i, value in enumerate(node.bottoms):
            name = next((n for n, first in net.graph.inputs.items() if first == value), None)
            limit = layer.index_limit(i, shapes)
            if name is None or limit is None:
                continue
            if name not in limits or limit < limits[name].classes:
                limits[name] = LabelLimit(limit, getattr(layer, "ignore_label", None))
    return limits
