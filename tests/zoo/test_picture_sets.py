"""Datasets that become folders of pictures: cut out of one, or listed in a package."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from torrefy.cli import main
from torrefy.data.collect import read_examples
from torrefy.errors import DataError, TorrefyError, ZooError
from torrefy.plugins import added, hookimpl
from torrefy.zoo import find_dataset
from torrefy.zoo.fetch import fetch_dataset

SHEET = np.arange(7 * 9, dtype=np.uint8).reshape(7, 9)
"""Grey, 9 wide."""


def png(array: Any, mode: str | None = None) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(np.asarray(array, np.uint8)).convert(mode).save(file, "PNG")
        return file.getvalue()


GLASS = png([[[10, 20, 30, 255], [10, 20, 30, 0], [100, 0, 0, 51]]], "RGBA")
"""A pixel that hides what is below, one that shows it, and one that hides a fifth."""
FILES = {
    "animals/cats/Lion-2.png": GLASS,
    "animals/lion.png": png(SHEET),
    "animals/7up.png": png(SHEET.T),
    "plants/rose.jpg": png(np.full((2, 2, 3), [1, 2, 3])),
}
CUTS = """name: "cuts"
title: "Cuts"
label: "brick"
label: "sand stone"
split {
  name: "train"
  items: 6
  cut {
    label: "brick"
    picture { url: "pypi:walls==1.0#walls/sheet.png" sha256: "HASH" }
    left: 1
    top: 1
    width: 5
    patch: 2
  }
}
split {
  name: "test"
  items: 1
  cut {
    label: "sand stone"
    picture { url: "pypi:walls==1.0#walls/sheet.png" sha256: "HASH" }
    left: 6
    height: 4
  }
}
"""
LISTED = """name: "things"
title: "Things"
label: "animals"
label: "plants"
split {
  name: "all"
  items: 4
  listed {
    url: "URL"
    file: "things.sha256"
    bytes: 5000
    grouped: true
  }
}
"""


@pytest.fixture
def sets(
    tmp_path: Path, shelf: Any, archives: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A plugin's datasets "cuts" and "things" on the shelf; `sets.change(name, old, new)`."""
    folder = tmp_path / "zoo" / "datasets"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    sheet = png(SHEET)
    shelf.add("walls", "walls-1.0-py3-none-any.whl", archives.wheel({"walls/sheet.png": sheet}))
    members = {f"things/data/{name}": data for name, data in FILES.items()}
    shelf.add("things", "things-1.0-py3-none-any.whl", archives.wheel(members))
    (folder / "cuts.prototxt").write_text(
        CUTS.replace("HASH", hashlib.sha256(sheet).hexdigest())
    )  # fmt: skip
    (folder / "things.prototxt").write_text(LISTED.replace("URL", "pypi:things==1.0#things/data"))
    (folder / "things.sha256").write_text(
        "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in FILES.items())
    )

    class Plugin:
        @hookimpl
        def torrefy_zoo_paths(self) -> list[Path]:
            return [folder.parent]

    def change(file: str, old: str, new: str) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))

    with added(Plugin(), "made"):
        yield SimpleNamespace(folder=folder, change=change)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["data", "fetch", *arguments])


def pixels(path: Path | str) -> Any:
    with Image.open(path) as image:
        return np.asarray(image)


def files_in(folder: str) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())


@pytest.mark.usefixtures("sets")
def test_a_region_is_cut_into_squares_and_what_is_left_over_is_not_taken() -> None:
    train, test = fetch_dataset("cuts", "here")
    assert (train.path, train.records, test.records) == (Path("here/train"), 6, 1)
    assert files_in("here/train") == [
        f"brick/sheet_{top:04}_{left:04}.png" for top in (1, 3, 5) for left in (1, 3)
    ]
    for top in (1, 3, 5):
        for left in (1, 3):
            found = pixels(f"here/train/brick/sheet_{top:04}_{left:04}.png")
            np.testing.assert_array_equal(found, SHEET[top : top + 2, left : left + 2])
    found = pixels("here/test/sand stone/sheet_0000_0006.png")
    np.testing.assert_array_equal(found, SHEET[:4, 6:])


@pytest.mark.usefixtures("sets")
def test_what_is_transparent_is_laid_on_white() -> None:
    fetch_dataset("things")
    found = pixels("data/things/animals/cats/Lion-2.png")
    # The third pixel is a fifth of (100, 0, 0) and four fifths of white.
    assert found.tolist() == [[[10, 20, 30], [255, 255, 255], [224, 204, 204]]]
    np.testing.assert_array_equal(pixels("data/things/animals/lion.png"), SHEET)
    np.testing.assert_array_equal(pixels("data/things/plants/rose.png")[0, 0], [1, 2, 3])


