"""`torrefy data`: databases built, their means, and what is shown of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import Run

from torrefy.data.normalise.statistics import Statistics
from torrefy.data.transform import read_mean

pytest.importorskip("lmdb")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two cats and a dog, in a folder for each class and in a list."""
    for i, name in enumerate(("cat/a.png", "cat/b.png", "dog/c d.png")):
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (10 * i, 20, 30)).save(path)
    (tmp_path / "list.txt").write_text("cat/b.png 1\ndog/c d.png 0\n")
    return tmp_path


def test_a_folder_becomes_a_database(run: Run, pets: Path) -> None:
    result = run("data", "create", "pets", "db")
    assert result.output == "class 0: cat\nclass 1: dog\nwrote db: 3 records\n"
    shown = run("data", "show", "db")
    assert shown.exit_code == 0
    assert shown.output == (
        "record                           shape  type   label\n"
        'db (key "00000000_cat/a.png")    3x4x6  uint8      0\n'
        'db (key "00000001_cat/b.png")    3x4x6  uint8      0\n'
        'db (key "00000002_dog/c d.png")  3x4x6  uint8      1\n'
        "\n"
        "records  3\n"
        "shapes   3x4x6 (3)\n"
        "labels   0 (2), 1 (1)\n"
    )


def test_a_list_becomes_a_database_of_another_size(run: Run, pets: Path) -> None:
    options = ("--root", "pets/", "--resize", "3x2", "--gray", "--json")
    created = json.loads(run("data", "create", "list.txt", "db", *options).output)
    assert created == {"ok": True, "target": "db", "records": 2, "classes": [], "bad": {}}
    shown = json.loads(run("data", "show", "db", "--json", "--first", "1").output)
    assert shown["shapes"] == {"1x2x3": 2}
    assert shown["labels"] == {"0": 1, "1": 1}
    assert shown["first"] == [
        {"key": 'db (key "00000000_cat/b.png")', "shape": "1x2x3", "type": "uint8", "label": "1"}
    ]


def test_means_are_printed_and_written(run: Run, pets: Path) -> None:
    printed = "mean_value: 30\nmean_value: 20\nmean_value: 10\n"
    assert run("data", "mean", "pets").output == printed
    for name in ("m.binaryproto", "m.npy"):
        assert run("data", "mean", "pets", name).output == f"{printed}wrote {name}: 3x4x6\n"
        mean = read_mean(pets / name)
        np.testing.assert_array_equal(mean, np.full((3, 4, 6), [[[30]], [[20]], [[10]]]))


def test_a_sheet_is_a_picture(run: Run, pets: Path) -> None:
    assert run("data", "show", "--sheet", "s.png", "pets").exit_code == 0
    with Image.open(pets / "s.png") as sheet:
        assert sheet.size == (3 * 98, 98 + 14)


def test_a_sheet_has_the_labels_below_and_a_cross_for_what_cant_be_read(
    run: Run, pets: Path
) -> None:
    def below(*arguments: str) -> list[bool]:
        run("data", "show", "--sheet", "s.png", *arguments)
        with Image.open(pets / "s.png") as sheet:
            pixels = np.asarray(sheet)
        return [bool((pixels[98:, 98 * i + 1 : 98 * i + 97] != 255).any()) for i in range(3)]

    (pets / "pets/cat/b.png").write_bytes(b"")
    assert below("pets") == [True, False, True]
    with Image.open(pets / "s.png") as sheet:
        assert sheet.getpixel((98 + 48, 48)) == (200, 40, 40)
    (pets / "pets/dog").rename(pets / os.fsdecode(b"pets/\xff\n" + b"x" * 200))
    assert below("pets") == [True, False, True]


def test_what_is_bad_is_told_and_ends_with_1(run: Run, pets: Path) -> None:
    (pets / "pets/cat/b.png").write_bytes(b"")
    told = "pets/cat/b.png: the file is empty\n"
    shown = run("data", "show", "pets")
    assert shown.exit_code == 1
    assert shown.stderr == told
    assert run("data", "show", "pets", "--sheet", "s.png").output == shown.output
    created = run("data", "create", "pets", "db")
    assert created.exit_code == 1
    assert created.stderr == told
    assert not (pets / "db").exists()
    skipped = run("data", "create", "pets", "db", "--bad", "skip")
    assert skipped.exit_code == 0
    assert skipped.stderr == told
    assert skipped.stdout.endswith("wrote db: 2 records, 1 left out\n")


def test_a_size_that_is_none_is_wrong_usage(run: Run, pets: Path) -> None:
    result = run("data", "create", "pets", "db", "--resize", "256")
    assert result.exit_code == 2
    assert 'expected width x height ("256x256"), found "256"' in result.stderr


