"""`torrefy plugins`: which there are, what each adds, and why one is not used."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from torrefy.cli.output import console, failure, json_option, print_json, problem_line
from torrefy.errors import TorrefyError, did_you_mean
from torrefy.plugins import Contribution, Plugin, manager
from torrefy.plugins.manager import HOOKS


@click.group(
    invoke_without_command=True,
    epilog="\b\nExample:\n  torrefy plugins\n  torrefy plugins new acme-layers\n"
    "  torrefy plugins check ssd",
)
@json_option
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> None:
    """List the plugins, what each adds, and why one is not used.

    A plugin is a Python package with an entry point in the group `torrefy`, or a file that
    `--plugin FILE.py` or TORREFY_PLUGINS names. `--disable NAME` or TORREFY_DISABLE_PLUGINS
    leaves one out, "all" each of them; `--trace-hooks` tells what is asked of whom.
    """
    if ctx.invoked_subcommand is not None:
        return
    found = [(plugin, _adds(plugin)) for plugin in manager().plugins if not plugin.built_in]
    if as_json:
        print_json({"ok": True, "plugins": [_for_json(plugin, adds) for plugin, adds in found]})
        return
    if not found:
        click.echo("no plugins are installed; `torrefy plugins new NAME` begins one")
        return
    for plugin, adds in found:
        _print(plugin, adds)


@command.command(epilog="\b\nExample:\n  torrefy plugins new acme-layers\n  cd acme-layers")
@click.argument("name")
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), default=".", metavar="DIR",
    help="Where the package's folder is made.  [default: here]",
)  # fmt: skip
@json_option
def new(*, name: str, folder: Path, as_json: bool) -> None:
    """Write a plugin package NAME, with a layer and an augmentation, that passes its tests."""
    from torrefy.testing.scaffold import new_plugin

    files = new_plugin(name, folder)
    if as_json:
        print_json({"ok": True, "files": [str(file) for file in files]})
        return
    for file in files:
        click.echo(file)
    click.echo(f"\nNext:\n  cd {folder / name}\n  pip install -e .\n  pytest")


@command.command(epilog="\b\nExample:\n  torrefy plugins check ssd")
@click.argument("name")
@json_option
@click.pass_context
def check(ctx: click.Context, *, name: str, as_json: bool) -> None:
    """Hold the plugin NAME to the rules.

    It loads; its layers are documented, run and export; its augmentations draw by `draws` alone,
    and move points, boxes and masks with the pixels.
    """
    names = [plugin.name for plugin in manager().plugins if not plugin.built_in]
    if name not in names:
        raise TorrefyError(f'there is no plugin "{name}"', hint=did_you_mean(name, names))
    from torrefy.testing.plugins import check_plugin

    problems = check_plugin(name)
    if as_json:
        print_json(failure(problems) if problems else {"ok": True})
    else:
        for problem in problems:
            click.echo(problem_line(problem))
        if not problems:
            click.echo(f"{name}: ok")
    if problems:
        ctx.exit(1)


def _adds(plugin: Plugin) -> dict[str, list[str]]:
    """What a plugin gives to each hook, by name; nothing but the plugin itself is imported."""
    found: dict[str, list[str]] = {}
    for hook in HOOKS:
        given = [one for one in manager().contributions(hook) if one.plugin is plugin]
        if given:
            found[hook.removeprefix("torrefy_")] = sorted(_names(hook, given))
    return found


def _names(hook: str, given: Iterable[Contribution]) -> list[str]:
    if hook == "torrefy_schema_fields":
        return [
            f"{one.thing.extends.rpartition('.')[2]}.{name}"
            for one in given
            for name in one.thing.declared()
        ]
    if hook == "torrefy_zoo_paths":
        return [str(one.thing) for one in given]
    return [_name(one.thing) for one in given]


def _name(thing: Any) -> str:
    for attribute in ("type_name", "name", "id"):
        if isinstance(getattr(thing, attribute, None), str):
            return str(getattr(thing, attribute))
    return repr(thing)


def _for_json(plugin: Plugin, adds: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution or None,
        "version": plugin.version or None,
        "source": plugin.source,
        "used": plugin.module is not None and not plugin.error,
        "disabled": plugin.disabled,
        "error": plugin.error or None,
        "adds": adds,
    }


def _print(plugin: Plugin, adds: dict[str, list[str]]) -> None:
    from rich.text import Text

    title = plugin.name
    if plugin.distribution:
        title += f"  {plugin.distribution} {plugin.version}"
    if plugin.source != plugin.name:
        title += f"  {plugin.source}"
    click.echo(title)
    if plugin.disabled:
        click.echo("  disabled")
    if plugin.error:
        click.echo(f"  not used: {plugin.error}")
    for hook, names in adds.items():
        text = Text(f"  {hook.replace('_', ' ')}: {', '.join(names)}")
        out = console()
        for i, line in enumerate(text.wrap(out, out.width - 4)):
            click.echo(f"{'    ' if i else ''}{line.plain.rstrip()}")
