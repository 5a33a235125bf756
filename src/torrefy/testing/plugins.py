"""The rules that an installed plugin is held to: `torrefy plugins check NAME`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torrefy.data.augment.augmentation import Augmentation, BatchAugmentation
from torrefy.errors import PluginError, Problem, TorrefyError, did_you_mean
from torrefy.layers.base import Layer
from torrefy.layers.fillers import Filler
from torrefy.lint.rule import Rule
from torrefy.net.stored import WeightFormat
from torrefy.plugins import API, Contribution, Lazy, Plugin, contributions, manager
from torrefy.plugins.found import DECLARATION
from torrefy.plugins.manager import HOOKS
from torrefy.runtime.base import Runtime
from torrefy.schema import new_message, schema
from torrefy.schema.compose import LAYER
from torrefy.schema.fields import declared, has_fields, is_fields
from torrefy.schema.head import Head
from torrefy.testing.augmentation import check_augmentation
from torrefy.testing.head import check_head
from torrefy.testing.layer import check_docs, check_example, check_onnx, example_bottoms
from torrefy.testing.use import Use

Given = Mapping[str, list[Contribution]]
"""What a plugin gives to each hook."""
Check = Callable[[Plugin, Given], Iterator[Problem]]

HEAVY = ("torch", "onnxruntime")
"""What a plugin's module must not import: whoever only reads definitions waits for it."""
PATIENCE = 120
"""Seconds that a plugin's module may take to import."""


def check_plugin(name: str) -> list[Problem]:
    """Hold a plugin of this process to the rules.

    It is used, so that it loads and is for this plugin surface; its module imports no torch; its
    hooks give what they should; each layer has a docstring, docs of its fields, an example that
    compiles, and exports to ONNX with the same numbers or says why not; each augmentation is sound
    (`check_augmentation`) and each head (`check_head`); and no name that it gives is taken by
    something built in or by another plugin.

    Args:
        name: as `torrefy plugins` lists it.

    Returns:
        What is wrong; empty: nothing.

    Raises:
        PluginError: there is no such plugin.

    Example:
        with isolated_plugin(acme_layers) as plugin:
            assert check_plugin(plugin.name) == []
    """
    own = {plugin.name: plugin for plugin in manager().plugins if not plugin.built_in}
    if name not in own:
        raise PluginError(f'there is no plugin "{name}"', hint=did_you_mean(name, own))
    plugin = own[name]
    if plugin.disabled:
        return [Problem(f"plugin {plugin.title} is disabled", hint="Nothing of it was checked.")]
    given = {hook: [c for c in contributions(hook) if c.plugin is plugin] for hook in HOOKS}
    schema()
    if plugin.error:
        return [Problem(f"plugin {plugin.title} is not used: {plugin.error}")]
    return [problem for check in CHECKS for problem in check(plugin, given)]


def _declares(plugin: Plugin, given: Given) -> Iterator[Problem]:
    """It says which version of the plugin surface it is for."""
    if getattr(plugin.module, DECLARATION, None) != API:
        yield Problem(f"its module must say {DECLARATION} = {API} at its top")


