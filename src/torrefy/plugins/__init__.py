"""Plugins: found by entry point, called through the hooks in `hookspecs`."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import pluggy

from torrefy.errors import PluginError
from torrefy.plugins import hookspecs
from torrefy.plugins.hookspecs import PROJECT, hookimpl

__all__ = ["PROJECT", "by_name", "hookimpl", "plugin_manager"]

BUILT_IN = ("torrefy.layers", "torrefy.lint", "torrefy.weights", "torrefy.zoo")
"""The rooms that register through the same hooks as anyone's plugin."""


@functools.cache
def plugin_manager() -> pluggy.PluginManager:
    """The plugins of this process: the built-in ones, then those of the entry point `torrefy`.

    Raises:
        PluginError: when a plugin can't be imported; it is named.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    for name in BUILT_IN:
        manager.register(importlib.import_module(name), name)
    try:
        manager.load_setuptools_entrypoints(PROJECT)
    except Exception as error:
        raise PluginError(
            f"a plugin can't be loaded: {type(error).__name__}: {error}",
            hint="Uninstall it, or ask its author.",
        ) from error
    return manager


def by_name(objects: list[Any], attribute: str) -> dict[str, Any]:
    """Objects from all plugins by their name.

    Raises:
        PluginError: two plugins give one name to different things; both are named.
    """
    named: dict[str, Any] = {}
    for thing in (thing for group in objects for thing in group):
        name = getattr(thing, attribute)
        other = named.setdefault(name, thing)
        if other is not thing:
            origins = [
                f"{getattr(x, '__module__', type(x).__module__)}"
                f".{getattr(x, '__qualname__', type(x).__qualname__)}"
                for x in (other, thing)
            ]
            raise PluginError(f'two plugins define "{name}": {origins[0]} and {origins[1]}')
    return named
