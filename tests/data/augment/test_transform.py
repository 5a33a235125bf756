"""Augmentations in a data layer: what the net sees, where targets go, and what is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from torrefy.data.augment.pipeline import Augmenter
from torrefy.data.augment.read import augmentation_problems, read_augmenter
from torrefy.data.augment.recipes import RECIPES
from torrefy.data.augment.warp import Warp
from torrefy.data.draws import Draws
from torrefy.data.loader import Loader
from torrefy.data.open import open_loader, open_transform
from torrefy.data.sources.memory import ArraySource
from torrefy.data.transform import Transformer
from torrefy.errors import DataError, RecordError
from torrefy.schema import parse_text, read_text
from torrefy.schema.blobs import write_blob
from torrefy.testing.augmentation import _scene

PICTURE = np.random.default_rng(0).integers(0, 256, (3, 40, 50), np.uint8)
LABEL = np.float32(3)


def layer(transform: str, tops: str = 'top: "data" top: "label"', kind: str = "Data") -> Any:
    text = f'layer {{ name: "data" type: "{kind}" {tops} transform_param {{ {transform} }} }}'
    return parse_text(text, file="net.prototxt").message.layer[0]


def transformer(transform: str, phase: str = "train", **options: str) -> Transformer:
    return Transformer.from_layer(layer(transform, **options), phase)


TURN = 'augmentation { type: "Rotation" rotation_param { min: -30 max: 30 } }'
BLUR = 'augmentation { type: "Blur" }'


@pytest.mark.parametrize("chain", [TURN, f"{TURN} {BLUR}", BLUR, f"{BLUR} {TURN}"])
def test_a_crop_within_the_warp_is_the_crop_after_it(chain: str) -> None:
    fused = transformer(f"{chain} crop_size: 24")
    plain = read_augmenter(layer(chain))
    for position in range(20):
        (found, label) = fused((PICTURE, LABEL), Draws(2, position))
        draws = Draws(2, position)
        whole = plain.sample(PICTURE, draws).picture
        y, x = draws.below(40 - 24 + 1), draws.below(50 - 24 + 1)
        wanted = whole[:, y : y + 24, x : x + 24].astype(np.float32)
        assert found.dtype == np.float32 and label == LABEL
        # OpenCV's places are of 1/32 pixel, which a crop's shift may round otherwise.
        assert np.abs(found - wanted).mean() < 0.5


def test_only_the_pixels_of_the_crop_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = Warp.picture

    def seen(self: Warp, picture: Any, matrix: Any, canvas: Any) -> Any:
        made.append(canvas)
        return real(self, picture, matrix, canvas)

    monkeypatch.setattr(Warp, "picture", seen)
    transformer(f'{TURN} recipe: "deepsea" crop_size: 24')((PICTURE, LABEL), Draws(0, 0))
    assert made == [(24, 24)]


def test_the_mean_image_is_cut_where_the_picture_is(tmp_path: Path) -> None:
    # Of a picture that is its own mean nothing is left, wherever it is cut and whether mirrored.
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(write_blob(PICTURE.astype(np.float32)))
    transform = transformer(
        f'augmentation {{ type: "Grey" probability: 0 }} mean_file: "{path}" crop_size: 24 '
        "mirror: true"
    )
    for position in range(20):
        found = transform((PICTURE, LABEL), Draws(0, position))[0]
        np.testing.assert_array_equal(found, np.zeros((3, 24, 24), np.float32))


def test_a_mean_of_another_size_than_the_augmented_picture_is_told() -> None:
    mean = np.zeros((3, 40, 50), np.float32)
    chain = 'augmentation { type: "Resize" resize_param { height: 30 width: 30 } }'
    transform = Transformer(mean=mean, augmenter=read_augmenter(layer(chain)), train=True)
    with pytest.raises(RecordError) as error:
        transform((PICTURE, LABEL), Draws(0, 0))
    assert str(error.value) == "the picture is 3x30x30, but the mean image 3x40x50"


def test_a_crop_larger_than_the_augmented_picture_is_told() -> None:
    chain = 'augmentation { type: "Resize" resize_param { height: 30 width: 20 } } crop_size: 24'
    with pytest.raises(RecordError) as error:
        transformer(chain)((PICTURE, LABEL), Draws(0, 0))
    assert str(error.value) == "the picture is 20x30, smaller than crop_size 24"


def test_without_augmentation_nothing_has_changed_and_no_opencv_is_imported() -> None:
    import subprocess
    import sys

    code = (
        "import sys, torrefy.data.open\n"
        "from torrefy.data.transform import Transformer\n"
        "from torrefy.schema import parse_text\n"
        'text = \'layer { name: "d" type: "Data" top: "d" transform_param { mirror: true } }\'\n'
        "Transformer.from_layer(parse_text(text).message.layer[0], 'train')\n"
        "assert 'cv2' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_in_phase_test_nothing_is_augmented() -> None:
    found = transformer('recipe: "deepsea"', "test")((PICTURE, LABEL), Draws(0, 0))
    np.testing.assert_array_equal(found[0], PICTURE)


# --- Targets ---

POINTS = 'top: "data" top: "points" top: "boxes" top: "mask"'
TARGETS = """
    target { top: "points" kind: POINTS swap: 0 swap: 1 }
    target { top: "boxes" kind: BOXES }
    target { top: "mask" kind: MASK }
