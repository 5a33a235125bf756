"""The command line: one module a command, each thin."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from torrefy import __version__

if TYPE_CHECKING:
    from torrefy.plugins import Contribution, Named

COMMANDS = {
    "check": "Tell what is wrong in definitions, with line and column.",
    "upgrade": "Bring an old definition or file of weights to today's form.",
    "fmt": "Format prototxts, their comments kept.",
    "show": "Show a net's layers: shapes, parameters and multiply-adds.",
    "layers": "List the layer types, or print the page of each TYPE.",
    "train": "Train a net as its solver says.",
    "test": "Average a net's outputs over its test data.",
    "time": "Tell how long a net and each of its layers take.",
    "classify": "Say what is in pictures.",
    "bench": "Tell how fast a model is, in each runtime and precision.",
    "finetune": "Finetune a pretrained net on pictures.",
    "heads": "List the heads, or print the page of each TYPE.",
    "features": "Take features of pictures.",
    "similar": "Find the pictures that are most like one.",
    "svm": "Fit classifiers to features, and use them.",
    "convert": "Convert a Caffe net to ONNX.",
    "export": "Write a net with its weights as an ONNX file.",
    "data": "Fetch and build databases, compute statistics, and look at them.",
    "weights": "Show, convert and compare files of weights.",
    "zoo": "List, describe, fetch and copy the models of the zoo.",
    "plugins": "List the plugins, what each adds, and why one is not used.",
    "demo": "Classify a photograph, then finetune on textures and export.",
}
"""Each command and its one line of help; the command is `command` in `torrefy.cli.<name>`.

The lines stand here so that `torrefy --help` imports no command, and so no torch. A test holds
them in step with the commands' own.
"""


class Commands(click.Group):
    """The commands, imported when they are run; and what becomes of their errors.

    A `TorrefyError` is printed to stderr, one line a problem, as `file:line:column: layer "x":
    message`; a problem without a place begins with `error: `. After `--json` the problems are
    JSON on stdout instead. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of a first visit; then the plugins'."""
        return [*COMMANDS, *_of_plugins()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command. It takes the options about plugins, too."""
        if cmd_name in COMMANDS:
            command: click.Command = importlib.import_module(f"torrefy.cli.{cmd_name}").command
        elif cmd_name in _of_plugins():
            command = _of_plugins()[cmd_name]
        else:
            return None
        _take_plugin_options(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command by its name, or tell the nearest."""
        if args[0] not in COMMANDS and args[0][:1].isalnum() and args[0] not in _of_plugins():
            from torrefy.errors import did_you_mean

            hint = did_you_mean(args[0], [*COMMANDS, *_of_plugins()])
            ctx.fail(f'there is no command "{args[0]}". {hint}'.strip())
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))
        others = _of_plugins()
        if others:
            with formatter.section("Commands of plugins"):
                formatter.write_dl([(name, others.summary(name)) for name in others])

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line. What is said about plugins are lines, not Python's warnings."""
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.filterwarnings("ignore", module=r"PIL\.")  # on pictures that could be read
            warnings.showwarning = _show_warning
            return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; turn what it raises into lines for a person and an exit code."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise  # click knows what to do: wrong usage, an exit code, a reader that has gone
        except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001  told in one place
            from torrefy.cli.output import tell_end

            ctx.exit(tell_end(error))
        return result


def _show_warning(  # noqa: PLR0917  as Python calls it
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if category.__name__ == "PluginWarning":  # by its name: importing it would take time
        from torrefy.cli.output import one_line

        click.echo(f"warning: {one_line(str(message))}", err=True)
    else:
        click.echo(warnings.formatwarning(message, category, filename, lineno, line), err=True)


def _take_plugin_options(command: click.Command) -> None:
    taken = {name for param in command.params for name in param.opts}
    command.params += [o for o in plugin_options(hidden=True) if not taken & set(o.opts)]
    if isinstance(command, click.Group):
        for part in command.commands.values():
            _take_plugin_options(part)


def _of_plugins() -> Named:
    """The commands that plugins add."""
    from torrefy.plugins import Named, contributions

    given = contributions("torrefy_commands")
    for one in given:
        if getattr(one.thing, "name", "") in COMMANDS:
            one.plugin.fail(f'its command "{one.thing.name}" has the name of one of Torrefy\'s own')
    return Named(
        "command", [one for one in given if not one.plugin.error], "name", check=_no_command
    )


def _no_command(given: Contribution) -> str:
    """What is wrong with what a plugin gives as a command; it is loaded."""
    thing = given.load()
    return "" if isinstance(thing, click.Command) else f"what it gives as a command is {thing!r}"


def plugin_options(hidden: bool = False) -> list[click.Option]:
    """What every command takes: which plugins there are, and whose words a definition is in."""
    return [
        click.Option(
            ["--plugin"], multiple=True, metavar="FILE.py", callback=_use, expose_value=False,
            is_eager=True, hidden=hidden, help="A plugin that is no package; also TORREFY_PLUGINS.",
        ),
        click.Option(
            ["--disable"], multiple=True, metavar="NAME", callback=_use, expose_value=False,
            is_eager=True, hidden=hidden,
            help='A plugin to leave out, "all" for each; also TORREFY_DISABLE_PLUGINS.',
        ),
        click.Option(
            ["--dialect"], metavar="NAME", callback=_use, expose_value=False,
            hidden=hidden, help="The plugin whose meaning counts where several have one name.",
        ),
        click.Option(
            ["--trace-hooks"], is_flag=True, callback=_use, expose_value=False, is_eager=True,
            hidden=hidden, help="Tell on stderr what each plugin gives, and how long it takes.",
        ),
    ]  # fmt: skip


def _use(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    if not value:
        return value
    from torrefy.plugins import configure, manager

    if param.name == "plugin":
        configure(files=[Path(file) for file in value])
    elif param.name == "disable":
        configure(disabled=value)
    elif param.name == "trace_hooks":
        configure(trace=True)
    else:
        names = [plugin.name for plugin in manager().used() if not plugin.built_in]
        if value not in names:
            from torrefy.errors import did_you_mean

            hint = did_you_mean(value, names) or "`torrefy plugins` lists the plugins."
            raise click.BadParameter(f'there is no dialect "{value}". {hint}', ctx, param)
        configure(dialect=value)
    return value


@click.group(
    cls=Commands,
    params=plugin_options(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Each command has its own help and example: torrefy check -h",
)
@click.version_option(__version__, message="torrefy %(version)s")
def main() -> None:
    """Caffe's models, roasted by Torch: prototxt nets to PyTorch and ONNX."""
    # Names that are no text, or that the terminal can't print, don't stop a run.
    for stream, errors in (
        (sys.stdin, "surrogateescape"),
        (sys.stdout, "backslashreplace"),
        (sys.stderr, "backslashreplace"),
    ):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)
