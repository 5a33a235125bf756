"""Classifying with an exported file, and what is told when that can't be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import torrefy
from torrefy.data.preprocess import Preprocessor
from torrefy.data.recipe import Recipe
from torrefy.errors import PictureError, TorrefyError
from torrefy.export.onnx import export_onnx
from torrefy.runtime.session import OnnxModel

RECIPE = Recipe(
    name="lenet",
    preprocessor=Preprocessor.from_text("width: 28 height: 28 colour: GRAY mean: 128"),
    output="prob",
    labels=tuple(f"digit {i}" for i in range(10)),
)


@pytest.fixture
def model(lenet: Path, tmp_path: Path) -> Path:
    export_onnx(torrefy.load_net(lenet, seed=0), tmp_path / "m.onnx", recipe=RECIPE)
    return tmp_path / "m.onnx"


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = []
    for i in range(5):
        paths.append(tmp_path / f"{i}.png")
        Image.new("L", (30 + i, 40), i * 40).save(paths[-1])
    return paths


def test_answers_are_the_nets_own(model: Path, lenet: Path, pictures: list[Path]) -> None:
    classifier = torrefy.Classifier(model)
    net = torrefy.load_net(lenet, seed=0)
    answers = list(classifier.classify(pictures, top=10, batch=2))
    assert [answer.path for answer in answers] == pictures
    for answer in answers:
        x = classifier.preprocessor.read(answer.path)[None]
        expected = net(data=x)["prob"][0].detach().numpy()
        scores = {guess.index: guess.score for guess in answer.guesses}
        np.testing.assert_allclose([scores[i] for i in range(10)], expected, atol=1e-5)
        assert [g.score for g in answer.guesses] == sorted(scores.values(), reverse=True)
        assert all(g.label == RECIPE.labels[g.index] for g in answer.guesses)


def test_a_broken_picture_is_told_and_the_rest_go_on(model: Path, pictures: list[Path]) -> None:
    pictures[2].write_bytes(b"no picture")
    broken: list[PictureError] = []
    answers = list(torrefy.Classifier(model).classify(pictures, broken=broken.append))
    assert [a.path for a in answers] == [p for i, p in enumerate(pictures) if i != 2]
    assert [e.problems[0].place.file for e in broken if e.problems[0].place] == [str(pictures[2])]


def test_a_file_of_a_fixed_batch_takes_any_number(tmp_path: Path, pictures: list[Path]) -> None:
    text = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 1 dim: 4 dim: 4 } } }
layer { name: "r" type: "Reshape" bottom: "data" top: "r"
  reshape_param { shape { dim: 2 dim: 16 } } }
layer { name: "prob" type: "Softmax" bottom: "r" top: "prob" }"""
    (tmp_path / "n.prototxt").write_text(text)
    recipe = Recipe(preprocessor=Preprocessor.from_text("width: 4 height: 4 colour: GRAY"))
    report = export_onnx(
        torrefy.load_net(tmp_path / "n.prototxt"), tmp_path / "n.onnx", recipe=recipe
    )
    assert report.inputs == {"data": (2, 1, 4, 4)}
    answers = list(torrefy.Classifier(tmp_path / "n.onnx").classify(pictures))
    assert [len(answer.guesses) for answer in answers] == [5] * 5
    assert {guess.label for guess in answers[0].guesses} == set("01234")


def test_labels_must_be_as_many_as_the_output(model: Path, lenet: Path, tmp_path: Path) -> None:
    recipe = Recipe(preprocessor=RECIPE.preprocessor, output="prob", labels=("cat", "dog"))
    export_onnx(torrefy.load_net(lenet, seed=0), tmp_path / "two.onnx", recipe=recipe)
    classifier = torrefy.Classifier(tmp_path / "two.onnx")
    with pytest.raises(TorrefyError, match="2 labels, but the output for 1 pictures is 1x10"):
        classifier.predict(np.zeros((1, 1, 28, 28), np.float32))


def test_slips_with_a_model_are_told(model: Path) -> None:
    x = np.zeros((1, 1, 28, 28), np.float32)
    onnx = OnnxModel(model)
    for call, message in (
        (lambda: onnx.run({"dta": x}),
         f'{model}: the model has no blob "dta". Did you mean "data"?'),
        (lambda: onnx.run({"data": x}, ["x"]), f'{model}: the model has no blob "x". It has prob.'),
        (lambda: OnnxModel(model, "gpu"),
         'there is no device "gpu" for ONNX Runtime. Take device cpu.'),
        (lambda: OnnxModel(model.with_name("no.onnx")),
         f"{model.with_name('no.onnx')}: no such file"),
    ):  # fmt: skip
        with pytest.raises(TorrefyError) as error:
            call()
        assert str(error.value) == message
    with pytest.raises(TorrefyError, match="ONNX Runtime failed: "):
        onnx.run({"data": np.zeros((1, 1, 5, 5), np.float32)})


LARGER = "width: 28 height: 28 resize_width: 33 resize_height: 35 colour: GRAY mean: 128"


@pytest.fixture
def larger(lenet: Path, tmp_path: Path) -> Path:
    """A model whose pictures are resized to more than it takes."""
    recipe = Recipe(preprocessor=Preprocessor.from_text(LARGER), output="prob")
    export_onnx(torrefy.load_net(lenet, seed=0), tmp_path / "larger.onnx", recipe=recipe)
    return tmp_path / "larger.onnx"


@pytest.mark.parametrize(
    ("tta", "count"),
    [("flip", 2), ("oversample", 10), (["Rotation min: -20 max: 20", "Flip"], 8)],
)
@pytest.mark.parametrize("batch", [1, 7, 32])
def test_the_answer_for_versions_is_the_mean_of_their_answers(
    larger: Path, pictures: list[Path], tta: str | list[str], count: int, batch: int
) -> None:
    classifier = torrefy.Classifier(larger, tta=tta)
    assert classifier.versions is not None
    assert len(classifier.versions) == count
    answers = list(classifier.classify(pictures, top=10, batch=batch))
    assert [answer.path for answer in answers] == pictures
    for answer in answers:
        given = classifier.preprocessor.read(answer.path, classifier.versions)
        assert given.shape == (count, 1, 28, 28)
        expected = classifier.predict(given).mean(axis=0)
        scores = {guess.index: guess.score for guess in answer.guesses}
        np.testing.assert_allclose([scores[i] for i in range(10)], expected, atol=1e-6)
        assert sum(scores.values()) == pytest.approx(1, abs=1e-5)


def test_ten_crops_are_refused_where_a_picture_is_taken_whole(model: Path) -> None:
    with pytest.raises(TorrefyError) as error:
        torrefy.Classifier(model, tta="oversample")
    assert str(error.value) == (
        "oversample crops pictures that are larger than the net's input, but those of this model "
        "are resized to 28x28, which it takes whole. flip goes, or augmentations."
    )


@pytest.mark.gpu
def test_a_model_runs_on_the_gpu(model: Path, pictures: list[Path]) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    cpu = list(torrefy.Classifier(model).classify(pictures))
    gpu = list(torrefy.Classifier(model, "cuda").classify(pictures))
    assert [a.guesses[0].label for a in gpu] == [a.guesses[0].label for a in cpu]
