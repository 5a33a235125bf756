"""Every layer type that there is, from all plugins."""

from __future__ import annotations

from torrefy.layers.base import Layer
from torrefy.plugins import Contribution, Lazy, Named, cached, contributions
from torrefy.schema import schema


@cached
def layer_types() -> Named:
    """The layer classes by their types.

    A plugin that gives something else is told, and what it gives passed over.
    """
    schema()  # first: a plugin whose fields can't be has no layers either
    return Named("layer type", contributions("torrefy_layers"), "type_name", check=_problem)


def _problem(given: Contribution) -> str:
    """What is wrong with what a plugin gives as a layer; it is loaded."""
    cls = given.load()
    if not (isinstance(cls, type) and issubclass(cls, Layer)):
        return f"what it gives as a layer is no subclass of Layer: {cls!r}"
    if isinstance(given.thing, Lazy) and cls.type_name != given.thing.name:
        return (
            f'what it gives as "{given.thing.name}" is of the type "{cls.type_name}": '
            f"{given.thing.target}"
        )
    return ""
