"""Options of `torrefy export` for files in fewer bits, and what is told of these."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from torrefy.cli.output import console, one_line
from torrefy.errors import ExportError

if TYPE_CHECKING:
    from torrefy.data.recipe import Recipe
    from torrefy.export.precision.compare import Agreement
    from torrefy.export.precision.report import PrecisionReport


def precision_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options; they come to it as `lowered`: None for fp32, else keywords."""

    @click.option("--precision", type=click.Choice(["fp32", "fp16", "bf16", "int8"]),
                  default="fp32", show_default=True,
                  help="What the file computes in; less is measured against fp32.")  # fmt: skip
    @click.option("--calibrate", metavar="PICTURES",
                  help="A folder, list or table of pictures like those that it will see: int8 "
                  "needs them.")  # fmt: skip
    @click.option("--held-out", metavar="PICTURES",
                  help="Others to measure on (else: those of --calibrate that did not "
                  "calibrate).")  # fmt: skip
    @click.option("--least-agreement", type=click.FloatRange(0, 1), default=0.93, show_default=True,
                  help="The share of answers that must be fp32's.")  # fmt: skip
    @click.option("--keep-fp32", "keep", multiple=True, metavar="LAYER",
                  help="A layer that stays in fp32 in any case.")  # fmt: skip
    @functools.wraps(command)
    def wrapped(
        *args: Any, precision: str, calibrate: str | None, held_out: str | None,
        least_agreement: float, keep: tuple[str, ...], **rest: Any,
    ) -> Any:  # fmt: skip
        if precision == "fp32" and (calibrate or held_out or keep):
            raise click.UsageError("--calibrate, --held-out and --keep-fp32 are for fewer bits: "
                                   "give --precision int8 or fp16")  # fmt: skip
        lowered = None if precision == "fp32" else {
            "precision": precision, "calibrate": calibrate, "held_out": held_out,
            "least_agreement": least_agreement, "keep": keep,
        }  # fmt: skip
        return command(*args, lowered=lowered, **rest)

    return wrapped


def check_lowered(path: str, *, recipe: Recipe, **options: Any) -> None:
    """Refuse what can be seen to be wrong before anything is exported.

    Raises:
        ExportError: there are no pictures, or nothing says what is done to one; or as
            `lower_precision`.
    """
    from torrefy.export.precision.lower import check_asked

    check_asked(path, options["precision"], options["calibrate"] is not None)
    if options["calibrate"] is not None and recipe.preprocessor is None:
        raise ExportError(
            "nothing says what is done to a picture before the net sees it",
            hint="Give --preprocessing FILE.",
        )


def lower_file(source: str, path: str, options: dict[str, Any], *, quiet: bool) -> PrecisionReport:
    """Make a file in fewer bits of one in fp32, and show what goes on, on a terminal."""
    from torrefy.export.precision.lower import lower_precision

    if quiet or not sys.stderr.isatty():
        return lower_precision(source, path, **options)
    with console(stderr=True).status("") as status:
        return lower_precision(source, path, told=status.update, **options)


def print_lowered(report: PrecisionReport) -> None:
    """How large the file is, how far it agrees, and which layers lose most."""
    less = report.bytes_fp32 / report.bytes
    click.echo(f"{report.precision}: {report.bytes:,} bytes, 1/{less:.1f} of fp32's")
    if report.kept:
        click.echo(one_line(f"in fp32 stay {', '.join(report.kept)}"))
    if report.calibration is not None:
        click.echo(f"pictures that calibrated: {_agreement(report.calibration)}")
    click.echo(f"held out: {_agreement(report.held_out)}")
    noisy = [f"{one.layer} {one.snr:.1f} dB" for one in report.layers if not one.kept][:5]
    if noisy:
        click.echo(one_line(f"the noisiest layers in int8: {', '.join(noisy)}"))
    for note in report.notes:
        click.echo(one_line(f"note: {note}"))
    click.echo(one_line(f"wrote {report.path}"))


def _agreement(found: Agreement) -> str:
    text = f"{found.pictures} pictures, "
    if found.top1 is None:
        text += f"{found.close:.1%} within 2 % of the output's range"
    else:
        text += f"{found.top1:.1%} of the classes the same"
    if found.clear is not None:
        text += f", {found.clear:.1%} of {found.clear_answers} clear ones"
    return f"{text}; largest difference {found.largest:.3g}, {found.snr:.1f} dB"