def _imports_little(plugin: Plugin, given: Given) -> Iterator[Problem]:
    """Its module, imported alone, leaves torch out; a plugin of one file may need it."""
    module = getattr(plugin.module, "__spec__", None)
    if module is None or plugin.source.endswith(".py"):
        return
    code = (
        f"import sys, importlib; importlib.import_module({module.name!r}); "
        f"print(*(name for name in {HEAVY!r} if name in sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    try:
        done = subprocess.run(  # noqa: S603  the plugin's own module
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True,
            timeout=PATIENCE, check=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        yield Problem(f"its module takes more than {PATIENCE} seconds to import")
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        yield Problem(f"its module can't be imported by itself: {last}")
    else:
        found = done.stdout.split("\n")[-2].split() if "\n" in done.stdout else []
        if found:
            yield Problem(
                f"its module imports {' and '.join(found)}, for which every start of Torrefy waits",
                hint="Import it within the hooks, or give a Lazy.",
            )


def _is_layer(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, Layer) and bool(thing.type_name)


def _is_augmentation(thing: Any) -> bool:
    kinds = (Augmentation, BatchAugmentation)
    return isinstance(thing, type) and issubclass(thing, kinds) and bool(thing.type_name)


def _is_head(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, Head) and bool(thing.type_name)


def _is_runtime(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, Runtime) and bool(thing.name)


def _is_command(thing: Any) -> bool:
    import click

    return isinstance(thing, click.Command)


KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "torrefy_layers": ('a subclass of Layer made with @layer("Type")', _is_layer),
    "torrefy_schema_fields": (
        'a class of Fields with extends="…"',
        lambda thing: is_fields(thing) and bool(thing.extends),
    ),
    "torrefy_fillers": ('what @filler("name") makes', lambda thing: isinstance(thing, Filler)),
    "torrefy_weight_formats": ("a WeightFormat", lambda thing: isinstance(thing, WeightFormat)),
    "torrefy_lint_rules": ("a Rule", lambda thing: isinstance(thing, Rule)),
    "torrefy_zoo_paths": ("the Path of a folder", lambda t: isinstance(t, Path) and t.is_dir()),
    "torrefy_augmentations": (
        'a subclass of Augmentation or BatchAugmentation made with @augmentation("Type")',
        _is_augmentation,
    ),
    "torrefy_heads": ('a subclass of Head made with @head("Type")', _is_head),
    "torrefy_runtimes": ("a subclass of Runtime with a name", _is_runtime),
    "torrefy_commands": ("a click command", _is_command),
}
"""What each hook should be given: in words, and the test of it."""


def _gives_the_right_kinds(plugin: Plugin, given: Given) -> Iterator[Problem]:
    """Each thing that it gives to a hook can be loaded, and is of the hook's kind."""
    for hook, things in given.items():
        for one in things:
            try:
                thing = one.load()
            except PluginError as error:
                yield from error.problems
                continue
            words, fits = KINDS.get(hook, ("", lambda _: True))
            if not fits(thing):
                yield Problem(f"{hook} takes {words}, found {thing!r}")
            elif (
                isinstance(one.thing, Lazy)
                and hook != "torrefy_commands"  # click's own name of a command doesn't count
                and one.thing.name != _name(hook, thing)
            ):
                yield Problem(
                    f"{hook}: {one.thing.target} is called {_name(hook, thing)!r}, "
                    f"the Lazy calls it {one.thing.name!r}"
                )


NAMES = {
    "torrefy_layers": ("layer type", "type_name"),
    "torrefy_fillers": ("filler", "name"),
    "torrefy_weight_formats": ("format of weights", "name"),
    "torrefy_lint_rules": ("lint rule", "id"),
    "torrefy_augmentations": ("augmentation", "type_name"),
    "torrefy_heads": ("head", "type_name"),
    "torrefy_runtimes": ("runtime", "name"),
    "torrefy_commands": ("command", "name"),
}
"""What the things of a hook are, in words, and the attribute that names them."""


def _name(hook: str, thing: Any) -> str:
    if isinstance(thing, Lazy):
        return thing.name
    return str(getattr(thing, NAMES[hook][1], "")) if hook in NAMES else ""


def _collides(plugin: Plugin, given: Given) -> Iterator[Problem]:
    """No name that it gives is another's; layers that tell their own text by `claims` may be."""
    for hook, (what, _) in NAMES.items():
        others = [one for one in contributions(hook) if one.plugin is not plugin]
        for one in given[hook]:
            name = _name(hook, one.thing)
            owner = next((o.plugin for o in others if _name(hook, o.thing) == name), None)
            if owner is None or (hook == "torrefy_layers" and _tells_its_own(one)):
                continue
            whose = "built in" if owner.built_in else f"one of plugin {owner.title}, too"
            yield Problem(
                f'its {what} "{name}" is {whose}',
                hint="Rename it, or tell its text by `claims`." if hook == "torrefy_layers" else "",
            )
    for (message, name), variants in schema().disputed.items():
        if plugin.name in variants:
            others_named = " and ".join(f'"{n}"' for n in variants if n != plugin.name)
            yield Problem(f'its field "{name}" of {message} is another in plugin {others_named}')


def _tells_its_own(one: Contribution) -> bool:
    try:
        cls = one.load()
    except PluginError:
        return False
    return _is_layer(cls) and any("claims" in vars(c) for c in cls.__mro__ if c is not Layer)


def _layers_are_whole(plugin: Plugin, given: Given) -> Iterator[Problem]:
    """Each layer is documented, its parameters are declared, its example runs and exports."""
    known = new_message(LAYER).DESCRIPTOR.fields_by_name
    for one in given["torrefy_layers"]:
        try:
            cls = one.load()
        except PluginError:
            continue  # told where the kinds are
        if not _is_layer(cls):
            continue
        declared = schema().disputed.get((LAYER, cls.param), cls.param in known)
        if cls.param and not declared:
            why = "A Lazy tells nothing of its fields: give" if has_fields(cls) else "Give"
            yield Problem(
                f"{cls.type_name}: its parameters {cls.param} are declared nowhere",
                hint=f"{why} them to torrefy_schema_fields.",
            )
            continue
        yield from _sound(check_docs, cls)
        failed = list(_sound(check_example, cls))
        yield from failed
        if not failed and not cls.feeds and cls.bottoms[0]:
            yield from _sound(
                check_onnx, Use(cls, example_bottoms(cls), cls.example, tops=cls.tops[0])
            )


def _augmentations_are_sound(plugin: Plugin, given: Given) -> Iterator[Problem]:
    """Each augmentation is documented, drawn from `draws` alone, and moves targets with pixels."""
    for one in given["torrefy_augmentations"]:
        try:
            cls = one.load()
        except PluginError:
            continue  # told where the kinds are
        if _is_augmentation(cls) and issubclass(cls, Augmentation):
            yield from _sound(check_augmentation, cls)


def _heads_are_sound(plugin: Plugin, given: Given) -> Iterator[Problem]:
    """Each head is documented, learns where there is a label, and answers where there is none."""
    for one in given["torrefy_heads"]:
        try:
            cls = one.load()
        except PluginError:
            continue  # told where the kinds are
        required = _is_head(cls) and any(f.required for f in declared(cls).values())
        if _is_head(cls) and not required:
            yield from _sound(check_head, cls)


def _sound(check: Callable[[Any], None], subject: Any) -> Iterator[Problem]:
    try:
        check(subject)
    except AssertionError as error:
        yield Problem(str(error))
    except TorrefyError as error:
        yield from error.problems


CHECKS: tuple[Check, ...] = (
    _declares,
    _imports_little,
    _gives_the_right_kinds,
    _collides,
    _layers_are_whole,
    _augmentations_are_sound,
    _heads_are_sound,
)
