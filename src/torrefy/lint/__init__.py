"""Lint: the traps that cost Caffe's users days, each a small rule with a page in the docs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrefy.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from torrefy.lint.rule import Rule


@hookimpl
def torrefy_lint_rules() -> list[Rule]:
    """The built-in rules."""
    import torrefy.lint.data
    import torrefy.lint.nets
    import torrefy.lint.solvers  # noqa: F401  importing them makes them rules
    from torrefy.lint.rule import RULES

    return RULES
