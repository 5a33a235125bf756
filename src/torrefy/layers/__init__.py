"""The layer types, a module a family, a class a type; and the fillers of their params."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from torrefy.plugins.hookspecs import hookimpl


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