def test_what_spoils_a_training_is_told_and_ends_with_1(run: Run, pets: Path) -> None:
    result = run("data", "verify", "pets", "--classes", "2")
    assert result.exit_code == 0
    assert [line.rstrip() for line in result.output.splitlines()] == [
        "looked for                    found",
        "items                     ok  3",
        "can't be read             ok  0",
        "sizes                     ok  3x4x6 (3)",
        "labels                    ok  2 different, 0 to 1",
        "labels that are no class  ok  0",
        "classes without an item   ok  0",
        "balance of the classes    ok  the largest is 2 times the smallest",
        "pictures again            ok  0",
        "pictures in both sources  -   give --against",
        "",
        "looked at 3 items",
    ]
    result = run("data", "verify", "pets", "--classes", "1", "--against", "pets")
    assert result.exit_code == 1
    assert result.output.splitlines()[11:15] == [
        "1 label is no class:",
        "  pets/dog/c d.png: label 1",
        "3 pictures are in both sources:",
        "  pets/cat/a.png is pets/cat/a.png",
    ]
    found = json.loads(run("data", "verify", "pets", "--classes", "3", "--json").output)
    assert found["ok"] is True
    assert found["missing"] == [2]
    assert {check["name"]: check["state"] for check in found["checks"]} == {
        "items": "ok", "can't be read": "ok", "sizes": "ok", "labels": "ok",
        "labels that are no class": "ok", "classes without an item": "note",
        "balance of the classes": "ok", "pictures again": "ok", "pictures in both sources": "-",
    }  # fmt: skip
    assert found["labels"] == {"0": 2, "1": 1}


def test_a_table_is_shown_with_its_label_if_it_has_one(run: Run, pets: Path) -> None:
    (pets / "t.csv").write_text("image,label,age\npets/cat/a.png,3,1 2\n")
    assert json.loads(run("data", "show", "t.csv", "--json").output)["labels"] == {"3": 1}
    (pets / "t.csv").write_text("image,age\npets/cat/a.png,1 2\n")
    assert "labels   \n" in run("data", "show", "t.csv").output


LAYER = """layer { name: "data" type: "ImageData" top: "data" top: "label" %s
  transform_param { crop_size: 4 mirror: true scale: 0.5 recipe: "none of these" }
  image_data_param { source: "pets" batch_size: 2 } }
"""


def test_statistics_of_a_source_are_written_and_told(run: Run, pets: Path) -> None:
    result = run("data", "stats", "pets", "--workers", "0")
    assert result.output == (
        "pictures    3 of 3x4x6\n"
        "mean        30 20 10\n"
        "std         0 0 8.16497\n"
        "wrote stats.safetensors\n"
        'transform_param { statistics: "stats.safetensors" normalise: STANDARDISE }\n'
    )
    found = Statistics.read(pets / "stats.safetensors")
    assert (found.source, found.transform, found.seed) == ("pets", "", 0)
    assert found.components is None


def test_statistics_of_a_layer_are_of_what_it_gives(run: Run, pets: Path) -> None:
    train, test = (LAYER % f"include {{ phase: {p} }}" for p in ("TRAIN", "TEST"))
    (pets / "net.prototxt").write_text(train + test.replace('"pets"', '"nothing"'))
    options = ("--whiten", "zca", "--components", "2", "--pictures", "seen/of", "-o", "s")
    result = run("data", "stats", "net.prototxt", *options, "--workers", "0", "--json")
    told = json.loads(result.output)
    assert told["ok"] is True
    assert (told["pictures"], told["shape"], told["mean"]) == (3, [3, 4, 4], [15, 10, 5])
    assert (told["components"], told["method"]) == (2, "exact")
    assert told["variance"] == pytest.approx(1)
    assert told["notes"] == []
    names = ("mean", "std", "components", "spectrum", "whitened")
    assert told["written"] == ["s", *(f"seen/of/{name}.png" for name in names)]
    sizes = []
    for name in told["written"][1:]:
        with Image.open(pets / name) as picture:
            sizes.append(picture.size)
    tile = 98
    assert sizes == [(tile, tile), (tile, tile), (2 * tile, tile), (1000, 400),
                     (3 * tile, 2 * tile)]  # fmt: skip
    assert Statistics.read(pets / "s").transform == "scale: 0.5"


def test_statistics_that_can_not_be_made_are_refused(run: Run, pets: Path) -> None:
    def told(*arguments: str) -> str:
        result = run("data", "stats", *arguments, "--workers", "0")
        assert result.exit_code == 1
        assert not (pets / "stats.safetensors").exists()
        return result.stderr

    (pets / "two.prototxt").write_text(LAYER % "" + (LAYER % "").replace('"data" ', '"other" ', 1))
    told_of = "two.prototxt: there are 2 data layers in phase train. Say which: data, other.\n"
    assert told("two.prototxt") == told_of
    assert told("two.prototxt", "--layer", "othr") == (
        'two.prototxt: there is no data layer "othr" in phase train. Did you mean "other"?\n'
    )
    (pets / "none.prototxt").write_text('layer { name: "a" type: "Silence" }')
    assert told("none.prototxt") == "none.prototxt: there is no data layer in phase train\n"
    assert run("data", "stats", "pets", "--epsilon", "1").exit_code == 2
    Image.new("RGB", (6, 5)).save(pets / "pets/dog/c d.png")
    assert told("pets") == (
        "pets/dog/c d.png: the picture is 3x5x6, and the first one 3x4x6; statistics take "
        "pictures of one size. Take them from a layer with crop_size, or resize the pictures.\n"
    )
    (pets / "pets/dog/c d.png").write_bytes(b"")
    assert told("pets") == "pets/dog/c d.png: the file is empty\n"