"""


def marked() -> tuple[np.ndarray, ...]:
    """A scene with a bright pixel at each of two points, in a box, its mask beside it."""
    picture = np.zeros((1, 40, 50), np.uint8)
    picture[0, 10, 12], picture[0, 30, 41] = 200, 250
    points = np.array([12, 10, 41, 30], np.float32)
    boxes = np.array([[12, 10, 13, 11], [41, 30, 42, 31]], np.float32)
    return picture, points, boxes, (picture[0] > 0).astype(np.float32)


@pytest.mark.parametrize("phase", ["train", "test"])
def test_targets_move_with_the_crop_and_the_mirroring_of_both_phases(phase: str) -> None:
    transform = transformer(f"{TARGETS} crop_size: 36 mirror: true", phase, tops=POINTS)
    mirrored = 0
    for position in range(30):
        picture, points, boxes, mask = transform(marked(), Draws(0, position))
        assert picture.shape == (1, 36, 36) and mask.shape == (36, 36)
        np.testing.assert_array_equal(picture[0] > 0, mask > 0)
        for value, box in zip((200, 250), boxes, strict=True):
            rows, columns = np.nonzero(picture[0] == value)
            if len(rows):
                (y,), (x,) = rows, columns
                assert box.tolist() == [x, y, x + 1, y + 1]
                # Mirrored, the first point is the one that was the second: left is right.
                assert [x, y] in points.reshape(2, 2).tolist()
                straight = points[(0 if value == 200 else 2) :][:2].tolist() == [x, y]
                mirrored += not straight
            else:
                assert box.tolist() == [-1] * 4
    assert 5 < mirrored < 55


def test_targets_follow_an_augmentation_and_keep_their_shape() -> None:
    chain = 'augmentation { type: "Flip" flip_param { horizontal: 1 } }'
    picture, points, boxes, mask = transformer(f"{chain} {TARGETS}", tops=POINTS)(
        marked(), Draws(0, 0)
    )
    np.testing.assert_array_equal(picture[0], marked()[0][0][:, ::-1])
    assert points.tolist() == [8, 30, 37, 10]  # swapped, too
    assert boxes.tolist() == [[37, 10, 38, 11], [8, 30, 9, 31]]
    np.testing.assert_array_equal(mask, marked()[3][:, ::-1])


def test_fractions_are_of_the_picture_that_is_made() -> None:
    chain = 'augmentation { type: "Resize" resize_param { height: 20 width: 100 } }'
    target = 'target { top: "label" kind: BOXES fraction: true }'
    box = np.array([0.2, 0.25, 0.4, 0.5], np.float32)
    _, found = transformer(f"{chain} {target}")((PICTURE, box), Draws(0, 0))
    assert found == pytest.approx(box)
    _, found = transformer(f"{chain} {target} crop_size: 20")((PICTURE, box), Draws(0, 4))
    assert found.shape == (4,) and (found <= 1).all()


@pytest.mark.parametrize(
    ("kind", "part", "told"),
    [
        ("POINTS", np.zeros(3), '"label" has 3 numbers, which are no points of 2'),
        ("BOXES", np.zeros(6), '"label" has 6 numbers, which are no boxes of 4'),
        ("MASK", np.zeros((4, 4)), 'the mask "label" is 4x4, the picture 40x50'),
        ("POINTS swap: 0 swap: 3", np.zeros(4), '"label" has 2 points, and swap names 3'),
    ],
)
def test_what_is_no_target_of_its_kind_is_told(kind: str, part: Any, told: str) -> None:
    transform = transformer(f'target {{ top: "label" kind: {kind} }}')
    with pytest.raises(RecordError) as error:
        transform((PICTURE, part), Draws(0, 0))
    assert str(error.value) == told


# --- Determinism ---

EVERYTHING = (
    'recipe: "deepsea" crop_size: 24 mirror: true '
    + " ".join(
        f'augmentation {{ type: "{name}" probability: 0.7 }}'
        for name in ("Distort", "Lighting", "Blur", "Noise", "JPEG", "Cutout", "Grey", "Hue")
    )
    + ' target { top: "label" }'
)


def test_a_seed_gives_the_same_whatever_the_number_of_workers() -> None:
    pictures = np.stack([_scene(np.uint8)] * 5)
    points = np.array([[12, 10]] * 5, np.float32)

    def batches(workers: int, seed: int = 1) -> list[dict[str, np.ndarray]]:
        loader = Loader(
            ArraySource(pictures, points),
            batch_size=3,
            tops=["data", "label"],
            transform=transformer(EVERYTHING),
            name="data",
            seed=seed,
            workers=workers,
        )
        made = [{k: v.numpy().copy() for k, v in next(loader).items()} for _ in range(4)]
        loader.close()
        return made

    alone = batches(0)
    for workers in (0, 1, 2):
        for ours, theirs in zip(alone, batches(workers), strict=True):
            for top in ("data", "label"):
                np.testing.assert_array_equal(ours[top], theirs[top])
    assert not np.array_equal(alone[0]["data"], batches(0, seed=2)[0]["data"])
    # Five alike pictures, each drawn for by itself, and the second epoch draws anew.
    seen = np.concatenate([batch["data"] for batch in alone])
    assert len({picture.tobytes() for picture in seen}) == len(seen)


def test_a_worker_begins_after_opencvs_threads_have() -> None:
    import cv2

    # A warp large enough for OpenCV to start threads, which a fork leaves behind.
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        large = np.zeros((2000, 2000, 3), np.uint8)
        cv2.warpAffine(large, np.array([[0.9, 0.1, 3], [-0.1, 0.9, 5]]), (2000, 2000))
        loader = Loader(
            ArraySource(np.stack([_scene(np.uint8)] * 2), np.zeros(2, np.float32)),
            batch_size=2,
            tops=["data", "label"],
            transform=transformer(TURN),
            workers=1,
        )
        assert next(loader)["data"].shape == (2, 3, 60, 80)
        loader.close()
        assert cv2.getNumThreads() == 2  # of this process they are the user's
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_augments(recipe: str) -> None:
    augmenter = read_augmenter(layer(f'recipe: "{recipe}"'))
    found = [augmenter.sample(PICTURE, Draws(0, i)) for i in range(5)]
    assert len({sample.picture.tobytes() for sample in found}) > 1
    assert all(sample.picture.dtype == np.uint8 for sample in found)


def test_a_recipe_comes_before_what_is_given_and_a_warp_of_ones_own_counts() -> None:
    augmenter = read_augmenter(layer('recipe: "deepsea" augmentation { type: "Grey" }'))
    assert [one.type_name for one in augmenter.augmentations] == [
        "Rotation", "Translation", "Rescaling", "Flip", "Shear", "Stretch", "Grey",
    ]  # fmt: skip
    assert augmenter.warp == Warp("BILINEAR", "CONSTANT", (255.0,))
    own = read_augmenter(layer('recipe: "deepsea" warp { interpolation: BICUBIC }'))
    assert own.warp == Warp("BICUBIC", "REFLECT")


# --- Mistakes, with their places ---

WRONG = """layer {
  name: "data" type: "Data" top: "data" top: "label"
  transform_param {
    recipe: "depsea"
    augmentation { type: "Rotatoin" }
    augmentation { probability: 0.5 }
    augmentation { type: "Flip" probability: 1.5 rotation_param { min: 3 } }
    augmentation { type: "Rotation" rotation_param { min: 5 max: 3 } }
    augmentation { type: "Resize" resize_param { height: 0 width: 8 } }
    augmentation { type: "Resize" resize_param { width: 8 } }
    augmentation { type: "Grey" blur_param { min: 1 } }
    augmentation { type: "Translation" }
    target { top: "labl" }
    target { top: "label" swap: 1 }
  }
}
"""
TOLD = [
    ('4:13: layer "data": there is no recipe "depsea". Did you mean "deepsea"?'),
    ('5:26: layer "data": there is no augmentation "Rotatoin". Did you mean "Rotation"?'),
    ('6:5: layer "data": an augmentation has no type. There are Rotation, '),
    ('7:46: layer "data": Flip: probability must be from 0 to 1, found 1.5'),
    ('7:50: layer "data": Flip takes flip_param, found rotation_param'),
    ('8:37: layer "data": Rotation: min is above max: 5 and 3'),
    ('9:58: layer "data": Resize: height must be at least 1 and at most 16384, found 0'),
    ('10:35: layer "data": Resize: height is missing. Give height: …'),
    ('11:33: layer "data": Grey takes no parameters, found blur_param'),
    ('12:5: layer "data": Translation: give one of pixels and fraction'),
    ('13:19: layer "data": the layer has no top "labl" that could move with its picture. '
     'Did you mean "label"?'),
    ('14:33: layer "data": swap of "label" names each point once, two and two'),
]  # fmt: skip


def test_every_mistake_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(WRONG)
    found = [str(p).removeprefix(f"{path}:") for p in augmentation_problems(read_text(path), 0)]
    assert len(found) == len(TOLD)
    for one, wanted in zip(found, TOLD, strict=True):
        assert one == wanted or (wanted.endswith(", ") and one.startswith(wanted))


@pytest.mark.parametrize("kind", ["HDF5Data", "MemoryData", "WindowData"])
def test_a_layer_that_augments_nothing_says_so(kind: str) -> None:
    spec = layer('recipe: "deepsea"', kind=kind)
    with pytest.raises(DataError) as error:
        open_transform(spec, "train")
    assert str(error.value) == (
        f'layer "data": a layer of the type {kind} augments nothing, and it has recipe. Read the '
        "pictures with a Data or an ImageData layer."
    )


def test_a_picture_that_an_augmentation_refuses_is_named(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "grey.png")
    (tmp_path / "list.txt").write_text(f"{tmp_path}/grey.png 0\n")
    spec = parse_text(
        'layer { name: "data" type: "ImageData" top: "data" top: "label" image_data_param { '
        f'source: "{tmp_path}/list.txt" batch_size: 1 is_color: false }} '
        'transform_param { augmentation { type: "Lighting" } } }'
    ).message.layer[0]
    loader = open_loader(spec, "train", workers=0)
    with pytest.raises(RecordError) as error:
        next(loader)
    assert str(error.value) == (
        f'{tmp_path}/list.txt:1:1: layer "data": Lighting takes pictures of 3 channels, found 1'
    )


def test_one_made_in_python_is_the_same() -> None:
    from torrefy.data.augment.affine import Rotation

    text = read_augmenter(layer(TURN))
    python = Augmenter([Rotation(min=-30.0, max=30.0)])
    found, wanted = (one.sample(PICTURE, Draws(0, 0)).picture for one in (text, python))
    np.testing.assert_array_equal(found, wanted)


def test_the_page_on_augmentation_has_every_type_and_recipe() -> None:
    from torrefy.data import torrefy_augmentations

    page = (Path(__file__).parents[3] / "docs/augmentation.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    named = {name.strip(" `") for row in rows for name in row.split("|")[1].split(",")}
    assert named == {cls.type_name for cls in torrefy_augmentations()} | set(RECIPES)
