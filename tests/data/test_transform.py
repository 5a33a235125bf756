"""Caffe's transformer: what it does to a picture, and which it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from torrefy.data.draws import Draws
from torrefy.data.transform import Transformer, read_mean
from torrefy.errors import DataError, RecordError
from torrefy.schema import new_message, parse_text
from torrefy.schema.blobs import write_blob

PICTURE = np.arange(2 * 5 * 6, dtype=np.uint8).reshape(2, 5, 6)


def refusal(transform: Transformer, picture: np.ndarray = PICTURE) -> str:
    with pytest.raises(RecordError) as error:
        transform.picture(picture, Draws(0, 0))
    return str(error.value)


def made(transform: Transformer, position: int = 0) -> np.ndarray:
    return transform.picture(PICTURE, Draws(3, position))


def test_nothing_is_done_where_nothing_is_said() -> None:
    np.testing.assert_array_equal(made(Transformer()), PICTURE.astype(np.float32), strict=True)


def test_the_mean_is_taken_before_the_scale() -> None:
    found = made(Transformer(mean=[1, 2], scale=0.5))
    expected = (PICTURE - np.float32([1, 2]).reshape(2, 1, 1)) * np.float32(0.5)
    np.testing.assert_array_equal(found, expected, strict=True)


def test_floats_stay_what_they_are() -> None:
    floats = np.random.default_rng(0).normal(size=(1, 3, 3)).astype(np.float32)
    found = Transformer(scale=2).picture(floats, Draws(0, 0))
    np.testing.assert_array_equal(found, floats * 2, strict=True)


def test_a_test_crop_is_the_centre_rounded_down() -> None:
    np.testing.assert_array_equal(made(Transformer(crop=2)), PICTURE[:, 1:3, 2:4])


def test_train_crops_come_from_everywhere_and_take_their_part_of_the_mean() -> None:
    mean = np.random.default_rng(0).integers(0, 9, PICTURE.shape).astype(np.float32)
    transform = Transformer(crop=3, mean=mean, train=True)
    found = {made(transform, i).tobytes() for i in range(200)}
    possible = {
        (PICTURE - mean)[:, y : y + 3, x : x + 3].tobytes() for y in range(3) for x in range(4)
    }
    assert found == possible


@pytest.mark.parametrize("train", [False, True])
def test_half_of_the_pictures_are_mirrored_in_both_phases(train: bool) -> None:
    transform = Transformer(mirror=True, train=train)
    turned = [np.array_equal(made(transform, i), PICTURE[..., ::-1]) for i in range(400)]
    straight = [np.array_equal(made(transform, i), PICTURE) for i in range(400)]
    assert 160 < sum(turned) < 240
    assert sum(turned) + sum(straight) == 400


def test_what_does_not_fit_is_told() -> None:
    assert refusal(Transformer(crop=7)) == "the picture is 6x5, smaller than crop_size 7"
    assert (
        refusal(Transformer(mean=[1, 2, 3]))
        == "the picture has 2 channels, but mean_value is given 3 times"
    )
    assert (
        refusal(Transformer(mean=np.zeros((3, 5, 6), np.float32)))
        == "the picture is 2x5x6, but the mean image 3x5x6"
    )


def test_a_layer_with_both_means_is_refused() -> None:
    text = 'layer { name: "d" transform_param { mean_file: "m" mean_value: 1 } }'
    layer = parse_text(text).message.layer[0]
    with pytest.raises(DataError) as error:
        Transformer.from_layer(layer, "test")
    assert str(error.value) == (
        'layer "d": mean_file and mean_value are both given. Give one of them.'
    )


# --- Means ---


def test_means_come_from_npy_too(tmp_path: Path) -> None:
    mean = np.random.default_rng(0).normal(size=(3, 4, 5))
    np.save(tmp_path / "m.npy", mean)
    np.save(tmp_path / "v.npy", mean.mean((1, 2)))
    np.testing.assert_array_equal(read_mean(tmp_path / "m.npy"), mean.astype(np.float32))
    assert read_mean(tmp_path / "v.npy").shape == (3,)


def test_a_blob_comes_back_as_it_was_written(tmp_path: Path) -> None:
    mean = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    (tmp_path / "m").write_bytes(write_blob(mean))
    np.testing.assert_array_equal(read_mean(tmp_path / "m"), mean, strict=True)


def test_a_file_that_is_no_mean_is_refused_in_one_line(tmp_path: Path) -> None:
    def told(name: str, data: bytes | None) -> str:
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(DataError) as error:
            read_mean(path)
        return str(error.value).replace(f"{tmp_path}/", "")

    blob = new_message("caffe.BlobProto")
    blob.shape.dim.extend([3, 2, 2])
    blob.data.extend([0.0] * 11)
    assert told("short", blob.SerializeToString()) == "short: a blob of 3x2x2 that holds 11 values"
    blob.data.append(float("nan"))
    assert told("nan", blob.SerializeToString()) == "nan: the mean holds values that are not finite"
    assert told("text", b"hello") == "text: this is no BlobProto"
    assert told("png", b"\x89PNG\r\n") == "png: this is a PNG picture, not a mean image"
    assert told("shorts", None) == 'shorts: no such file. Did you mean "short"?'
    np.save(tmp_path / "o.npy", np.array([{}], object), allow_pickle=True)
    assert told("o.npy", None).startswith("o.npy: this .npy can't be read: Object arrays")
