"""Calling plugins: what each gives to a hook, and what becomes of one that fails."""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pluggy

from torrefy.errors import PluginError, did_you_mean
from torrefy.plugins import found, hookspecs
from torrefy.plugins.found import Plugin
from torrefy.plugins.hookspecs import PROJECT
from torrefy.plugins.lazy import Lazy

BUILT_IN = {
    "torrefy.data": ("torrefy_sources", "torrefy_augmentations"),
    "torrefy.finetune": ("torrefy_heads",),
    "torrefy.layers": ("torrefy_layers", "torrefy_fillers"),
    "torrefy.lint": ("torrefy_lint_rules",),
    "torrefy.runtime": ("torrefy_runtimes",),
    "torrefy.train": ("torrefy_solvers", "torrefy_lr_policies", "torrefy_train_callbacks"),
    "torrefy.weights": ("torrefy_weight_formats",),
    "torrefy.zoo": ("torrefy_zoo_paths",),
}
"""The rooms that register through the same hooks as anyone's plugin.

They are imported when one of their hooks is first called: what needs no layers needs no torch.
"""
HOOKS = tuple(name for name in vars(hookspecs) if name.startswith(f"{PROJECT}_"))

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Contribution:
    """One thing that a plugin gave to a hook."""

    plugin: Plugin
    thing: Any
    """The thing, or a `Lazy` that stands for it."""

    def load(self) -> Any:
        """The thing itself, imported now if it wasn't.

        Raises:
            PluginError: it can't be.
        """
        if not isinstance(self.thing, Lazy):
            return self.thing
        try:
            return self.thing.load()
        except PluginError as error:
            raise PluginError(f"plugin {self.plugin.title}: {error}") from error

    def is_loaded_as(self, thing: Any) -> bool:
        """Whether it stands for a thing that was imported."""
        if not isinstance(self.thing, Lazy):
            return False
        module, _, name = self.thing.target.partition(":")
        return getattr(sys.modules.get(module), name, None) is thing


@dataclass
class _Settings:
    files: list[Path] = field(default_factory=list)
    disabled: list[str] = field(default_factory=list)
    added: list[Plugin] = field(default_factory=list)
    trace: bool = False
    dialect: str = ""


_settings = _Settings()
_caches: list[dict[tuple[Any, ...], Any]] = []
_lock = threading.RLock()
"""Plugins are imported and asked by one thread at a time."""


def cached(function: Function) -> Function:
    """Keep what a function makes of the plugins, made once by whichever thread; `reset` drops it.

    The arguments are positional.
    """
    kept: dict[tuple[Any, ...], Any] = {}
    _caches.append(kept)

    @functools.wraps(function)
    def get(*arguments: Any) -> Any:
        with contextlib.suppress(KeyError):
            return kept[arguments]
        with _lock:
            if arguments not in kept:
                kept[arguments] = function(*arguments)
            return kept[arguments]

    return get  # type: ignore[return-value]


def configure(
    *,
    files: Iterable[Path] = (),
    disabled: Iterable[str] = (),
    trace: bool | None = None,
    dialect: str | None = None,
) -> None:
    """Add plugins of files, leave out plugins by name, trace the hooks, choose a dialect.

    The plugins of the process are found anew at their next use. A dialect is a plugin's name:
    it decides where two plugins mean different things by one name.
    """
    _settings.files.extend(files)
    _settings.disabled.extend(disabled)
    if trace is not None:
        _settings.trace = trace
    if dialect is not None:
        _settings.dialect = dialect
    reset()


def configured() -> dict[str, Any]:
    """What `configure` was given, so that another process can be given the same."""
    return {
        "files": list(_settings.files), "disabled": list(_settings.disabled),
        "trace": _settings.trace, "dialect": _settings.dialect,
    }  # fmt: skip


_within: ContextVar[str] = ContextVar("dialect", default="")


def chosen_dialect() -> str:
    """The dialect that was chosen for what is being read, or for the process; empty: none."""
    return _within.get() or _settings.dialect


@contextlib.contextmanager
def in_dialect(name: str) -> Iterator[None]:
    """Within it, definitions that name no dialect are in this one; empty: in the process's.

    Raises:
        PluginError: there is no plugin of that name.
    """
    names = [plugin.name for plugin in manager().used() if not plugin.built_in] if name else []
    if name and name not in names:
        hint = did_you_mean(name, names) or "`torrefy plugins` lists the plugins."
        raise PluginError(f'there is no dialect "{name}"', hint=hint)
    token = _within.set(name)
    try:
        yield
    finally:
        _within.reset(token)


def reset() -> None:
    """Forget the plugins and all that was made of them, so that they are found anew."""
    with _lock:
        for kept in _caches:
            kept.clear()


