"""Augmentations that have a name: what winning teams did, as texts."""

from __future__ import annotations

from typing import Any

from torrefy.errors import DataError, did_you_mean
from torrefy.schema import parse_text

RECIPES = {
    # Dieleman et al., "Classifying plankton with deep neural networks" (2015): any rotation, up
    # to 10 pixels, 1/1.6 to 1.6, mirrored or not, sheared by up to 20 degrees, stretched by up to
    # 1.3; the pictures' background is white.
    "deepsea": """
        augmentation { type: "Rotation" rotation_param { min: 0 max: 360 } }
        augmentation { type: "Translation" translation_param { pixels: 10 } }
        augmentation { type: "Rescaling" rescaling_param { min: 0.625 max: 1.6 } }
        augmentation { type: "Flip" flip_param { horizontal: 0.5 } }
        augmentation { type: "Shear" shear_param { min: -20 max: 20 } }
        augmentation { type: "Stretch" stretch_param { min: 0.76923077 max: 1.3 } }
        warp { border: CONSTANT fill: 255 }
    """,
}
"""The texts, as they could stand in a transform_param."""


def read_recipe(name: str) -> Any:
    """A recipe as a TransformationParameter.

    Raises:
        DataError: there is none of that name.
    """
    if name not in RECIPES:
        hint = did_you_mean(name, RECIPES) or f"There are {', '.join(RECIPES)}."
        raise DataError(f'there is no recipe "{name}"', hint=hint)
    return parse_text(RECIPES[name], "caffe.TransformationParameter", f"recipe {name}").message
