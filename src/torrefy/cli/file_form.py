"""Options of the commands that write a net as an ONNX file: what the file is like from outside."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click


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
