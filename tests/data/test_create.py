"""Databases written and looked at: the bytes that convert_imageset writes, all of them or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torrefy.data.create import create_lmdb
from torrefy.data.pictures import read_picture
from torrefy.data.resize import resize
from torrefy.data.sources.image_list import PictureSource, list_source, read_list
from torrefy.data.sources.lmdb import LMDBSource
from torrefy.data.sources.memory import ArraySource
from torrefy.data.statistics import channel_means, contact_sheet, mean_of, summarize
from torrefy.errors import DataError, PictureError, RecordError

lmdb = pytest.importorskip("lmdb")
GOLDEN = Path(__file__).parents[1] / "golden/data"


def of_caffe(**options: object) -> PictureSource:
    return list_source(GOLDEN / "list.txt", f"{GOLDEN}/images/", **options)


NAMES = read_list(GOLDEN / "list.txt")[0]


@pytest.mark.parametrize(
    ("name", "colour", "encoded"), [("lmdb_gray", "GRAY", False), ("lmdb_encoded", "BGR", True)]
)
def test_records_are_those_of_convert_imageset(
    tmp_path: Path, name: str, colour: str, encoded: bool
) -> None:
    create_lmdb(tmp_path / "db", of_caffe(colour=colour), names=NAMES, encoded=encoded)
    ours, caffe = LMDBSource(tmp_path / "db"), LMDBSource(GOLDEN / name)
    assert [(ours.name(i), ours.record(i)) for i in range(len(ours))] == [
        (caffe.name(i), caffe.record(i)) for i in range(len(caffe))
    ]
    assert [path.name for path in (tmp_path / "db").iterdir()] == ["data.mdb"]


def test_what_is_resized_is_kept_as_png_where_files_are_kept(tmp_path: Path) -> None:
    create_lmdb(tmp_path / "db", of_caffe(size=(5, 6)), encoded=True)
    picture, label = LMDBSource(tmp_path / "db", "BGR").item(1)
    expected = resize(read_picture(GOLDEN / "images/img_01.png"), 5, 6).transpose(2, 0, 1)
    np.testing.assert_array_equal(picture, expected)
    assert label == 2


def test_another_order_has_the_same_pictures(tmp_path: Path) -> None:
    create_lmdb(tmp_path / "db", of_caffe(), names=NAMES, shuffle=1)
    found = [name[9:].decode() for name in map(LMDBSource(tmp_path / "db").name, range(12))]
    assert found != NAMES
    assert sorted(found) == NAMES


def test_more_than_the_first_map_holds_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torrefy.data.create._FIRST_SIZE", 1 << 14)
    monkeypatch.setattr("torrefy.data.create.COMMIT", 5)
    assert create_lmdb(tmp_path / "db", of_caffe()).records == 12
    assert len(LMDBSource(tmp_path / "db")) == 12


def test_a_picture_that_can_not_be_read_stops_or_is_left_out(photos: Path) -> None:
    (photos / "p 2.png").write_bytes(b"")
    source = list_source(photos / "list.txt", f"{photos}/")
    with pytest.raises(PictureError, match="the file is empty"):
        create_lmdb(photos / "db", source)
    assert sorted(path.name for path in photos.iterdir() if path.suffix != ".png") == ["list.txt"]
    created = create_lmdb(photos / "db", source, bad="skip")
    assert created.records == 5
    assert created.bad == {
        f"{photos}/list.txt:3:1": f"{photos}/list.txt:3:1: {photos}/p 2.png: the file is empty"
    }
    keys = [LMDBSource(photos / "db").name(i)[:8] for i in range(5)]
    assert keys == [b"%08d" % i for i in range(5)]


def test_what_can_not_be_written_is_told(photos: Path) -> None:
    def told(source: PictureSource, target: str = "db", **options: object) -> str:
        with pytest.raises((DataError, PictureError)) as error:
            create_lmdb(photos / target, source, **options)
        return str(error.value).replace(f"{photos}/", "")

    source = list_source(photos / "list.txt", f"{photos}/")
    Image.new("RGB", (3, 2)).save(photos / "p 1.png")
    assert told(source, same_size=True) == (
        "list.txt:2:1: the picture is 3x2, and the first one 9x7"
    )
    assert told(source, "p 0.png") == "p 0.png: this exists; it is not overwritten"
    assert told(source, "no/db") == "no/db: can't be written: No such file or directory"
    assert told(PictureSource(source.files, [0.5] * 6)) == (
        "p 0.png: the label 0.5 is no whole number of 32 bits"
    )
    for path in photos.glob("*.png"):
        path.write_bytes(b"")
    assert told(source, bad="skip") == "db: no picture can be read: nothing is written"


# --- Looking ---


def test_a_full_disk_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise lmdb.Error("mdb_txn_commit: Input/output error")

    monkeypatch.setattr("torrefy.data.create._commit", full)
    with pytest.raises(DataError) as error:
        create_lmdb(tmp_path / "db", of_caffe())
    assert str(error.value) == (
        f"{tmp_path}/db: can't be written: mdb_txn_commit: Input/output error. Is the disk full?"
    )
    assert not list(tmp_path.iterdir())


def test_means_and_counts(digits: Path) -> None:
    source = LMDBSource(digits)
    pictures = np.stack([source.item(i)[0] for i in range(30)])
    np.testing.assert_allclose(mean_of(source), pictures.mean(0), rtol=1e-6)
    np.testing.assert_allclose(channel_means(source), [pictures.mean()])
    found = summarize(source)
    assert found.count == 30
    assert found.labels == dict.fromkeys(range(10), 3)
    assert found.shapes == {(1, 4, 5): 30}


def test_a_mean_image_takes_one_size(photos: Path) -> None:
    Image.new("RGB", (3, 2)).save(photos / "p 1.png")
    source = list_source(photos / "list.txt", f"{photos}/")
    with pytest.raises(RecordError) as error:
        mean_of(source)
    assert str(error.value) == (
        f"{photos}/list.txt:2:1: the picture is 3x2x3, and the first one 3x7x9; a mean image takes "
        "pictures of one size. Resize them, or use mean_value."
    )
    assert len(channel_means(source)) == 3


def test_a_sheet_shows_each_picture(digits: Path) -> None:
    sheet = contact_sheet(LMDBSource(digits), 12, size=8)
    assert sheet.shape == (48, 100, 3)
    floats = np.array([[[[0.0, 1.0]]]], np.float32)
    assert contact_sheet(ArraySource(floats), 1, size=4)[1, 1:3, 0].tolist() == [0, 255]


def test_a_sheet_has_a_cross_for_a_bad_picture_and_labels_below(photos: Path) -> None:
    (photos / "p 1.png").write_bytes(b"")
    sheet = contact_sheet(list_source(photos / "list.txt", f"{photos}/"), 3, size=8)
    assert sheet.shape == (24, 30, 3)
    assert [sheet[1 + i, 11 + i].tolist() for i in range(8)] == [[200, 40, 40]] * 8
    assert [bool((sheet[9:, 10 * i : 10 * i + 10] < 128).any()) for i in range(3)] == [
        True, False, True,
    ]  # fmt: skip
