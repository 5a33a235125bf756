"""`--tta` and its kin: test-time augmentation, the same for every command that has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from torrefy.data.augment.versions import Versions

Function = TypeVar("Function", bound=Callable[..., Any])


def tta_options(function: Function) -> Function:
    """`--tta`, `--tta-count` and `--tta-seed`, as the arguments tta, tta_count and tta_seed."""
    for option in (
        click.option("--tta-seed", type=int, default=0, show_default=True, metavar="N",
                     help="Of what --tta draws."),
        click.option("--tta-count", type=click.IntRange(2), metavar="N",
                     help="How many versions, where they are drawn (else: 8)."),
        click.option("--tta", multiple=True, metavar="NAME",
                     help="Average over versions of each picture: flip, oversample (ten crops), "
                     "a recipe, or an augmentation, 'Rotation min: -10 max: 10'; several of these "
                     "are done one after the other."),
    ):  # fmt: skip
        function = option(function)
    return function


def versions_of(tta: tuple[str, ...], count: int | None, seed: int) -> Versions | None:
    """The versions that the options ask for.

    Raises:
        click.UsageError: a count is given for nothing.
        TorrefyError: they are wrong.
    """
    if not tta:
        if count is not None:
            raise click.UsageError("--tta-count says of how many versions: give --tta too")
        return None
    from torrefy.data.augment.versions import read_versions

    return read_versions(tta, count, seed)


def told(versions: Versions) -> str:
    """What results are of, in words."""
    return f"mean of {len(versions)} versions: {versions.name}"


def as_json(versions: Versions | None) -> dict[str, Any] | None:
    """The same for `--json`; null without --tta."""
    if versions is None:
        return None
    return {"of": versions.name, "versions": len(versions), "seed": versions.seed}