class Manager:
    """The plugins of this process, and what they gave.

    Each has a pluggy manager of its own, so that one that fails can't spoil the others' calls.
    """

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        # By the plugins themselves: one that was left out or given in code can share a name.
        self._callers: dict[int, pluggy.PluginManager] = {}
        self._given: dict[tuple[int, str], list[Contribution]] = {}
        self.plugins: list[Plugin] = []
        for plugin in plugins:
            self.plugins.append(plugin)
            if plugin.module is not None:
                self._register(plugin)

    def _register(self, plugin: Plugin) -> None:
        caller = pluggy.PluginManager(PROJECT)
        caller.add_hookspecs(hookspecs)
        try:
            caller.register(plugin.module, plugin.name)
        except pluggy.PluginValidationError as error:
            plugin.fail(" ".join(str(error).split()))
            return
        except Exception as error:  # noqa: BLE001  a stranger's module, which pluggy looks at
            plugin.fail(found.reason_of(error))
            return
        hooks = caller.get_hookcallers(plugin.module) or []
        unknown = [hook.name for hook in hooks if not hook.has_spec()]
        if unknown:
            hint = did_you_mean(unknown[0], HOOKS)
            plugin.fail(f"it implements {unknown[0]}, which is no hook. {hint}".rstrip())
        self._callers[id(plugin)] = caller

    def used(self) -> list[Plugin]:
        """The plugins that nothing is wrong with."""
        return [p for p in self.plugins if p.module is not None and not p.error]

    def contributions(self, hook: str, built_in: bool = True) -> list[Contribution]:
        """What each plugin gives to a hook, the built-in ones first (or without them).

        A plugin that fails is told by its name, and passed over.
        """
        asked = [p for p in self.plugins if built_in or not p.built_in]
        with _lock:
            for plugin in asked:
                if plugin.built_in and plugin.module is None and hook in BUILT_IN[plugin.source]:
                    plugin.module = importlib.import_module(plugin.source)
                    self._register(plugin)
            found = [c for p in asked if p in self.used() for c in self._asked(p, hook)]
        return [c for c in found if not c.plugin.error]

    def _asked(self, plugin: Plugin, hook: str) -> list[Contribution]:
        key = (id(plugin), hook)
        if key not in self._given:
            self._given[key] = self._ask(plugin, hook)
        return self._given[key]

    def _ask(self, plugin: Plugin, hook: str) -> list[Contribution]:
        caller = getattr(self._callers[id(plugin)].hook, hook)
        start = time.perf_counter()
        with contextlib.nullcontext() if plugin.built_in else found.waiting_for(plugin):
            try:
                things = [thing for things in caller() for thing in things]
            except KeyboardInterrupt:
                found.tell(f"interrupted while plugin {plugin.title} was asked for {hook}")
                raise
            except (Exception, SystemExit) as error:
                if plugin.built_in:
                    raise
                plugin.fail(f"its hook {hook} failed: {found.reason_of(error)}")
                return []
        if _settings.trace and plugin.module and things:
            print(
                f"{hook}: {plugin.name} gave {len(things)} in "
                f"{1000 * (time.perf_counter() - start):.1f} ms",
                file=sys.stderr,
            )
        return [Contribution(plugin, thing) for thing in things]


@cached
def manager() -> Manager:
    """The plugins of this process: the built-in ones, those of entry points, those of files."""
    files, disabled = found.from_environment()
    built_in = [Plugin(module, module, built_in=True) for module in BUILT_IN]
    others = found.find([*files, *_settings.files], [*disabled, *_settings.disabled])
    names = [plugin.name for plugin in others]
    for name in dict.fromkeys(_settings.disabled):
        if name not in (*names, "all"):
            hint = did_you_mean(name, names)
            found.tell(f'there is no plugin "{name}" to leave out. {hint}'.rstrip())
    return Manager([*built_in, *others, *_settings.added])


def contributions(hook: str, built_in: bool = True) -> list[Contribution]:
    """What the plugins of this process give to a hook, the built-in ones first (or without)."""
    return manager().contributions(hook, built_in)


def owner_of(hook: str, thing: Any) -> str:
    """The name of the plugin that gave a thing to a hook; empty: none did."""
    for one in contributions(hook):
        if one.thing is thing or (isinstance(one.thing, Lazy) and one.is_loaded_as(thing)):
            return one.plugin.name
    return ""


@contextlib.contextmanager
def added(module: Any, name: str, *, alone: bool = False) -> Iterator[Plugin]:
    """Within it, an object with hooks is a plugin of that name, beside all others.

    Where it is to be alone, those of entry points and files are disabled.
    """
    plugin = Plugin(name, f"{getattr(module, '__name__', type(module).__name__)}", module=module)
    disabled = list(_settings.disabled)
    _settings.added.append(plugin)
    if alone:
        _settings.disabled.append("all")
    reset()
    try:
        yield plugin
    finally:
        _settings.added.remove(plugin)
        _settings.disabled[:] = disabled
        reset()


