"""Lists, folders, HDF5 files, arrays and datasets as sources; and what a layer opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from torrefy.data.open import SourceType, open_loader, open_source, open_transform
from torrefy.data.pictures import read_picture
from torrefy.data.resize import resize
from torrefy.data.sources.hdf5 import HDF5Source
from torrefy.data.sources.image_list import find_classes, list_source, read_list
from torrefy.data.sources.memory import ArraySource, DatasetSource
from torrefy.errors import PictureError, RecordError, TorrefyError
from torrefy.plugins import added, hookimpl
from torrefy.schema import parse_text


def layer(text: str) -> Any:
    return parse_text(f'layer {{ name: "d" top: "data" top: "label" {text} }}').message.layer[0]


def refusal(call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(TorrefyError) as error:
        call(*args, **options)
    return str(error.value)


# --- Lists and folders ---


def test_a_name_in_a_list_may_hold_spaces(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("\ufeffa cat.png 3\r\n\r\nb.png -1\n", "utf-8")
    names, labels, listed = read_list(tmp_path / "l.txt")
    assert (names, labels) == (["a cat.png", "b.png"], [3, -1])
    assert [str(listed.place(i)) for i in range(2)] == [
        f"{tmp_path}/l.txt:{line}:1" for line in (1, 3)
    ]


def test_all_wrong_lines_of_a_list_are_told(tmp_path: Path) -> None:
    path = tmp_path / "l.txt"
    path.write_text("a.png 3\nb.png\nc.png 1.5\n 4\n")
    assert refusal(read_list, path) == "\n".join(
        f'{path}:{line}:1: expected a picture and its class ("cat.jpg 3"), found "{text}"'
        for line, text in ((2, "b.png"), (3, "c.png 1.5"), (4, "4"))
    )
    path.write_text("\n")
    assert refusal(read_list, path) == f"{path}: the list is empty"
    assert refusal(read_list, tmp_path / "m.txt").startswith(f"{tmp_path / 'm.txt'}: no such file")
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    assert refusal(read_list, path) == f"{path}: this is a PNG picture, not a list"


def test_pictures_are_resized_as_opencv_does(photos: Path) -> None:
    text = 'type: "ImageData" image_data_param { source: "list.txt" new_height: 4 new_width: 5 '
    source = open_source(layer(f'{text} root_folder: "{photos}/" }}'), "test", photos)
    expected = resize(read_picture(photos / "p 2.png"), 4, 5).transpose(2, 0, 1)
    np.testing.assert_array_equal(source.item(2)[0], expected)
    assert source.item(2)[1] == 2
    assert source.key(2) == f"{photos}/p 2.png"
    assert open_source(layer(f"{text} }}"), "test", photos).key(2) == f"{photos}/p 2.png"
    assert refusal(open_source, layer(text.replace("new_width: 5", "}")), "test", photos) == (
        'layer "d": one of new_height and new_width is missing. Give both or neither.'
    )


def test_a_folder_has_a_class_for_each_folder_in_it(tmp_path: Path) -> None:
    for name in ("dog/b.png", "dog/deep/a.PNG", "cat/c.png", "dog/.hidden.png", ".git/x.png"):
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (3, 2)).save(path)
    (tmp_path / "pets/dog/notes.txt").write_text("no picture")
    classes, files, labels = find_classes(tmp_path / "pets")
    assert classes == ["cat", "dog"]
    names = [str(Path(file).relative_to(tmp_path / "pets")) for file in files]
    assert list(zip(names, labels, strict=True)) == [
        ("cat/c.png", 0), ("dog/b.png", 1), ("dog/deep/a.PNG", 1)
    ]  # fmt: skip
    spec = layer('type: "ImageData" image_data_param { source: "pets" batch_size: 3 }')
    assert next(open_loader(spec, "test", tmp_path, workers=0))["label"].tolist() == [0, 1, 1]
    (tmp_path / "pets/ant").mkdir()
    assert refusal(find_classes, tmp_path / "pets") == (
        f"{tmp_path}/pets/ant: there is no picture in this folder. Each folder in "
        f'"{tmp_path}/pets" is a class: move away what is none.'
    )
    assert refusal(find_classes, tmp_path / "pets/dog/deep") == (
        f"{tmp_path}/pets/dog/deep: there is no folder in this folder. Give one for each class."
    )


# --- HDF5 ---


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Two HDF5 files with 5 and 3 rows, and a list of them; the rows are numbered."""
    for name, numbers in (("a.h5", range(5)), ("b.h5", range(5, 8))):
        with h5py.File(tmp_path / name, "w") as file:
            file["data"] = np.array([[[i, i + 0.5]] for i in numbers], np.float64)
            file.create_dataset("label", data=np.array(numbers, np.int32), chunks=(2,),
                                compression="gzip")  # fmt: skip
    (tmp_path / "list.txt").write_text("a.h5\nb.h5\n")
    return tmp_path


