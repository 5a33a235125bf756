"""`torrefy data preview` and `torrefy data augmentations`, and `check` on augmentations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import Run

NET = """layer {{
  name: "data" type: "ImageData" top: "data" top: "label"
  image_data_param {{ source: "list.txt" batch_size: 2 shuffle: true }}
  transform_param {{ {transform} }}
}}
layer {{ name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
  inner_product_param {{ num_output: 2 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip1" bottom: "label" top: "loss" }}
"""
TILE, GAP = 208, 8


@pytest.fixture
def pictures(run: Run) -> None:
    """Two pictures of 26x13 in the working folder: red left, green right."""
    pixels = np.zeros((13, 26, 3), np.uint8)
    pixels[:, :13, 0] = 250
    pixels[:, 13:, 1] = 250
    for i in range(2):
        Image.fromarray(pixels).save(f"{i}.png")
    Path("list.txt").write_text("0.png 0\n1.png 1\n")


def net(transform: str) -> None:
    Path("net.prototxt").write_text(NET.format(transform=transform))


def left_colour(sheet: Image.Image, column: int, top: int) -> tuple[int, ...]:
    """The colour in the left part of a tile."""
    found = sheet.getpixel((GAP + column * (TILE + GAP) + 20, top + 20))
    assert isinstance(found, tuple)
    return found


@pytest.mark.usefixtures("pictures")
def test_the_sheet_has_originals_above_and_versions_below(run: Run) -> None:
    # The mean is not subtracted, the mirroring is seen.
    net('augmentation { type: "Flip" flip_param { horizontal: 1 } } mean_value: 100 scale: 0.1')
    result = run("data", "preview", "net.prototxt", "--count", "2", "-o", "sheet.png")
    assert (result.exit_code, result.stderr) == (0, "")
    with Image.open("sheet.png") as sheet:
        assert result.stdout == f"wrote sheet.png: layer data, {sheet.width}x{sheet.height}\n"
        assert sheet.width == GAP + 2 * (TILE + GAP)
        shown = sheet.convert("RGB")
    row = 104 + 2 * 14 + 2 * GAP
    for column in range(2):
        assert left_colour(shown, column, GAP) == (250, 0, 0)
        assert left_colour(shown, column, GAP + row) == (0, 250, 0)


@pytest.mark.usefixtures("pictures")
def test_a_seed_gives_the_same_sheet_and_another_another(run: Run) -> None:
    net('recipe: "deepsea" crop_size: 12 mirror: true')
    sheets = []
    for seed in ("1", "1", "2"):
        assert run("data", "preview", "net.prototxt", "--seed", seed).exit_code == 0
        sheets.append(Path("preview.png").read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]


@pytest.mark.usefixtures("pictures")
def test_a_layer_without_augmentation_is_shown_cropped(run: Run) -> None:
    net("crop_size: 13")
    result = run("data", "preview", "net.prototxt", "--json", "--pictures", "1", "--count", "1")
    told = json.loads(result.stdout)
    assert told["ok"] and told["layer"] == "data"
    assert told["size"][0] == GAP + TILE + GAP


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize(
    ("transform", "options", "told"),
    [
        ('recipe: "depsea"', (),
         'net.prototxt:4:29: layer "data": there is no recipe "depsea". Did you mean "deepsea"?'),
        ("", ("--layer", "dta"),
         'net.prototxt:1:1: no layer "dta" reads data in phase train. Did you mean "data"?'),
        ("crop_size: 20", (),
         '0.png: layer "data": the picture is 26x13, smaller than crop_size 20'),
        ("warp { fill: [1, 2] } " 'augmentation { type: "Rotation" }', (),
         '0.png: layer "data": the picture has 3 channels, but the warp\'s fill is given 2 times'),
    ],
)  # fmt: skip
def test_what_can_not_be_shown_is_told_and_nothing_is_written(
    run: Run, transform: str, options: tuple[str, ...], told: str
) -> None:
    net(transform)
    result = run("data", "preview", "net.prototxt", *options)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"{told}\n")
    assert not Path("preview.png").exists()


def test_a_net_without_data_is_told(run: Run, lenet: Path) -> None:
    result = run("data", "preview", str(lenet.name))
    assert result.exit_code == 1
    assert result.stderr == "lenet.prototxt:1:1: no layer reads data in phase train\n"


def test_augmentations_are_listed(run: Run) -> None:
    result = run("data", "augmentations")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["type", "what", "it", "does"]
    types = [line.split()[0] for line in lines[1:] if not line.startswith(" ")]
    assert types[:3] == ["Rotation", "Translation", "Rescaling"]
    assert {"BatchSampler", "Distort", "JPEG"} <= set(types)


def test_an_augmentation_has_a_page(run: Run) -> None:
    result = run("data", "augmentations", "Resize")
    assert result.exit_code == 0
    first, *_ = result.stdout.splitlines()
    assert first == "Resize"
    squeezed = " ".join(result.stdout.split())
    assert "height integer pixels, at least 1 and at most 16384; must be given" in squeezed
    assert "fit STRETCH | COVER | CONTAIN STRETCH" in squeezed
    assert 'augmentation { type: "Resize" resize_param { height: 24 width: 32 } }' in squeezed
    pages = json.loads(run("data", "augmentations", "--json", "Rotation").stdout)["augmentations"]
    assert pages[0]["parameters"][1]["default"] == "360"


def test_an_unknown_augmentation_is_told(run: Run) -> None:
    result = run("data", "augmentations", "Rotatoin")
    assert result.exit_code == 1
    assert result.stderr == (
        'error: there is no augmentation "Rotatoin". Did you mean "Rotation"?\n'
    )


def test_check_and_train_tell_mistakes_without_opening_the_data(run: Run) -> None:
    net('augmentation { type: "Rotation" rotation_param { min: 5 max: 3 } }')  # no list.txt
    told = 'net.prototxt:4:53: layer "data": Rotation: min is above max: 5 and 3'
    result = run("check", "net.prototxt")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == told
    Path("solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 1 '
        "snapshot_after_train: false"
    )
    result = run("train", "solver.prototxt")
    assert result.exit_code == 1
    assert told in result.stderr and "list.txt" not in result.stderr