class Named(Mapping[str, Any]):
    """What plugins gave to a hook, by its name.

    Where two plugins give one name to different things, asking for it is an error that names
    both, unless `choose` can tell which is meant; all other names work on.
    """

    def __init__(
        self,
        what: str,
        given: Iterable[Contribution],
        attribute: str,
        check: Callable[[Contribution], str] | None = None,
    ) -> None:
        self._check = check
        self.what = what
        """What the things are, for messages: "layer type"."""
        self.claims: dict[str, list[Contribution]] = {}
        for one in given:
            lazy = isinstance(one.thing, Lazy)
            name = one.thing.name if lazy else getattr(one.thing, attribute, None)
            if not isinstance(name, str) or not name:
                one.plugin.fail(f"what it gives as {what} has no {attribute}: {one.thing!r}")
                continue
            claims = self.claims.setdefault(name, [])
            if all(other.thing is not one.thing for other in claims):
                claims.append(one)
        for name, claims in list(self.claims.items()):  # those of plugins that failed meanwhile
            self.claims[name] = [one for one in claims if not one.plugin.error]
            if not self.claims[name]:
                del self.claims[name]

    def __getitem__(self, name: str) -> Any:
        return self.choose(name)

    def __contains__(self, name: object) -> bool:
        return name in self.claims

    def __iter__(self) -> Iterator[str]:
        return iter(self.claims)

    def __len__(self) -> int:
        return len(self.claims)

    def all(self) -> Iterator[Any]:
        """Every thing, those that share a name too.

        Raises:
            PluginError: one can't be loaded.
        """
        return (self._load(one) for claims in self.claims.values() for one in claims)

    def summary(self, name: str) -> str:
        """The one line that says what a thing is, where it has one; it isn't imported."""
        thing = self.claims[name][0].thing
        return str(getattr(thing, "summary", "") or getattr(thing, "short_help", "") or "")

    def choose_all(self, name: str) -> list[Any]:
        """All things of a name; none where it is unknown or can't be loaded."""
        found = []
        for one in self.claims.get(name, ()):
            with contextlib.suppress(PluginError):
                found.append(self._load(one))
        return found

    def sole_owners(self, names: Iterable[str]) -> set[str]:
        """The plugins that alone have one of some names, the built-in ones left out."""
        claims = [self.claims.get(name, ()) for name in set(names)]
        return {
            own[0].plugin.name for own in claims if len(own) == 1 and not own[0].plugin.built_in
        }

    def _load(self, one: Contribution) -> Any:
        problem = self._check(one) if self._check else ""
        if problem:
            raise PluginError(f"plugin {one.plugin.title}: {problem}")
        return one.load()

    def choose(
        self,
        name: str,
        dialect: str = "",
        *,
        told_by: Callable[[Any], bool] | None = None,
        present: Collection[str] = (),
    ) -> Any:
        """The thing of a name; of several the one that is meant.

        Args:
            name: what it is called.
            dialect: the plugin that decides; empty: the one chosen for the process.
            told_by: whether a thing recognises what it is asked for as its own.
            present: plugins that are known to be meant, since other names that only they have
                are used beside this one.

        Raises:
            KeyError: there is none.
            PluginError: several may be meant; they are named, and how to choose.
        """
        claims = self.claims[name]
        dialect = dialect or chosen_dialect()
        tests: list[Callable[[Contribution], bool]] = [lambda one: one.plugin.name == dialect]
        if told_by is not None:
            tests.append(lambda one: told_by(self._load(one)))
        tests += [lambda one: one.plugin.built_in, lambda one: one.plugin.name in present]
        if len(claims) > 1:
            for test in tests:
                some = [one for one in claims if test(one)]
                if len(some) == 1:
                    return self._load(some[0])
            raise disputed(f'{self.what} "{name}"', [one.plugin for one in claims])
        return self._load(claims[0])


def disputed(what: str, plugins: Iterable[Plugin]) -> PluginError:
    """The error that several plugins mean different things by one name."""
    claimants = list(plugins)
    titles = " and ".join(plugin.title for plugin in claimants)
    first = claimants[0].name
    return PluginError(
        f"{what} is defined by plugins {titles}",
        hint=f'Choose one: --dialect {first}, or a line "# torrefy: dialect={first}" in the '
        f"definition; or leave one out: --disable {claimants[1].name}.",
    )


def named(hook: str, attribute: str, what: str) -> Named:
    """What the plugins of this process give to a hook, by the name that `attribute` holds."""
    return Named(what, contributions(hook), attribute)
