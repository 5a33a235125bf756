"""Options of the commands that write a net as an ONNX file: what the file is like from outside."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from torrefy.errors import Place, TorrefyError


def _checked(_: click.Context, __: click.Parameter, output: str) -> str:
    """Refuse a file that can't be written, or that no command would take for an ONNX file.

    Raises:
        TorrefyError: it is a folder, has no folder to be in, or another ending.
    """
    place = Place(output)
    if Path(output).is_dir():
        raise TorrefyError("this is a folder", place=place, hint="Name a file: -o net.onnx")
    if Path(output).suffix != ".onnx":
        raise TorrefyError("an ONNX file's name ends in .onnx", place=place)
    if not Path(output).parent.is_dir():
        raise TorrefyError(f"there is no folder {Path(output).parent}", place=place)
    return output


target_option = click.option("-o", "--output", required=True, metavar="FILE", callback=_checked,
                             help="The .onnx to write; one that is there is "
                             "replaced.")  # fmt: skip
"""`-o FILE`, of all commands that write an ONNX file."""


def form_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options; they come to it as `form`, keywords of `export_onnx`."""

    @click.option("--with-preprocessing", "whole", is_flag=True,
                  help="Let the file resize, crop and scale itself: it takes RGB pictures of any "
                  "size, NxHxWx3 bytes.")  # fmt: skip
    @click.option("--with-labels", "classes", is_flag=True,
                  help="Add the output \"class\", the number of the likeliest.")  # fmt: skip
    @click.option("--opset", type=int, metavar="N",
                  help="ONNX's operator set, 19 or newer.  [default: 20]")  # fmt: skip
    @click.option("--external-data", "external", is_flag=True,
                  help="Write the weights to FILE.data, where those over 1 GiB always "
                  "go.")  # fmt: skip
    @functools.wraps(command)
    def wrapped(
        *args: Any, whole: bool, classes: bool, opset: int | None, external: bool, **rest: Any
    ) -> Any:
        form: dict[str, Any] = {"whole": whole, "classes": classes, "external": external}
        if opset is not None:
            form["opset"] = opset
        return command(*args, form=form, **rest)

    return wrapped
