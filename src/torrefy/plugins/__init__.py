"""Plugins: found by entry point or file, called through the hooks in `hookspecs`."""

from torrefy.plugins.found import API, Plugin, PluginWarning
from torrefy.plugins.hookspecs import PROJECT, hookimpl
from torrefy.plugins.lazy import Lazy
from torrefy.plugins.manager import (
    Contribution,
    Named,
    added,
    cached,
    chosen_dialect,
    configure,
    contributions,
    disputed,
    in_dialect,
    manager,
    named,
    owner_of,
    reset,
)

__all__ = [
    "API",
    "PROJECT",
    "Contribution",
    "Lazy",
    "Named",
    "Plugin",
    "PluginWarning",
    "added",
    "cached",
    "chosen_dialect",
    "configure",
    "contributions",
    "disputed",
    "hookimpl",
    "in_dialect",
    "manager",
    "named",
    "owner_of",
    "reset",
]
