"""Files that take whole pictures: what is done to them inside is what Pillow does, to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.cli.conftest import Run, run
from tests.conftest import LENET

import torrefy
from torrefy.data.pictures import read_picture
from torrefy.data.preprocess import Preprocessor
from torrefy.data.recipe import Recipe
from torrefy.errors import ExportError, TorrefyError
from torrefy.export import resampling
from torrefy.export import whole as wholes
from torrefy.export.onnx import export_onnx
from torrefy.export.opset import newest
from torrefy.graph import State
from torrefy.net.net import Net, compile_net
from torrefy.runtime.classifier import Classifier
from torrefy.runtime.session import OnnxModel
from torrefy.schema import parse_text

__all__ = ["run"]

SMALL = """
name: "small"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 9 dim: 7 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 4 weight_filler { type: "gaussian" std: 0.05 } } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
COVERING = "width: 7 height: 9 resize: SHORTER_SIDE resize_width: 10 resize_height: 12 "
SIZES = ((1, 1), (2, 300), (300, 2), (12, 10), (24, 20), (31, 64), (64, 31), (5, 4), (331, 500))
LABELS = ("oak", "ash", "elm", "yew")


def small() -> Net:
    return compile_net(parse_text(SMALL), State("test"), seed=1)


def recipe_of(preprocessing: str, labels: tuple[str, ...] = LABELS) -> Recipe:
    return Recipe("small", Preprocessor.from_text(preprocessing), "prob", labels)


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    made = random.integers(0, 2, (height, width, 3), np.uint8) * 255
    flat = random.random((height, width)) < 0.5
    made[flat] = random.integers(0, 256, 3)
    return made


def seen_inside(preprocessor: Preprocessor, folder: Path) -> OnnxModel:
    """A file that gives what a net would see."""
    dims = " ".join(f"dim: {n}" for n in (1, *preprocessor.shape))
    data = f'name: "data" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }}'
    same = 'name: "same" type: "Power" bottom: "data" top: "same"'
    text = f"layer {{ {data} }} layer {{ {same} }}"
    net = compile_net(parse_text(text), State("test"))
    export_onnx(net, folder / "seen.onnx", recipe=Recipe("", preprocessor), whole=True)
    return OnnxModel(folder / "seen.onnx")


@pytest.mark.parametrize(
    ("form", "kind", "colour"),
    [
        (COVERING, "BILINEAR", "BGR"),
        (COVERING, "BICUBIC", "RGB"),
        (COVERING, "NEAREST", "RGB"),
        ("width: 7 height: 9 ", "BILINEAR", "GRAY"),
        ("width: 7 height: 9 ", "BICUBIC", "BGR"),
        ("width: 7 height: 9 ", "NEAREST", "BGR"),
        (COVERING.replace("SHORTER_SIDE", "STRETCH"), "BICUBIC", "GRAY"),
    ],
)
def test_every_way_to_resize_is_pillows_to_the_bit(
    form: str, kind: str, colour: str, tmp_path: Path
) -> None:
    mean = "mean: 118.5 " if colour == "GRAY" else "mean: 104 mean: 117 mean: 123.5 "
    text = f"{form} interpolation: {kind} colour: {colour} scale: 0.017 {mean}"
    preprocessor = Preprocessor.from_text(text)
    model = seen_inside(preprocessor, tmp_path)
    for size in SIZES:
        whole = picture(*size)
        Image.fromarray(whole).save(tmp_path / "x.png")
        wanted = preprocessor(read_picture(tmp_path / "x.png", colour))
        found = model.run({"pictures": whole[None]})["same"][0]
        np.testing.assert_array_equal(found, wanted, err_msg=f"{size}")


