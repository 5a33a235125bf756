"""Preprocessing: sizes, crops and arithmetic; wrong messages; many pictures with broken ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from torrefy.data.preprocess import Preprocessor
from torrefy.errors import DefinitionError, PictureError
from torrefy.schema import parse_text


def preprocessor(text: str) -> Preprocessor:
    return Preprocessor.from_text(text, "card")


def ramp(height: int, width: int, channels: int = 3) -> np.ndarray:
    """A picture whose first channel is its column and whose second is its row."""
    rows, columns = np.mgrid[:height, :width]
    stacked = np.stack([columns, rows, columns + rows], axis=2)[..., :channels]
    return stacked.astype(np.uint8)


def test_values_are_less_the_mean_times_the_scale_in_float32() -> None:
    card = preprocessor("width: 1 height: 1 mean: [104, 117, 123] scale: 0.017")
    made = card(np.array([[[0, 117, 255]]], np.uint8))
    assert made.dtype == np.float32
    assert made.flags.c_contiguous
    expected = (np.float32([0, 117, 255]) - np.float32([104, 117, 123])) * np.float32(0.017)
    assert np.array_equal(made[:, 0, 0], expected)


def test_one_mean_is_for_all_channels_and_none_is_0() -> None:
    picture = np.full((1, 1, 3), 200, np.uint8)
    assert preprocessor("width: 1 height: 1 mean: 150")(picture).ravel().tolist() == [50] * 3
    assert preprocessor("width: 1 height: 1")(picture).ravel().tolist() == [200] * 3


def test_a_picture_of_the_nets_size_is_not_touched() -> None:
    picture = ramp(5, 7)
    made = preprocessor("width: 7 height: 5")(picture)
    assert np.array_equal(made, picture.transpose(2, 0, 1))


def test_stretch_takes_the_given_size_whatever_the_aspect() -> None:
    made = preprocessor("width: 4 height: 6")(ramp(30, 10))
    image = Image.fromarray(ramp(30, 10)).resize((4, 6), Image.Resampling.BILINEAR)
    assert np.array_equal(made, np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["NEAREST", "BILINEAR", "BICUBIC"])
def test_the_interpolation_is_pillows_of_that_name(kind: str) -> None:
    made = preprocessor(f"width: 9 height: 9 colour: GRAY interpolation: {kind}")(ramp(20, 30, 1))
    image = Image.fromarray(ramp(20, 30)[..., 0]).resize((9, 9), Image.Resampling[kind])
    assert np.array_equal(made[0], np.asarray(image))


def test_the_centre_is_cropped_as_caffe_crops_it() -> None:
    card = preprocessor("width: 4 height: 3 resize_width: 9 resize_height: 10")
    made = card(ramp(10, 9))
    assert made[0, 0].tolist() == [2, 3, 4, 5]  # (9 - 4) // 2
    assert made[1, :, 0].tolist() == [3, 4, 5]  # (10 - 3) // 2


@pytest.mark.parametrize(
    ("height", "width", "resized"), [(100, 200, (16, 8)), (200, 100, (8, 16)), (30, 50, (13, 8))]
)
def test_the_shorter_side_is_resized_and_the_aspect_kept(
    height: int, width: int, resized: tuple[int, int]
) -> None:
    text = "width: 6 height: 6 resize_width: 8 resize_height: 8 resize: SHORTER_SIDE"
    picture = ramp(height, width)
    image = np.asarray(Image.fromarray(picture).resize(resized, Image.Resampling.BILINEAR))
    left, top = (resized[0] - 6) // 2, (resized[1] - 6) // 2
    expected = image[top : top + 6, left : left + 6].transpose(2, 0, 1)
    assert np.array_equal(preprocessor(text)(picture), expected)


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    to=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    more=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    resize=st.sampled_from(["STRETCH", "SHORTER_SIDE"]),
    colour=st.sampled_from(["BGR", "GRAY"]),
)
def test_whatever_goes_in_the_nets_size_comes_out(
    height: int, width: int, to: tuple[int, int], more: tuple[int, int], resize: str, colour: str
) -> None:
    card = preprocessor(
        f"width: {to[0]} height: {to[1]} resize_width: {to[0] + more[0]} "
        f"resize_height: {to[1] + more[1]} resize: {resize} colour: {colour}"
    )
    assert card(ramp(height, width, card.channels)).shape == card.shape


def test_text_written_is_the_same_preprocessor_again() -> None:
    card = preprocessor(
        'blob: "x" width: 3 height: 2 resize_width: 5 resize_height: 5 resize: SHORTER_SIDE '
        "interpolation: BICUBIC colour: RGB mean: [104.00699, 116.66877, 122.67892] "
        "scale: 0.00390625"
    )
    again = Preprocessor.from_text(card.to_text())
    assert again.message == card.message
    assert np.array_equal(again(ramp(40, 30)), card(ramp(40, 30)))
    assert (again.blob, again.colour, again.shape) == ("x", "RGB", (3, 2, 3))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("width: 3", ["card:1:8: width and height go together, both above 0; found 3x0"]),
        ("", ["card:1:1: width and height go together, both above 0; found 0x0"]),
        (
            "width: 4 height: 4 resize_width: 9",
            ["card:1:34: resize_width and resize_height go together, both above 0; found 9x0"],
        ),
        (
            "width: 9 height: 9 resize_width: 9 resize_height: 8",
            ["card:1:34: resized to 9x8, a picture can't be cropped to 9x9"],
        ),
        (
            "width: 4000000000 height: 4000000000",
            ["card:1:8: a width and height of 4000000000x4000000000 are too large"],
        ),
        (
            "width: 1 height: 1\nmean: [1, 2]\nscale: 0",
            [
                "card:2:8: 2 values of mean for BGR: give 1 or 3",
                "card:3:8: scale must be a finite number other than 0, found 0",
            ],
        ),
        (
            "width: 1 height: 1 colour: GRAY mean: [1, 2, nan]",
            [
                "card:1:40: 3 values of mean for GRAY: give 1",
                "card:1:40: mean must be finite, found 1, 2, nan",
            ],
        ),
        ("width: 1 height: 1 scale: inf blob: ''", [
            "card:1:37: the blob has no name",
            "card:1:27: scale must be a finite number other than 0, found inf",
        ]),
        (
            "width: 1 height: 1 colour: GREY",
            ['card:1:28: "colour" takes one of BGR, RGB, GRAY; found GREY. Did you mean "GRAY"?'],
        ),
    ],
)  # fmt: skip
def test_what_can_not_be_is_told_with_its_place(text: str, expected: list[str]) -> None:
    with pytest.raises(DefinitionError) as error:
        preprocessor(text)
    assert [str(problem) for problem in error.value.problems] == expected


def test_a_message_within_a_card_tells_the_cards_places() -> None:
    card = parse_text('name: "m"\ninput { width: 0 height: 3 }', "torrefy.Card", "card.prototxt")
    with pytest.raises(DefinitionError) as error:
        Preprocessor(card.message.input, lambda field: card.place("input", field))
    assert str(error.value) == (
        "card.prototxt:2:16: width and height go together, both above 0; found 0x3"
    )


@pytest.mark.parametrize(
    ("picture", "found"),
    [
        (np.zeros((4, 5), np.uint8), "4x5 of uint8"),
        (np.zeros((4, 5, 1), np.uint8), "4x5x1 of uint8"),
        (np.zeros((4, 5, 3), np.float32), "4x5x3 of float32"),
        (np.zeros((0, 5, 3), np.uint8), "0x5x3 of uint8"),
    ],
)
def test_an_array_that_is_no_picture_is_refused(picture: np.ndarray, found: str) -> None:
    with pytest.raises(PictureError) as error:
        preprocessor("width: 2 height: 2")(picture)
    assert str(error.value) == (
        f"expected a picture of HxWx3 bytes in the order BGR, found {found}"
    )


def test_a_picture_like_a_thread_is_refused_rather_than_blown_up(tmp_path: Path) -> None:
    path = tmp_path / "thread.png"
    Image.new("L", (60_000, 2)).save(path)
    card = preprocessor("width: 224 height: 224 resize: SHORTER_SIDE")
    with pytest.raises(PictureError) as error:
        card.read(path)
    assert str(error.value) == (
        f"{path}: the picture is 60000x2: too narrow to be resized to 6720000x224"
    )
