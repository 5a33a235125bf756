"""The layer types, a module a family, a class a type; and the fillers of their params.

What authors of layers need is here: `from torrefy.layers import Layer, Shape, field, layer`.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from torrefy.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from torrefy.layers.base import Layer, Shape, layer
    from torrefy.layers.fillers import filler
    from torrefy.schema.fields import Fields, Filler, field

_HOMES = {
    "Fields": "torrefy.schema.fields",
    "Filler": "torrefy.schema.fields",
    "Layer": "torrefy.layers.base",
    "Shape": "torrefy.layers.base",
    "field": "torrefy.schema.fields",
    "filler": "torrefy.layers.fillers",
    "layer": "torrefy.layers.base",
}
"""Where each name lives. It is imported on first use: what reads definitions needs no torch."""

__all__ = ["Fields", "Filler", "Layer", "Shape", "field", "filler", "layer"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


@hookimpl
def torrefy_layers() -> list[type[Any]]:
    """Every class of this package's modules that has a prototxt type."""
    from torrefy.layers.base import Layer

    found: list[type[Any]] = []
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for thing in vars(module).values():
            own = isinstance(thing, type) and thing.__module__ == module.__name__
            if own and issubclass(thing, Layer) and thing.type_name:
                found.append(thing)
    return found


@hookimpl
def torrefy_fillers() -> list[Any]:
    """Caffe's fillers."""
    from torrefy.layers.fillers import BUILT_IN

    return list(BUILT_IN)