@pytest.mark.usefixtures("sets")
def test_pictures_of_one_thing_are_a_group_of_the_table() -> None:
    fetch_dataset("things")
    with Path("data/things/pictures.csv").open(newline="") as file:
        groups = {row["picture"]: row["group"] for row in csv.DictReader(file)}
    assert groups == {
        "animals/cats/Lion-2.png": "animals/lion",
        "animals/lion.png": "animals/lion",
        "animals/7up.png": "animals/7up",
        "plants/rose.png": "plants/rose",
    }
    examples = read_examples("data/things/pictures.csv")
    assert examples.classes == ("animals", "plants")
    assert len(set(examples.groups)) == 3
    assert read_examples("data/things").targets.tolist() == [0, 0, 0, 1]


@pytest.mark.usefixtures("sets")
def test_a_package_is_read_once_and_what_was_made_stays(shelf: Any) -> None:
    assert run("things").stdout == "wrote data/things: 4 pictures\n"
    assert len(shelf.archives_asked()) == 1
    asked = len(shelf.asked)
    assert run("things").stdout == "there is data/things: 4 pictures\n"
    told = json.loads(run("things", "-o", "other", "--json").stdout)  # from the cache
    assert told["splits"] == [
        {"split": "all", "path": "other", "kind": "folder", "records": 4, "written": True}
    ]
    assert len(shelf.asked) == asked


def test_a_debian_package_is_one_download(
    sets: Any, apt: Any, archives: Any, tmp_path: Path
) -> None:
    members = {f"usr/share/things/{name}": data for name, data in FILES.items()}
    (tmp_path / "things.deb").write_bytes(archives.deb({"usr/share/odd": b"odd", **members}))
    apt(f"cp {tmp_path}/things.deb things-data_1.0_all.deb")
    sets.change("things.prototxt", "pypi:things==1.0#things/data",
                "debian:things-data#usr/share/things")  # fmt: skip
    assert run("things").stdout == "wrote data/things: 4 pictures\n"
    assert (tmp_path / "asked").read_text() == "download -q things-data\n"


def test_a_folder_with_other_pictures_in_the_way_is_told(sets: Any) -> None:
    run("things")
    Path("data/things/plants/rose.png").unlink()
    result = run("things")
    assert (result.exit_code, result.stderr) == (
        1,
        "data/things: this holds 3 pictures, and things has 4. "
        "Remove it, or give another folder.\n",
    )


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (hashlib.sha256(GLASS).hexdigest(), "0" * 64,
         "pypi:things==1.0#things/data/animals/cats/Lion-2.png: wrong sha256: expected 0000"),
        ("animals/lion.png", "animals/tiger.png",
         'things-1.0-py3-none-any.whl holds no "things/data/animals/tiger.png"'),
    ],
)  # fmt: skip
def test_a_picture_that_is_not_as_listed_leaves_nothing(
    sets: Any, old: str, new: str, told: str
) -> None:
    sets.change("things.sha256", old, new)
    with pytest.raises(ZooError) as error:
        fetch_dataset("things")
    first, second = map(str, error.value.problems)
    assert first.startswith("the all pictures of things can't be had. Without a network, let ")
    assert second.startswith(told)
    assert not Path("data").exists()


def test_a_picture_that_is_longer_than_declared_is_refused(sets: Any) -> None:
    sets.change("things.prototxt", "bytes: 5000", "bytes: 20")
    with pytest.raises(ZooError, match="more than the 20 bytes expected; nothing was kept"):
        fetch_dataset("things")
    assert not Path("data").exists()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("left: 6", "left: 9", "columns 9 to 9 and rows 0 to 4 can't be taken of a picture of 9x7"),
        ("height: 4", "height: 8",
         "columns 6 to 9 and rows 0 to 8 can't be taken of a picture of 9x7"),
        ("items: 1", "items: 2", "these make 1 pictures, and 2 are declared"),
    ],
)  # fmt: skip
def test_a_cut_that_the_picture_does_not_give_leaves_no_folder(
    sets: Any, old: str, new: str, told: str
) -> None:
    sets.change("cuts.prototxt", old, new)
    with pytest.raises(DataError) as error:
        fetch_dataset("cuts")
    assert str(error.value).endswith(told)
    assert [p.name for p in Path("data/cuts").iterdir()] == ["train"]


