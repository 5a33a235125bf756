"""What an augmentation type says of itself: its page in `torrefy data augmentations`."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from torrefy.data.augment.augmentation import Augmentation, BatchAugmentation
from torrefy.schema.describe import Parameter, parameters_of

MESSAGE, HOOK = "caffe.AugmentationParameter", "torrefy_augmentations"


@dataclass(frozen=True)
class Page:
    """An augmentation type's page."""

    type: str
    summary: str
    """The first paragraph of its docstring."""
    text: str
    """The whole docstring: formula, source, what is drawn."""
    field: str
    """The field of AugmentationParameter that holds its parameters: "rotation_param"."""
    parameters: tuple[Parameter, ...]
    example: str
    """One of this type as a transform_param has it."""
    origin: str
    """The module that defines it."""


def describe(cls: type[Augmentation] | type[BatchAugmentation]) -> Page:
    """An augmentation class's page."""
    text = inspect.cleandoc(cls.__doc__ or "")
    inside = f" {cls.example}" if cls.example else ""
    return Page(
        type=cls.type_name,
        summary=" ".join(text.split("\n\n", 1)[0].split()),
        text=text,
        field=cls.param,
        parameters=parameters_of(cls, cls, MESSAGE, HOOK),
        example=f'transform_param {{\n  augmentation {{ type: "{cls.type_name}"{inside} }}\n}}',
        origin=cls.__module__,
    )
