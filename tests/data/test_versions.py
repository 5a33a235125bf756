"""Versions of a picture for test-time augmentation: which ones, their crops, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from torrefy.data.augment.affine import Rotation, Translation
from torrefy.data.augment.pipeline import Augmenter
from torrefy.data.augment.versions import Version, Versions, read_versions
from torrefy.data.augment.warp import Warp
from torrefy.data.draws import Draws
from torrefy.data.open import open_loader
from torrefy.data.preprocess import Preprocessor
from torrefy.data.sources.memory import ArraySource
from torrefy.data.transform import Transformer
from torrefy.errors import PictureError, TorrefyError
from torrefy.schema import parse_text


def noise(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (height, width, channels), np.uint8)


def ten_crops(picture: NDArray[Any], height: int, width: int) -> list[NDArray[Any]]:
    """What pycaffe's caffe.io.oversample gives of H×W×C: its crops and their order."""
    bottom, right = picture.shape[0] - height, picture.shape[1] - width
    # The middle is int(size / 2 - crop / 2).
    places = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    places.append((int(picture.shape[0] / 2 - height / 2), int(picture.shape[1] / 2 - width / 2)))
    crops = [picture[y : y + height, x : x + width] for y, x in places]
    return [*crops, *(crop[:, ::-1] for crop in crops)]


@pytest.mark.parametrize("size", [(12, 14), (13, 12), (9, 15)])
def test_oversample_is_pycaffes_in_its_order(size: tuple[int, int]) -> None:
    height, width = size
    card = Preprocessor.from_text(
        f"width: 8 height: 7 resize_width: {width} resize_height: {height} mean: [104, 117, 123] "
        "scale: 0.5"
    )
    made = card.versions(noise(height, width), read_versions("oversample"))
    mean = np.float32([104, 117, 123])
    expected = [
        ((crop - mean) * np.float32(0.5)).transpose(2, 0, 1)
        for crop in ten_crops(noise(height, width), 7, 8)
    ]
    assert np.array_equal(made, np.stack(expected))


def test_crops_are_taken_of_the_picture_as_the_card_resizes_it() -> None:
    card = Preprocessor.from_text(
        "width: 10 height: 10 resize: SHORTER_SIDE resize_width: 12 resize_height: 12 colour: RGB"
    )
    made = card.versions(noise(24, 48), read_versions("oversample"))
    image = Image.fromarray(noise(24, 48)).resize((24, 12), Image.Resampling.BILINEAR)
    expected = [crop.transpose(2, 0, 1) for crop in ten_crops(np.asarray(image), 10, 10)]
    assert np.array_equal(made, np.stack(expected))


@pytest.mark.parametrize("colour", ["BGR", "RGB", "GRAY"])
def test_flip_is_the_picture_alone_and_its_mirror(colour: str) -> None:
    card = Preprocessor.from_text(f"width: 6 height: 6 colour: {colour} mean: 9 scale: 2")
    picture = noise(9, 9, 1 if colour == "GRAY" else 3)
    made = card.versions(picture, read_versions("flip"))
    assert np.array_equal(made, np.stack([card(picture), card(picture)[..., ::-1]]))


def test_the_first_of_drawn_versions_is_the_picture_alone_and_others_differ() -> None:
    card = Preprocessor.from_text("width: 16 height: 16 resize_width: 20 resize_height: 20")
    picture = noise(20, 20)
    made = card.versions(picture, read_versions("Rotation min: -30 max: 30", 5))
    assert made.shape == (5, 3, 16, 16)
    assert np.array_equal(made[0], card(picture))
    assert len({version.tobytes() for version in made}) == 5
    again = card.versions(picture, read_versions("Rotation min: -30 max: 30", 5))
    assert np.array_equal(made, again)
    other = card.versions(picture, read_versions("Rotation min: -30 max: 30", 5, seed=1))
    assert np.array_equal(made[0], other[0])
    assert not np.array_equal(made[1], other[1])


