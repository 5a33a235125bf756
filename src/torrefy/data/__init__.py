"""Pictures and labels, and what is done to them before a net sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrefy.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from torrefy.data.augment.augmentation import Augmentation, BatchAugmentation
    from torrefy.data.open import SourceType


@hookimpl
def torrefy_sources() -> tuple[SourceType, ...]:
    """Caffe's layer types that read data."""
    from torrefy.data.open import BUILT_IN  # here: pictures alone need no torch

    return BUILT_IN


@hookimpl
def torrefy_augmentations() -> list[type[Augmentation] | type[BatchAugmentation]]:
    """The built-in augmentations."""
    from torrefy.data.augment import affine, colour, crops, mixing, pixels

    return [
        *affine.BUILT_IN, *crops.BUILT_IN, *colour.BUILT_IN, *pixels.BUILT_IN, *mixing.BUILT_IN
    ]  # fmt: skip
