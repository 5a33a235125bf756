"""Colours and spoilt pixels, against Pillow, OpenCV and what the papers say."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from torrefy.data.augment.augmentation import Augmentation, Sample
from torrefy.data.augment.colour import (
    Brightness,
    Contrast,
    Distort,
    Grey,
    Hue,
    Lighting,
    Saturation,
)
from torrefy.data.augment.pixels import JPEG, Blur, Cutout, Noise
from torrefy.data.draws import Draws
from torrefy.errors import RecordError, TorrefyError

PICTURE = np.random.default_rng(0).integers(0, 256, (3, 16, 20), np.uint8)
GREY = PICTURE[:1]


def applied(one: Augmentation, picture: NDArray[Any] = PICTURE, **drawn: float) -> NDArray[Any]:
    sample = Sample(picture.copy())
    one.apply(sample, drawn)
    assert sample.picture.dtype == picture.dtype
    return sample.picture


def in_rgb(picture: NDArray[Any]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(picture[::-1].transpose(1, 2, 0)))


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.3, 2.5])
@pytest.mark.parametrize(
    ("one", "enhance"),
    [(Brightness(), ImageEnhance.Brightness), (Contrast(), ImageEnhance.Contrast),
     (Saturation(), ImageEnhance.Color)],
    ids=["Brightness", "Contrast", "Saturation"],
)  # fmt: skip
def test_it_is_pillows_to_its_rounding(one: Augmentation, enhance: Any, factor: float) -> None:
    found = applied(one, factor=factor)
    wanted = np.asarray(enhance(in_rgb(PICTURE)).enhance(factor)).transpose(2, 0, 1)[::-1]
    # Pillow cuts fractions off, of the mean or luma first and of the result then.
    difference = found.astype(int) - wanted
    assert np.abs(difference).max() <= (1 + abs(1 - factor) if factor != 1 else 0)


@pytest.mark.parametrize("degrees", [-180.0, -36.0, 0.0, 10.0, 120.0])
def test_hues_turn_as_in_colorsys(degrees: float) -> None:
    found = applied(Hue(), degrees=degrees)
    for y, x in ((0, 0), (3, 7), (15, 19)):
        blue, green, red = PICTURE[:, y, x] / 255
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        wanted = colorsys.hsv_to_rgb((hue + degrees / 360) % 1, saturation, value)
        assert found[::-1, y, x] == pytest.approx(255 * np.array(wanted), abs=0.51)


def test_a_third_of_the_circle_makes_red_green() -> None:
    red = np.array([0, 0, 250], np.uint8).reshape(3, 1, 1)
    assert applied(Hue(), red, degrees=120.0).ravel().tolist() == [0, 250, 0]


def test_lighting_adds_the_principal_components_of_imagenet() -> None:
    grey = np.full((3, 2, 2), 100, np.float32)
    found = applied(Lighting(), grey, a1=0.1, a2=0.0, a3=0.0)
    red, green, blue = (255 * 0.1 * 0.2175 * part for part in (-0.5675, -0.5808, -0.5836))
    assert found[:, 0, 0] == pytest.approx([100 + blue, 100 + green, 100 + red], abs=1e-4)
    found = applied(Lighting(), grey, a1=0.0, a2=-0.2, a3=0.3)
    first = 255 * (-0.2 * 0.0188 * 0.7192 + 0.3 * 0.0045 * 0.4009)
    assert found[2, 0, 0] == pytest.approx(100 + first, abs=1e-4)


def test_grey_is_luma_in_every_channel() -> None:
    found = applied(Grey())
    wanted = np.asarray(in_rgb(PICTURE).convert("L")).astype(int)
    assert np.abs(found.astype(int) - wanted).max() <= 1
    assert (found == found[:1]).all()


def test_bytes_are_rounded_and_all_is_clipped() -> None:
    bytes_ = np.array([[[1, 3, 200]]], np.uint8)
    assert applied(Brightness(), bytes_, factor=1.5).ravel().tolist() == [2, 4, 255]
    floats = bytes_.astype(np.float32)
    assert applied(Brightness(), floats, factor=1.5).ravel().tolist() == [1.5, 4.5, 255]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_distort_does_what_is_drawn_in_its_order(dtype: Any) -> None:
    picture = np.array([40, 100, 120], dtype).reshape(3, 1, 1)
    one = Distort()
    nothing = applied(one, picture, contrast_first=1.0)
    np.testing.assert_array_equal(nothing, picture)
    lighter = applied(one, picture, contrast_first=1.0, brightness=20.0, contrast=1.5)
    assert lighter.ravel().tolist() == [90, 180, 210]
    # Contrast clips at 255 before the saturation, or after it.
    drawn = {"contrast": 2.5, "saturation": 0.5}
    first = applied(one, picture, contrast_first=1.0, **drawn)
    last = applied(one, picture, contrast_first=0.0, **drawn)
    assert first.ravel() == pytest.approx([177.5, 252.5, 255], abs=3)
    assert last.ravel() == pytest.approx([200, 255, 255], abs=0.5)


@pytest.mark.parametrize(
    ("one", "drawn"),
    [(Saturation(), {"factor": 0.5}), (Hue(), {"degrees": 90.0}), (Grey(), {}),
     (Distort(), {"contrast_first": 1.0, "saturation": 0.5, "hue": 9.0})],
    ids=lambda value: getattr(value, "type_name", ""),
)  # fmt: skip
def test_colours_of_a_grey_picture_stay(one: Augmentation, drawn: dict[str, float]) -> None:
    np.testing.assert_array_equal(applied(one, GREY, **drawn), GREY)


def test_brightness_and_contrast_of_a_grey_picture_change() -> None:
    grey = np.array([[[50, 150]]], np.uint8)
    assert applied(Brightness(), grey, factor=0.5).ravel().tolist() == [25, 75]
    assert applied(Contrast(), grey, factor=1.5).ravel().tolist() == [25, 175]
    drawn = {"contrast_first": 0.0, "brightness": -10.0, "contrast": 0.5, "hue": 9.0}
    assert applied(Distort(), grey, **drawn).ravel().tolist() == [20, 70]


@pytest.mark.parametrize(
    ("one", "channels", "told"),
    [
        (Lighting(), 1, "Lighting takes pictures of 3 channels, found 1"),
        (Hue(), 4, "Hue takes pictures of 1 or 3 channels, found 4"),
        (JPEG(), 2, "JPEG takes pictures of 1 or 3 channels, found 2"),
        (Cutout(fill=[1.0, 2.0, 3.0]), 1,
         "the picture has 1 channel, but Cutout's fill is given 3 times"),
    ],
    ids=lambda value: getattr(value, "type_name", None),
)  # fmt: skip
def test_pictures_of_other_channels_are_refused(
    one: Augmentation, channels: int, told: str
) -> None:
    picture = np.zeros((channels, 4, 4), np.uint8)
    with pytest.raises(RecordError) as error:
        one.apply(Sample(picture), one.draw(Draws(0, 0), (4, 4)))
    assert str(error.value) == told


# --- Spoilt pixels ---


def test_blur_keeps_the_mean_and_takes_the_sharpness() -> None:
    point = np.zeros((1, 41, 41), np.float32)
    point[0, 20, 20] = 1000
    found = applied(Blur(), point, sigma=2.0)[0]
    y, x = np.mgrid[:41, :41] - 20
    wanted = 1000 * np.exp(-(x**2 + y**2) / 8) / (8 * np.pi)
    assert found.sum() == pytest.approx(1000, rel=1e-5)
    assert np.abs(found - wanted).max() < 0.5


def test_noise_has_the_strength_that_is_drawn_and_comes_back_by_its_seed() -> None:
    grey = np.full((3, 100, 100), 128, np.float32)
    found = applied(Noise(), grey, sigma=7.0, seed=3.0)
    assert found.std() == pytest.approx(7, rel=0.02)
    assert found.mean() == pytest.approx(128, abs=0.15)
    np.testing.assert_array_equal(found, applied(Noise(), grey, sigma=7.0, seed=3.0))
    assert not np.array_equal(found, applied(Noise(), grey, sigma=7.0, seed=4.0))
    # A run that is resumed after an update of numpy sees the same.
    assert found[0, 0, :3] == pytest.approx([140.520397, 131.055568, 128.675484], abs=1e-4)


def test_jpeg_spoils_more_at_a_lower_quality_and_keeps_blue_blue() -> None:
    y, x = np.mgrid[:32, :32]
    picture = np.stack([200 - 3 * x, 60 + 2 * y, 20 + x + y]).astype(np.uint8)
    losses = [
        np.abs(applied(JPEG(), picture, quality=quality).astype(int) - picture).mean()
        for quality in (95.0, 50.0, 5.0)
    ]
    assert losses[0] < losses[1] < losses[2] and losses[0] < 2
    floats = applied(JPEG(), picture.astype(np.float32), quality=50.0)
    np.testing.assert_array_equal(floats, applied(JPEG(), picture, quality=50.0))
    assert applied(JPEG(), GREY, quality=90.0).shape == GREY.shape


def test_cutout_covers_a_square_cut_at_the_edge() -> None:
    covered = applied(Cutout(pixels=6, fill=[7.0]), x=1.0, y=10.0, side=6.0)
    wanted = PICTURE.copy()
    wanted[:, 7:13, 0:4] = 7
    np.testing.assert_array_equal(covered, wanted)
    mean = applied(Cutout(pixels=6), x=10.0, y=8.0, side=6.0)[:, 8, 10]
    np.testing.assert_array_equal(mean, PICTURE.mean(axis=(1, 2)).round())


def test_the_side_of_cutout_is_in_pixels_or_a_share() -> None:
    assert Cutout().draw(Draws(0, 0), (32, 40))["side"] == 16
    assert Cutout(fraction=0.25).draw(Draws(0, 0), (32, 40))["side"] == 8
    assert Cutout(pixels=5).draw(Draws(0, 0), (32, 40))["side"] == 5
    with pytest.raises(TorrefyError) as error:
        Cutout(pixels=5, fraction=0.5)
    assert str(error.value) == "give one of pixels and fraction"
