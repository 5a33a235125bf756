"""Finding plugins: entry points and files, judged before they are run."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

GROUP = "torrefy"
"""The entry points that name plugins."""
API = 1
"""The version of the plugin surface: what hooks are called, given and return.

It counts up when a plugin that was right becomes wrong."""
DECLARATION = "TORREFY_API"
PATIENCE = 3.0
"""Seconds after which someone who waits for a plugin is told for whom."""


class PluginWarning(UserWarning):
    """A plugin is not used, and why."""


def _warn(text: str) -> None:
    warnings.warn(text, PluginWarning, stacklevel=2)


tell: Callable[[str], None] = _warn
"""Says what is wrong with a plugin. The command line puts a line on stderr in its place."""


@dataclass
class Plugin:
    """One plugin, used or not."""

    name: str
    """The entry point's name, a file's stem; its dialect's name, too."""
    source: str
    """The module, "torrefy_ssd", or the file."""
    distribution: str = ""
    version: str = ""
    built_in: bool = False
    disabled: bool = False
    error: str = ""
    """Why it is not used, or not wholly; empty where nothing is wrong."""
    module: Any = field(default=None, repr=False)

    @property
    def title(self) -> str:
        """Its name for messages: `"ssd" (torrefy-ssd 0.1.0)`."""
        origin = f"{self.distribution} {self.version}" if self.distribution else self.source
        return f'"{self.name}" ({origin})'

    def fail(self, reason: str) -> None:
        """Note why it isn't used, and tell it once."""
        if not self.error:
            self.error = reason
            tell(f"plugin {self.title} is not used: {reason}")


@contextlib.contextmanager
def waiting_for(plugin: Plugin) -> Iterator[None]:
    """Tell for whom one waits, when it takes long; what it prints meanwhile goes to stderr."""
    disable = f"--disable {plugin.name} or TORREFY_DISABLE_PLUGINS={plugin.name} leaves it out"
    timer = threading.Timer(
        PATIENCE, lambda: tell(f"still waiting for plugin {plugin.title}; Ctrl-C stops, {disable}")
    )
    timer.daemon = True
    timer.start()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
            yield
    finally:
        timer.cancel()


def find(files: Iterable[Path], disabled: Iterable[str]) -> list[Plugin]:
    """The plugins of the entry points, then those of files; imported, or with a reason.

    A disabled one ("all": each) is found, but not imported.
    """
    unwanted = set(disabled)
    found: list[Plugin] = []
    entries = importlib.metadata.entry_points(group=GROUP)
    for entry in sorted(entries, key=lambda e: e.name):
        dist = entry.dist
        plugin = Plugin(
            entry.name, entry.value, dist.name if dist else "", dist.version if dist else ""
        )
        _add(found, plugin, unwanted, lambda entry=entry: _file_of(entry.module), entry.load)  # type: ignore[misc]
    for file in {file.resolve(): file for file in files}.values():  # one may be named twice
        plugin = Plugin(file.stem, str(file))
        _add(found, plugin, unwanted, lambda file=file: file, lambda file=file: _run(file))  # type: ignore[misc]
    return found


def _add(
    found: list[Plugin],
    plugin: Plugin,
    unwanted: set[str],
    locate: Callable[[], Path | None],
    load: Callable[[], Any],
) -> None:
    others = [p for p in found if p.name == plugin.name and not p.error]
    found.append(plugin)
    if plugin.name in unwanted or "all" in unwanted:
        plugin.disabled = True
    elif others:
        advice = "uninstall one of them" if plugin.distribution else "call the file otherwise"
        plugin.fail(f"{others[0].title} has that name already; {advice}")
    else:
        _import(plugin, locate, load)


def _import(plugin: Plugin, locate: Callable[[], Path | None], load: Callable[[], Any]) -> None:
    with waiting_for(plugin):
        try:
            file = locate()
            problem = _judge(file) if file else "its module isn't there"
            if problem:
                plugin.fail(problem)
                return
            plugin.module = load()
        except KeyboardInterrupt:
            tell(f"interrupted while plugin {plugin.title} was loaded")
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001  a stranger's code
            plugin.fail(reason_of(error))


def reason_of(error: BaseException) -> str:
    """An exception in one line, with the place in the plugin where it was raised."""
    text = " ".join(str(error).split())
    place = ""
    trace = error.__traceback__
    while trace is not None:
        place = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"
        trace = trace.tb_next
    own = str(Path(__file__).parent)
    if own in place or "importlib" in place:
        place = ""
    return f"{type(error).__name__}{': ' if text else ''}{text}{place}"


def _file_of(module: str) -> Path | None:
    """A module's file; its parents are imported, itself not."""
    spec = importlib.util.find_spec(module)
    return Path(spec.origin) if spec and spec.origin else None


def _judge(file: Path) -> str:
    """What forbids a plugin's file to be run; it is read for its `TORREFY_API` alone."""
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except OSError as error:
        return f"{error.strerror}: {file}"
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        return f"{file}{line} is no Python: {error.args[0]}"
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == DECLARATION for t in node.targets)
            and isinstance(node.value, ast.Constant)
        ):
            version = node.value.value
            if version == API:
                return ""
            newer = isinstance(version, int) and version > API
            version = repr(version)
            advice = "a newer Torrefy" if newer else "a newer release of it"
            return (
                f"it was written for version {version} of the plugin surface, this Torrefy has "
                f"version {API}; it needs {advice}"
            )
    return f"{file} must say {DECLARATION} = {API} at its top: the plugin surface it is written for"


def _run(file: Path) -> ModuleType:
    """Import a file that is no part of a package."""
    name = "torrefy_plugin_" + re.sub(r"\W", lambda match: f"_{ord(match[0]):x}", file.stem)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def from_environment() -> tuple[list[Path], list[str]]:
    """The files of TORREFY_PLUGINS, and the names of TORREFY_DISABLE_PLUGINS."""
    files = os.environ.get("TORREFY_PLUGINS", "").split(os.pathsep)
    names = re.split(r"[,\s]+", os.environ.get("TORREFY_DISABLE_PLUGINS", ""))
    return [Path(file) for file in files if file], [name for name in names if name]
