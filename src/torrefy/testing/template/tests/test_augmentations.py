"""The augmentations, held to what Torrefy's own are held to."""

import acme_layers
import numpy as np
import pytest
from acme_layers.augmentations import Solarize

from torrefy.data.augment.augmentation import Sample
from torrefy.testing import check_augmentation, isolated_plugin


@pytest.fixture(autouse=True)
def plugin():
    """The plugin without any other, installed or not."""
    with isolated_plugin(acme_layers, "acme-layers") as plugin:
        yield plugin


def test_solarize_is_sound():
    check_augmentation(Solarize, "solarize_param { min: 128 }")


def test_solarize_turns_bright_pixels_dark():
    sample = Sample(np.array([[[10, 100, 200]]], np.uint8))
    Solarize().apply(sample, {"threshold": 100.0})
    np.testing.assert_array_equal(sample.picture, np.array([[[10, 155, 55]]], np.uint8))
