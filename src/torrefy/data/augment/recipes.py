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
    # Krizhevsky et al. 2012, section 4.1. The crops and the mirroring are Caffe's crop_size and
    # mirror, of pictures of 256x256.
    "alexnet": """
        augmentation { type: "Lighting" lighting_param { sigma: 0.1 } }
    """,
    # Szegedy et al. 2014 (arXiv:1409.4842), section 6: parts of 8 % to 100 % of the area; the
    # colours as Howard 2013 (arXiv:1312.5402): contrast, brightness and colour by 0.5 to 1.5, and
    # the lighting of AlexNet. Mirroring is Caffe's mirror.
    "googlenet": """
        augmentation { type: "RandomResizedCrop" random_resized_crop_param {
            height: 224 width: 224 min_area: 0.08 max_area: 1 min_aspect: 0.75
            max_aspect: 1.33333333 } }
        augmentation { type: "Contrast" contrast_param { min: 0.5 max: 1.5 } }
        augmentation { type: "Brightness" brightness_param { min: 0.5 max: 1.5 } }
        augmentation { type: "Saturation" saturation_param { min: 0.5 max: 1.5 } }
        augmentation { type: "Lighting" lighting_param { sigma: 0.1 } }
    """,
    # Liu et al. 2016 (arXiv:1512.02325), sections 2.2 and 3.6, for SSD300; the mean is that of the
    # VGG net. Mirroring is Caffe's mirror.
    "ssd": """
        augmentation { type: "Distort" }
        augmentation { type: "Expand" probability: 0.5 expand_param { max: 4 } }
        augmentation { type: "BatchSampler" }
        augmentation { type: "Resize" resize_param { height: 300 width: 300 } }
        warp { border: CONSTANT fill: 104 fill: 117 fill: 123 }
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