@pytest.mark.usefixtures("sets")
def test_what_an_interrupted_writing_made_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("torrefy.zoo.folders._table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_dataset("things")
    assert list(Path("data").iterdir()) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("cuts.prototxt", 'label: "brick"\n    pic', 'label: "brik"\n    pic',
         '8:3: there is no label "brik". Did you mean "brick"?'),
        ("cuts.prototxt", "sand stone", "../up",
         '20:3: "../up" is no name of a folder: letters, digits and " _.+-"'),
        ("cuts.prototxt", "patch: 2", "patch: 6", "14:12: no square of 6 pixels fits in"),
        ("cuts.prototxt", "patch: 2", "patch: 0", "14:12: no square of 0 pixels fits in"),
        ("cuts.prototxt", 'name: "test"', 'name: "all"',
         '18:9: a split "all" of pictures is the only one'),
        ("cuts.prototxt", "sha256", "sha1", "10:60: sha1 is 40 hexadecimal digits, found "),
        ("cuts.prototxt", "  items: 1", '  listed { url: "x" }\n  items: 1',
         "17:1: a split has one of pictures with labels, cut, and listed"),
        ("things.prototxt", "pypi:things==1.0#things/data", "https://example.org/things",
         '9:10: "https://example.org/things" is no package\'s folder. '
         'Write "debian:package#folder" or "pypi:name==version#folder".'),
        ("things.prototxt", "things.sha256", "../things.sha256",
         '10:11: "../things.sha256" is no file beside this'),
        ("things.prototxt", "things.sha256", "thing.sha256", "10:11: FOLDER/thing.sha256: no such "
         'file. Did you mean "things.sha256"?'),
        ("things.prototxt", "items: 4", "items: 5",
         "10:11: the listing has 4 pictures, and 5 are declared"),
        ("things.prototxt", 'label: "plants"', 'label: "stones"', '10:11: "plants" is no label'),
        ("things.prototxt", 'label: "plants"', 'label: "plants"\nlabel: "stones"',
         '11:11: "stones" has no picture in the listing'),
        ("things.sha256", "  animals/lion", "  animals/../../lion",
         '10:11: FOLDER/things.sha256:2:1: "animals/../../lion.png" is no plain path'),
        ("things.sha256", "  animals/lion", "  /animals/lion",
         '10:11: FOLDER/things.sha256:2:1: "/animals/lion.png" is no plain path'),
        ("things.sha256", "  animals/lion", "  lion", '10:11: FOLDER/things.sha256:2:1: '
         '"lion.png" lies in no folder, which would be its class'),
        ("things.sha256", "lion.png", "lion.txt",
         '10:11: FOLDER/things.sha256:2:1: "animals/lion.txt" is no picture by its name'),
        ("things.sha256", "  animals/lion", " lion", "10:11: FOLDER/things.sha256:2:1: expected a "
         "sha256, two spaces and a path"),
        ("things.sha256", "animals/7up.png", "animals/lion.jpg", "10:11: FOLDER/things.sha256:3:1: "
         '"animals/lion.png" is made by a line above, too'),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_told_with_its_place(
    sets: Any, file: str, old: str, new: str, told: str
) -> None:
    sets.change(file, old, new)
    with pytest.raises(TorrefyError) as error:
        find_dataset(Path(file).stem)
    lines = [str(problem) for problem in error.value.problems]
    begins = f"{sets.folder / file}:".replace(".sha256", ".prototxt")
    assert begins + told.replace("FOLDER", str(sets.folder)) in lines or any(
        line.startswith(begins + told) for line in lines
    ), lines


def test_the_stamps_are_listed_without_cartoons_toys_and_mirrored_ones() -> None:
    listing = find_dataset("stamps").path.with_suffix(".sha256").read_text()
    assert len(listing.splitlines()) == 264
    assert not any(word in listing for word in ("cartoon", "/toys/", "_mirror", "_flip", ".svg"))
    hashes = [line[:64] for line in listing.splitlines()]
    assert len(set(hashes)) == 264


@pytest.mark.network
def test_the_textures_are_halves_of_three_pictures(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fetch_dataset("textures")
    examples = read_examples("data/textures")
    assert examples.classes == ("brick", "grass", "gravel")
    assert np.bincount(examples.targets).tolist() == [64, 64, 64]
    assert (examples.parts.count("train"), examples.parts.count("test")) == (96, 96)
    assert {examples.picture(i, "GRAY").shape for i in range(192)} == {(64, 64, 1)}
    seen = {examples.picture(i, "GRAY").tobytes() for i in range(192)}
    assert len(seen) == 192


@pytest.mark.network
@pytest.mark.slow
def test_the_stamps_are_had_from_debian(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fetch_dataset("stamps")
    examples = read_examples("data/stamps/pictures.csv")
    assert np.bincount(examples.targets).tolist() == [127, 50, 31, 39, 17]
    assert len(set(examples.groups)) == 226
    corners = [examples.picture(i)[0, 0].tolist() for i in range(264)]
    assert corners.count([255, 255, 255]) > 200
