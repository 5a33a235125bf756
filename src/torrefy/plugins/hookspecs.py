"""Every hook that a plugin can implement, on one page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = "torrefy"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def torrefy_layers() -> Iterable[type[Any]]:  # type: ignore[empty-body]
    """Layer types: `Layer` subclasses made with `@layer("Type")`. Since 0.1.

    Example:
        @hookimpl
        def torrefy_layers():
            return [Snake]
    """


@hookspec
def torrefy_fillers() -> Iterable[Any]:  # type: ignore[empty-body]
    """Fillers of params: functions made one by `@filler("name")`. Since 0.1.

    Example:
        @hookimpl
        def torrefy_fillers():
            return [orthogonal]
    """


@hookspec
def torrefy_zoo_paths() -> Iterable[Path]:  # type: ignore[empty-body]
    """Folders that hold zoo models, one folder a model with its card.prototxt. Since 0.1.

    Example:
        @hookimpl
        def torrefy_zoo_paths():
            return [Path(__file__).parent / "zoo"]
    """


@hookspec
def torrefy_weight_formats() -> Iterable[Any]:  # type: ignore[empty-body]
    """Formats that weights are read from and written to: `WeightFormat` objects. Since 0.1.

    Example:
        @hookimpl
        def torrefy_weight_formats():
            return [WeightFormat("npz", (".npz",), read_npz, write_npz)]
    """


@hookspec
def torrefy_lint_rules() -> Iterable[Any]:  # type: ignore[empty-body]
    """Traps that `torrefy check` looks for: `Rule` objects. Since 0.1.

    Example:
        @hookimpl
        def torrefy_lint_rules():
            return [Rule("SSD101", "prior-outside", prior_outside)]
    """