def test_a_batch_of_pictures_of_one_size_is_each_of_them_alone(tmp_path: Path) -> None:
    report = export_onnx(small(), tmp_path / "m.onnx", recipe=recipe_of(COVERING), whole=True)
    assert report.inputs == {"pictures": ("batch", "height", "width", 3)}
    assert report.levels == 0
    model = OnnxModel(tmp_path / "m.onnx")
    pictures = np.stack([picture(40, 30, seed) for seed in range(3)])
    together = model.run({"pictures": pictures})["prob"]
    alone = [model.run({"pictures": one[None]})["prob"][0] for one in pictures]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_large_picture_shrunk_much_is_pillows_to_the_bit(tmp_path: Path) -> None:
    preprocessor = Preprocessor.from_text("width: 5 height: 5 interpolation: BICUBIC colour: RGB")
    model = seen_inside(preprocessor, tmp_path)
    whole = picture(1500, 900)
    found = model.run({"pictures": whole[None]})["same"][0]
    np.testing.assert_array_equal(found, preprocessor(whole))


def test_a_file_classifies_the_same_with_its_preprocessing_inside_or_outside(
    tmp_path: Path,
) -> None:
    net = small()
    for colour in ("RGB", "BGR"):
        recipe = recipe_of(COVERING + f"colour: {colour} mean: 100 scale: 0.02")
        export_onnx(net, tmp_path / "outside.onnx", recipe=recipe)
        export_onnx(net, tmp_path / "inside.onnx", recipe=recipe, whole=True, classes=True)
        pictures = [picture(*size) for size in SIZES]
        outside, inside = (
            list(Classifier(tmp_path / f"{name}.onnx").predict(pictures))
            for name in ("outside", "inside")
        )
        np.testing.assert_allclose(inside, outside, atol=1e-6)
        model = OnnxModel(tmp_path / "inside.onnx")
        for one, scores in zip(pictures, outside, strict=True):
            found = model.run({"pictures": one[None]})
            np.testing.assert_allclose(found["prob"][0], scores, atol=1e-6)
            assert found["class"].tolist() == [scores.argmax()]


def test_a_grey_net_takes_pictures_in_colour(tmp_path: Path) -> None:
    net = compile_net(parse_text(LENET), State("test"), seed=0)
    recipe = Recipe("lenet", Preprocessor.from_text("width: 28 height: 28 colour: GRAY"), "prob")
    export_onnx(net, tmp_path / "outside.onnx", recipe=recipe)
    export_onnx(net, tmp_path / "inside.onnx", recipe=recipe, whole=True)
    Image.fromarray(picture(50, 41)).save(tmp_path / "x.jpg")  # a JPEG has its own luminance
    outside, inside = (
        next(Classifier(tmp_path / f"{name}.onnx").predict([tmp_path / "x.jpg"]))
        for name in ("outside", "inside")
    )
    np.testing.assert_allclose(inside, outside, atol=1e-6)


def test_versions_of_a_picture_are_refused_where_the_file_crops(tmp_path: Path) -> None:
    export_onnx(small(), tmp_path / "m.onnx", recipe=recipe_of(COVERING), whole=True)
    with pytest.raises(TorrefyError) as error:
        Classifier(tmp_path / "m.onnx", tta="flip")
    assert str(error.value) == (
        "flip makes versions of a picture, but this file does the preprocessing itself, for one. "
        "Export the model without --with-preprocessing."
    )


def test_resizing_that_is_not_pillows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.onnx").write_bytes(b"what stood here before")
    monkeypatch.setitem(wholes.SUPPORT, "BILINEAR", 0.9)
    with pytest.raises(ExportError) as error:
        export_onnx(small(), tmp_path / "m.onnx", recipe=recipe_of(COVERING), whole=True)
    assert " levels of 0..255 away from Pillow's; allowed is 0.01" in str(error.value)
    assert (tmp_path / "m.onnx").read_bytes() == b"what stood here before"