def test_rows_go_on_from_file_to_file(rows: Path) -> None:
    source = open_source(layer('type: "HDF5Data" hdf5_data_param { source: "list.txt" }'),
                         "train", rows)  # fmt: skip
    assert len(source) == 8
    for i in (0, 4, 5, 7, 1):
        data, label = source.item(i)
        np.testing.assert_array_equal(data, np.float32([[i, i + 0.5]]), strict=True)
        assert label == i
    assert source.key(6) == f"{rows}/b.h5 (row 1)"


def test_shuffled_rows_stay_with_their_file(rows: Path) -> None:
    source = HDF5Source([str(rows / "a.h5"), str(rows / "b.h5")], ["label"], shuffle=True)
    order = source.order(1, 4)
    seen = set()
    for epoch in range(8):
        found = [order.index(epoch * 8 + i) for i in range(8)]
        assert sorted(found) == list(range(8))
        assert [i > 4 for i in found] in ([False] * 5 + [True] * 3, [True] * 3 + [False] * 5)
        seen.add(tuple(found))
    assert len(seen) > 6


def test_files_that_do_not_fit_are_refused(rows: Path) -> None:
    def told(*names: str) -> str:
        return refusal(HDF5Source, [str(rows / "a.h5"), str(rows / "c.h5")], names)

    with h5py.File(rows / "c.h5", "w") as file:
        file["data"] = np.zeros((4, 1, 3))
        file["label"] = np.zeros(3)
        file["text"] = "a"
    c = rows / "c.h5"
    assert told("data", "label") == (
        f'{c}: the datasets differ in their number of rows: "data" 4x1x3, "label" 3'
    )
    assert told("data") == f"{c}: its rows have other shapes than those of {rows}/a.h5"
    assert told("lable") == (
        f'{rows}/a.h5: there is no dataset "lable" in it. Did you mean "label"?'
    )
    c.write_bytes((rows / "a.h5").read_bytes()[:900])
    assert told("data").startswith(f"{c}: the file is cut off: it has 900 bytes of")
    c.write_bytes(b"")
    assert told("data") == f"{c}: the file is empty"
    c.unlink()
    assert told("data").startswith(f"{c}: no such file")


def test_hdf5_data_takes_no_transform(rows: Path) -> None:
    spec = layer('type: "HDF5Data" hdf5_data_param { source: "list.txt" } transform_param { }')
    assert refusal(open_source, spec, "train", rows) == (
        'layer "d": HDF5Data takes no transform_param. Store the arrays transformed.'
    )


# --- Arrays and datasets ---


def test_arrays_must_have_as_many_rows() -> None:
    assert refusal(ArraySource, np.zeros((3, 2)), np.zeros(4)) == (
        "<arrays>: expected arrays of as many rows, found (3, 2), (4,)"
    )
    assert refusal(ArraySource) == "<arrays>: expected arrays of as many rows, found none"


def test_memory_data_holds_its_shape_against_the_arrays() -> None:
    spec = layer('type: "MemoryData" memory_data_param '
                 "{ batch_size: 2 channels: 1 height: 2 width: 3 }")  # fmt: skip
    assert refusal(open_source, spec, "test") == (
        'layer "d": a MemoryData layer has no source: the program gives its arrays'
    )
    assert refusal(open_source, spec, "test", arrays=[np.zeros((4, 1, 3, 3))]) == (
        'layer "d": items of 1x3x3 for a layer of 1x2x3'
    )


