"""The command line: one module a command, each thin."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from typing import Any

import click

from torrefy import __version__

COMMANDS = {
    "check": "Tell what is wrong in definitions, with line and column.",
    "upgrade": "Bring an old definition or file of weights to today's form.",
    "fmt": "Format prototxts, their comments kept.",
    "show": "Show a net's layers: shapes, parameters and multiply-adds.",
    "layers": "List the layer types, or print the page of each TYPE.",
    "classify": "Say what is in pictures.",
    "export": "Write a net with its weights as an ONNX file.",
    "weights": "Show, convert and compare files of weights.",
    "zoo": "List, describe and fetch the models of the zoo.",
    "demo": "Classify a photograph by PyTorch and by ONNX Runtime, and compare.",
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
        """The names, in the order of a first visit."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"torrefy.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command by its name, or tell the nearest."""
        if args[0] not in COMMANDS and args[0][:1].isalnum():
            from torrefy.errors import did_you_mean

            hint = did_you_mean(args[0], COMMANDS)
            ctx.fail(f'there is no command "{args[0]}". {hint}'.strip())
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; turn what it raises into lines for a person and an exit code."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise  # click knows what to do: wrong usage, an exit code, a reader that has gone
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)
        except Exception as error:  # noqa: BLE001  every error is told in one place
            from torrefy.cli.output import report

            if os.environ.get("TORREFY_DEBUG"):
                import traceback

                traceback.print_exc()
            report(error)
            ctx.exit(1)
        return result


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Each command has its own help and example: torrefy check -h",
)
@click.version_option(__version__, message="torrefy %(version)s")
def main() -> None:
    """Caffe's models, roasted by Torch: prototxt nets to PyTorch and ONNX."""
    warnings.filterwarnings("ignore", module=r"PIL\.")  # remarks on pictures that could be read
    # Names that are no text, or that the terminal can't print, don't stop a run.
    for stream, errors in (
        (sys.stdin, "surrogateescape"),
        (sys.stdout, "backslashreplace"),
        (sys.stderr, "backslashreplace"),
    ):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)