def test_the_order_of_both_passes_is_that_of_the_installed_pillow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resampling.PIL, "__version__", "12.3.0")
    assert "If" not in resampling.averaged("BILINEAR")
    monkeypatch.setattr(resampling.PIL, "__version__", "13.0.0")
    assert "If" in resampling.averaged("BILINEAR")


def test_what_is_missing_for_whole_pictures_is_told(tmp_path: Path) -> None:
    for recipe, message in (
        (
            Recipe("small"),
            "nothing says what is done to a picture, so the file can't do it. Give "
            "--preprocessing FILE.",
        ),
        (
            recipe_of("width: 8 height: 9"),
            'the preprocessing makes 3x9x8, but the net\'s "data" is 3x9x7',
        ),
        (
            recipe_of('blob: "dota" width: 7 height: 9'),
            'the preprocessing makes 3x9x7, but the net\'s "dota" is no input',
        ),
    ):
        with pytest.raises(ExportError) as error:
            export_onnx(small(), tmp_path / "m.onnx", recipe=recipe, whole=True)
        assert str(error.value) == message
    assert not list(tmp_path.iterdir())


def test_the_class_needs_a_label_for_each_score(tmp_path: Path) -> None:
    for labels, message in (
        ((), "no classes are known. Give --labels FILE, a line for each."),
        (LABELS[:3], '3 labels for the output "prob", which has 4'),
    ):
        with pytest.raises(ExportError) as error:
            export_onnx(
                small(), tmp_path / "m.onnx", recipe=recipe_of(COVERING, labels), classes=True
            )
        assert str(error.value) == message
    assert not list(tmp_path.iterdir())


def test_operator_sets_go_from_19_to_the_newest_that_is_installed(tmp_path: Path) -> None:
    for opset in (19, newest()):
        export_onnx(
            small(), tmp_path / "m.onnx", recipe=recipe_of(COVERING), whole=True, opset=opset
        )
        assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == opset
    for opset, message in (
        (
            18,
            "opset 18: below 19 ONNX Runtime computes average pooling with a wrong divisor where "
            f"a window hangs over the edge. Take 19 to {newest()}.",
        ),
        (
            99,
            f"opset 99: the newest that the installed onnx and onnxruntime both know is {newest()}",
        ),
    ):
        with pytest.raises(ExportError) as error:
            export_onnx(small(), tmp_path / "m.onnx", opset=opset)
        assert str(error.value) == message


def test_a_command_writes_whole_pictures_classes_and_weights_apart(
    tmp_path: Path, run: Run
) -> None:
    (tmp_path / "net.prototxt").write_text(SMALL)
    (tmp_path / "seen.prototxt").write_text(COVERING)
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    told = run(
        "export", "net.prototxt", "--no-weights", "-o", "m.onnx", "--preprocessing",
        "seen.prototxt", "--labels", "labels.txt", "--with-preprocessing", "--with-labels",
        "--external-data", "--opset", "21", "--json",
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    report = json.loads(told.stdout)
    assert (report["opset"], report["levels"]) == (21, 0)
    assert report["inputs"] == {"pictures": ["batch", "height", "width", 3]}
    assert report["outputs"] == {"prob": ["batch", 4], "class": ["batch"]}
    assert (tmp_path / "m.onnx.data").stat().st_size >= 4 * 7 * 9 * 3 * 4
    metadata = OnnxModel(tmp_path / "m.onnx").session.get_modelmeta().custom_metadata_map
    assert metadata["torrefy.takes"] == "pictures of any size, NxHxWx3 bytes in RGB"
    assert metadata["torrefy.labels"] == '["oak", "ash", "elm", "yew"]'
    assert metadata["torrefy.version"] == torrefy.__version__


def test_statistics_and_preprocessing_are_not_both_built_in(run: Run) -> None:
    told = run("export", "x", "-o", "m.onnx", "--with-preprocessing", "--with-statistics", "y")
    assert told.exit_code == 2
    assert "give --with-preprocessing or --with-statistics, not both" in told.stderr
