"""Every layer type that there is, from all plugins."""

from __future__ import annotations

from torrefy.layers.base import Layer
from torrefy.plugins import Contribution, Named, cached, contributions


@cached
def layer_types() -> Named:
    """The layer classes by their types.

    A plugin that gives something else is told, and what it gives passed over.
    """
    return Named("layer type", contributions("torrefy_layers"), "type_name", check=_problem)


def _problem(given: Contribution) -> str:
    """What is wrong with what a plugin gives as a layer; it is loaded."""
    cls = given.load()
    if not (isinstance(cls, type) and issubclass(cls, Layer)):
        return f"what it gives as a layer is no subclass of Layer: {cls!r}"
    return ""