def test_what_is_drawn_is_the_same_for_every_picture() -> None:
    card = Preprocessor.from_text("width: 15 height: 15 colour: GRAY")
    white = np.full((15, 15, 1), 255, np.uint8)
    drawn = Augmenter([Translation(pixels=4.0)], Warp(border="CONSTANT"))
    versions = Versions("moved", [Version(number=1), Version(number=2)], drawn)
    bright, dim = card.versions(white, versions), card.versions(white // 5, versions)
    np.testing.assert_allclose(bright / 5, dim, atol=1)
    assert not bright.all()


def test_augmentations_see_blue_first_whatever_the_net_wants() -> None:
    class Seen(Augmenter):
        def sample(self, picture: Any, draws: Draws, *rest: Any, **more: Any) -> Any:
            blues.append(int(picture[0].max()))
            return super().sample(picture, draws, *rest, **more)

    blues: list[int] = []
    versions = Versions("seen", [Version(number=1)], Seen([Rotation(max=1.0)]))
    picture = np.zeros((6, 6, 3), np.uint8)
    picture[..., 2] = 200  # blue, of red, green, blue
    made = Preprocessor.from_text("width: 6 height: 6 colour: RGB").versions(picture, versions)
    assert blues == [200]
    assert [int(channel.max()) for channel in made[0]] == [0, 0, 200]


def test_a_recipe_is_drawn_with_its_own_border() -> None:
    card = Preprocessor.from_text("width: 20 height: 20 colour: GRAY")
    made = card.versions(np.zeros((20, 20, 1), np.uint8), read_versions("deepsea", 4))
    assert made[1:].max() == 255  # white comes in from outside
    assert read_versions(["deepsea", "Flip"]).name == "deepsea, Flip"


def test_a_picture_that_gets_too_small_is_told() -> None:
    card = Preprocessor.from_text("width: 20 height: 20")
    with pytest.raises(PictureError) as error:
        card.versions(noise(30, 30), read_versions("Resize height: 10 width: 30"))
    assert str(error.value) == (
        "Resize height: 10 width: 30 makes the picture 30x10, smaller than the net's 20x20"
    )


def test_ten_crops_of_a_picture_that_is_taken_whole_are_refused() -> None:
    with pytest.raises(TorrefyError) as error:
        Preprocessor.from_text("width: 227 height: 227").check_versions(read_versions("oversample"))
    assert str(error.value) == (
        "oversample crops pictures that are larger than the net's input, but those of this model "
        "are resized to 227x227, which it takes whole. flip goes, or augmentations."
    )


def data_layer(transform: str) -> Any:
    return parse_text(
        'layer { name: "d" type: "Data" top: "data" top: "label" data_param { batch_size: 2 } '
        f"transform_param {{ {transform} }} }}"
    ).message.layer[0]


def test_a_data_layers_versions_are_made_as_its_pictures_are() -> None:
    pictures = np.stack([noise(9, 8).transpose(2, 0, 1), 255 - noise(9, 8).transpose(2, 0, 1)])
    spec = data_layer("crop_size: 6 mean_value: 7 scale: 0.5")
    options: dict[str, Any] = {"source": ArraySource(pictures, [3, 4])}
    plain = next(open_loader(spec, "test", **options))
    loader = open_loader(spec, "test", versions=read_versions("oversample"), **options)
    made = next(loader)
    assert loader.versions is not None
    assert made["data"].shape == (2, 10, 3, 6, 6)
    assert made["label"].tolist() == [3, 4]
    assert np.array_equal(made["data"][:, 4], plain["data"])
    expected = np.stack(ten_crops(pictures[1].transpose(1, 2, 0), 6, 6)).transpose(0, 3, 1, 2)
    assert np.array_equal(made["data"][1], (expected - np.float32(7)) * np.float32(0.5))
    flipped = next(open_loader(spec, "test", versions=read_versions("flip"), **options))
    assert np.array_equal(flipped["data"][:, 0], plain["data"])
    assert np.array_equal(flipped["data"][:, 1], plain["data"].numpy()[..., ::-1])


def test_a_mean_image_is_cropped_where_the_picture_is() -> None:
    picture = noise(9, 8).transpose(2, 0, 1)
    transform = Transformer(crop=6, mean=picture, versions=read_versions("oversample"))
    (made,) = transform((picture,), Draws(0, 0))
    assert made.shape == (10, 3, 6, 6)
    assert not made.any()


@pytest.mark.parametrize(
    ("given", "count", "message"),
    [
        ("flop", None, 'nothing makes versions called "flop". Did you mean "Flip" or "flip"?'),
        (
            ["flip", "Rotation"], None, '"flip" stands alone, found 2 names',
        ),
        (
            "oversample", 4,
            '"oversample" is 10 versions: a count is for augmentations that are drawn',
        ),
        ("Rotation", 1, "there must be 2 versions or more, found 1"),
        (
            "Rotation min: 9 max: 1", None,
            "Rotation: min is above max: 9 and 1",
        ),
        (
            "Mixup classes: 4", None,
            "Mixup mixes pictures, so there are no versions of one by it",
        ),
        (
            "Rotation mim: 9", None,
            '"Rotation mim: 9": RotationParameter has no field "mim". Did you mean "min"?',
        ),
    ],
)  # fmt: skip
def test_what_makes_no_versions_is_told(given: Any, count: int | None, message: str) -> None:
    with pytest.raises(TorrefyError) as error:
        read_versions(given, count)
    assert str(error.value) == message


def test_ten_crops_need_a_crop_size() -> None:
    with pytest.raises(TorrefyError) as error:
        open_loader(
            data_layer(""),
            "test",
            source=ArraySource(np.zeros((2, 1, 8, 8)), [0, 1]),
            versions=read_versions("oversample"),
        )
    assert str(error.value) == 'layer "d": oversample takes crops, but there is no crop_size'
