"""Layer types and augmentations for Torrefy."""

from __future__ import annotations

from typing import Any

from torrefy.plugins import hookimpl

TORREFY_API = 1
"""The version of the plugin surface that this is written for."""


@hookimpl
def torrefy_layers() -> list[type[Any]]:
    """The layer types. They are imported here, so that whoever needs no layer needs no torch."""
    from acme_layers.layers import Snake

    return [Snake]


@hookimpl
def torrefy_augmentations() -> list[type[Any]]:
    """The augmentations."""
    from acme_layers.augmentations import Solarize

    return [Solarize]
