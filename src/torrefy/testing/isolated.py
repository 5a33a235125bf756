"""A plugin by itself: loaded without any other, or refused with the reason."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from torrefy.errors import PluginError
from torrefy.plugins import API, Plugin, PluginWarning, added, contributions
from torrefy.plugins.found import DECLARATION
from torrefy.plugins.manager import HOOKS
from torrefy.schema import schema


@contextlib.contextmanager
def isolated_plugin(module: Any, name: str = "") -> Iterator[Plugin]:
    """Within it, a module is a plugin, and the only one beside the built-in ones.

    Args:
        module: a module with hooks (or any object with them); it need not be installed.
        name: what the plugin is called; empty: the last word of the module's name.

    Raises:
        PluginError: the plugin can't be used, and why.

    Example:
        with isolated_plugin(acme_layers):
            net = torrefy.load_net("net.prototxt")
    """
    own = getattr(module, "__name__", type(module).__name__).rpartition(".")[2]
    with contextlib.ExitStack() as stack:
        plugin = stack.enter_context(added(module, name or own, alone=True))
        version = getattr(module, DECLARATION, None)
        if isinstance(module, ModuleType) and version != API:
            found = "it isn't there" if version is None else f"found {version!r}"
            plugin.error = f"it must say {DECLARATION} = {API} at its top; {found}"
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PluginWarning)  # it is raised below
                for hook in HOOKS:
                    contributions(hook)
                schema()
        if plugin.error:
            raise PluginError(f"plugin {plugin.title} is not used: {plugin.error}")
        yield plugin
