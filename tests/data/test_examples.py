"""What a user names as data: folders, lists, tables, databases; and what is said of wrong ones."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torrefy.data.ahead import read_ahead
from torrefy.data.collect import read_examples
from torrefy.data.create import create_lmdb
from torrefy.data.examples import examples_of
from torrefy.data.preprocess import Preprocessor
from torrefy.data.sources.image_list import PictureSource
from torrefy.data.sources.lmdb import LMDBSource
from torrefy.errors import DataError, PictureError


def picture(path: Path, colour: tuple[int, int, int] = (10, 20, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), colour).save(path)
    return path


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        read_examples(path, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    for name in ("Katze/1.png", "Katze/tief/2.png", "chien à lunettes/ä b.png", "犬/3.png"):
        picture(tmp_path / name)
    found = read_examples(tmp_path)
    assert found.kind == "classes"
    assert found.classes == ("Katze", "chien à lunettes", "犬")
    assert found.names == (
        "Katze/1.png",
        "Katze/tief/2.png",
        "chien à lunettes/ä b.png",
        "犬/3.png",
    )
    assert found.targets.tolist() == [0, 0, 1, 2]
    assert found.picture(2).shape == (4, 6, 3)
    assert found.picture(2, "BGR")[0, 0].tolist() == [30, 20, 10]


def test_folders_for_training_and_testing(tmp_path: Path) -> None:
    for name in ("train/a/1.png", "train/b/2.png", "test/b/3.png"):
        picture(tmp_path / name)
    found = read_examples(tmp_path)
    assert found.classes == ("a", "b")
    assert sorted(zip(found.parts, found.targets.tolist(), strict=True)) == [
        ("test", 1), ("train", 0), ("train", 1),
    ]  # fmt: skip


def test_a_class_that_is_only_tested_is_refused(tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "train/dog/2.png", "val/dgo/3.png"):
        picture(tmp_path / name)
    assert refusal(tmp_path) == (
        f'{tmp_path}/val/dgo: there is no class "dgo" in what is trained on. Did you mean "dog"?'
    )


def test_a_list_names_classes_by_number_or_name(tmp_path: Path) -> None:
    picture(tmp_path / "a b.png")
    by_name = read_examples(write(tmp_path / "n.txt", "a b.png dog\na b.png cat\n"))
    assert (by_name.classes, by_name.targets.tolist()) == (("cat", "dog"), [1, 0])
    by_number = read_examples(write(tmp_path / "i.txt", "a b.png 10\na b.png 9\n"))
    assert (by_number.classes, by_number.targets.tolist()) == (("9", "10"), [1, 0])
    assert by_name.picture(0).shape == (4, 6, 3)


@pytest.mark.parametrize(
    ("header", "row", "kind", "classes", "targets"),
    [
        ("image,label", "a.png,3", "classes", ("3",), [0]),
        ("image,species", "a.png,cat", "classes", ("cat",), [0]),
        ("image,age", "a.png,31.5", "numbers", ("age",), [[31.5]]),
        ("image,wet,red", "a.png,1,0", "tags", ("wet", "red"), [[1, 0]]),
        ("image,tags", "a.png,red|wet", "tags", ("red", "wet"), [[1, 1]]),
        ("image,eye_x,eye_y", "a.png,0.5,0.25", "points", ("eye_x", "eye_y"), [[0.5, 0.25]]),
        ("image,w,h", "a.png,2,3", "numbers", ("w", "h"), [[2, 3]]),
    ],
)
def test_a_tables_columns_tell_what_is_learned(
    tmp_path: Path, header: str, row: str, kind: str, classes: object, targets: object
) -> None:
    picture(tmp_path / "a.png")
    found = read_examples(write(tmp_path / "t.csv", f"{header}\n{row}\n"))
    assert (found.kind, found.classes, found.targets.tolist()) == (kind, classes, targets)
    assert found.picture(0).shape == (4, 6, 3)


def test_a_table_says_what_is_split_and_what_stays_together(tmp_path: Path) -> None:
    text = "image,label,split,group\na.png,x,train,p1\nb.png,y,Validation,p2\n"
    found = read_examples(write(tmp_path / "t.csv", text))
    assert (found.parts, found.groups, found.classes) == (
        ("train", "val"),
        ("p1", "p2"),
        ("x", "y"),
    )


def test_a_database_keeps_its_keys_as_names(tmp_path: Path) -> None:
    files = [str(picture(tmp_path / f"{i}.png", (i, 0, 9))) for i in range(3)]
    create_lmdb(tmp_path / "db", PictureSource(files, [4, 7, 4]), names=["a", "b", "c"])
    found = read_examples(tmp_path / "db")
    assert found.names == ("00000000_a", "00000001_b", "00000002_c")
    assert (found.classes, found.targets.tolist()) == (("4", "7"), [0, 1, 0])
    assert found.picture(1)[0, 0].tolist() == [1, 0, 9]
    assert found.picture(1, "GRAY").shape == (4, 6, 1)


def test_pictures_without_targets(tmp_path: Path) -> None:
    one, two = picture(tmp_path / "x/1.png"), picture(tmp_path / "2.png")
    assert read_examples(tmp_path, targets=False).names == ("2.png", "x/1.png")
    assert read_examples([one, two], targets=False).names == (str(one), str(two))
    assert read_examples(tmp_path, targets=False).kind == "none"


def test_some_are_taken(tmp_path: Path) -> None:
    text = "image,label,split,group\n" + "".join(f"{i}.png,c{i},train,g{i}\n" for i in range(4))
    found = read_examples(write(tmp_path / "t.csv", text)).take(np.array([3, 1]))
    assert (found.names, found.groups, found.lines) == (("3.png", "1.png"), ("g3", "g1"), (5, 3))
    assert found.targets.tolist() == [3, 1]


def test_a_broken_picture_is_told_by_the_line_that_names_it(tmp_path: Path) -> None:
    write(tmp_path / "a.png", "no picture")
    found = read_examples(write(tmp_path / "t.txt", "a.png 0\n"))
    with pytest.raises(PictureError) as caught:
        found.picture(0)
    assert str(caught.value) == f"{tmp_path}/t.txt:1:1: {tmp_path}/a.png: this is not a picture"


def test_wrong_data_are_told(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    assert refusal(tmp_path / "flat") == (
        f"{tmp_path}/flat: there is no picture in this folder. Give a folder that holds one for "
        "each class, a list (`picture class` a line), a table (.csv) or an LMDB."
    )
    picture(tmp_path / "flat/1.png")
    assert refusal(tmp_path / "flat") == (
        f"{tmp_path}/flat: there are pictures in this folder, but none says what is in it. "
        "Put them in folders of their own, one for each class."
    )
    assert refusal(tmp_path / "falt") == (
        f'{tmp_path}/falt: no such file or folder. Did you mean "flat"?'
    )
    table = write(tmp_path / "t.csv", "image,age\na.png,old\nb.png,3\nc.png,\n")
    assert refusal(table) == f'{table}:4:1: there is nothing in "age"'
    table = write(tmp_path / "u.csv", "image,age\na.png,1\nb.png,old\n")
    assert refusal(table, kind="numbers") == f'{table}:3:1: "age" is "old", expected a number'
    assert refusal(table, columns=["aeg"]) == (
        f'{table}:1:1: there is no column "aeg". Did you mean "age"?'
    )
    table = write(tmp_path / "v.csv", "image,a_x,a_y\na.png,12,31\n")
    assert refusal(table) == (
        f"{table}: points go from 12 to 31: expected shares of the picture's width and height, "
        "0 to 1"
    )
    table = write(tmp_path / "w.csv", "image,label,split\na.png,1,later\n")
    assert refusal(table) == f'{table}:2:1: "split" is "later", expected train, val or test'
    assert refusal(write(tmp_path / "l.txt", "alone\n")) == (
        f'{tmp_path}/l.txt:1:1: expected a picture and its class ("cat.jpg 3"), found "alone"'
    )


def test_what_a_program_has_are_examples() -> None:
    grey, colour = np.full((3, 4), 7, np.uint8), np.full((2, 2, 3), (1, 2, 3), np.uint8)
    found = examples_of([grey, colour, Image.fromarray(colour)], ["b", "a", "b"])
    assert (found.classes, found.targets.tolist()) == (("a", "b"), [1, 0, 1])
    assert found.picture(0).shape == (3, 4, 3)
    assert found.picture(2, "BGR")[0, 0].tolist() == [3, 2, 1]
    assert found.take([1]).picture(0, "GRAY").shape == (2, 2, 1)
    assert examples_of(["a.png"]).files == ("a.png",)
    assert examples_of([grey] * 2, [[0, 1], [1, 1]]).kind == "tags"


@pytest.mark.parametrize(
    ("pictures", "labels", "told"),
    [
        ([], None, "X: there are no pictures"),
        ("a.png", None, "X: expected a list of pictures"),
        (
            np.ones((2, 3)), None,
            "X: expected names of files or pictures of HxWx3 bytes, found float64 of 3 at 0",
        ),
        (["a.png"], [1, 2], "X: 1 pictures, but labels of 2"),
    ],
)  # fmt: skip
def test_what_is_no_pictures_is_refused(pictures: object, labels: object, told: str) -> None:
    with pytest.raises(DataError) as caught:
        examples_of(pictures, labels)
    assert str(caught.value) == told


def test_threads_read_a_database_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [str(picture(tmp_path / f"{i}.png", (i, 255 - i, 7))) for i in range(50)]
    create_lmdb(tmp_path / "db", PictureSource(files, [0] * 50))
    found = read_examples(tmp_path / "db")
    reading, record = threading.Lock(), LMDBSource.record

    def alone(self: LMDBSource, index: int) -> bytes:
        assert reading.acquire(blocking=False), "two threads read at once"
        time.sleep(0.001)
        reading.release()
        return record(self, index)

    monkeypatch.setattr(LMDBSource, "record", alone)
    seen = Preprocessor.from_text("width: 6 height: 4 colour: RGB")
    for read in read_ahead(found, seen, range(50)):
        assert read.good == read.rows and not read.bad
        for row, values in zip(read.good, read.pictures, strict=True):
            assert values[:, 0, 0].tolist() == [row, 255 - row, 7]