def test_any_dataset_of_pytorch_is_a_source() -> None:
    class Pets(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, i: int) -> Any:
            if i == 2:
                return Image.new("RGB", (2, 1), (1, 2, 3)), "cat"
            return torch.full((1, 2), float(i)), i

    source = DatasetSource(Pets())
    np.testing.assert_array_equal(source.item(1)[0], np.ones((1, 2), np.float32))
    assert source.item(1)[1] == 1
    with pytest.raises(RecordError, match=r"Pets\[2\]: expected tensors, arrays, numbers or pict"):
        source.item(2)
    picture = DatasetSource([(Image.new("RGB", (2, 1), (1, 2, 3)), 0)]).item(0)[0]
    np.testing.assert_array_equal(picture, np.uint8([[[3, 3]], [[2, 2]], [[1, 1]]]))
    assert refusal(DatasetSource, []) == "list: the dataset is empty"


# --- What a layer asks for ---


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('type: "Data" data_param { backend: LMDB }', "there is no source"),
        (
            'type: "Data" data_param { source: "x" } '
            "transform_param { force_color: true force_gray: true }",
            "force_color and force_gray are both given. Give one of them.",
        ),
        ('type: "Dta"', 'a layer of the type Dta reads no data. Did you mean "Data"?'),
    ],
)
def test_a_layer_that_asks_for_the_impossible_is_told(text: str, told: str) -> None:
    assert refusal(open_source, layer(text), "train") == f'layer "d": {told}'


def test_a_layer_without_a_batch_size_is_told(digits: Path) -> None:
    spec = layer('type: "Data" data_param { source: "db" backend: LMDB }')
    assert refusal(open_loader, spec, "train", digits.parent) == (
        'layer "d": there is no batch_size'
    )


@pytest.mark.parametrize(
    ("pixels", "mode"), [(b"\x01\xff" * 4, "I;16"), (b"\x10\x20\x30\x40" * 4, "CMYK")]
)
def test_odd_pictures_are_read_as_bytes(tmp_path: Path, pixels: bytes, mode: str) -> None:
    Image.frombytes(mode, (2, 2), pixels).save(tmp_path / "p.tif")
    (tmp_path / "l.txt").write_text("p.tif 0\n")
    picture, _ = list_source(tmp_path / "l.txt", f"{tmp_path}/").item(0)
    assert picture.shape == (3, 2, 2)
    assert picture.dtype == np.uint8


def test_a_bad_picture_is_told_with_its_file(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = list_source(photos / "list.txt", f"{photos}/")
    (photos / "p 0.png").write_bytes(b"")
    (photos / "p 1.png").write_bytes((photos / "p 2.png").read_bytes()[:60])
    (photos / "p 3.png").unlink()

    def told(index: int) -> str:
        with pytest.raises(PictureError) as error:
            source.item(index)
        return str(error.value).replace(f"{photos}/", "")

    assert told(0) == "list.txt:1:1: p 0.png: the file is empty"
    assert told(1) == "list.txt:2:1: p 1.png: the picture is cut short"
    assert told(3).startswith("list.txt:4:1: p 3.png: no such file")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert told(4).startswith(
        "list.txt:5:1: p 4.png: the picture is too large: Image size (63 pixels) exceeds"
    )


def test_a_window_layer_takes_its_own_scale() -> None:
    text = 'type: "WindowData" window_data_param { scale: 2 crop_mode: "sqare" } '
    text += "transform_param { crop_size: 8 scale: 5 }"
    assert refusal(open_transform, layer(text), "train") == (
        'layer "d": crop_mode is "warp" or "square", found "sqare". Did you mean "square"?'
    )
    made: Any = open_transform(layer(text.replace("sqare", "square")), "train")
    assert made.scale == 2


def test_plugins_add_layer_types_that_read_data() -> None:
    class Numbers:
        @hookimpl
        def torrefy_sources(self) -> list[SourceType]:
            return [SourceType("Numbers", "data_param", lambda *_: ArraySource(np.arange(3)))]

    spec = layer('type: "Numbers" data_param { batch_size: 4 }')
    spec.top.pop()
    with added(Numbers(), "numbers"):
        assert next(open_loader(spec, "train"))["data"].tolist() == [0, 1, 2, 0]
    assert refusal(open_loader, spec, "train") == (
        'layer "d": a layer of the type Numbers reads no data'
    )
