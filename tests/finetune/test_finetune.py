"""Finetuning from a folder of pictures to a model: what is learned, kept, written and refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import torrefy
from torrefy.data.examples import examples_of
from torrefy.data.preprocess import Preprocessor
from torrefy.errors import TorrefyError
from torrefy.finetune.answering import Answers
from torrefy.finetune.finetune import Told, fine_tune
from torrefy.finetune.options import Options
from torrefy.finetune.phases import Phase
from torrefy.net.stored import read_weights
from torrefy.schema import read_text
from torrefy.train.callbacks import Callback
from torrefy.weights.load import load_net

QUICK = Options(head_epochs=8, epochs=2, workers=0)


def blobs(file: Path) -> dict[str, list[np.ndarray]]:
    return {layer.name: [np.asarray(b) for b in layer.blobs] for layer in read_weights(file).layers}


def refusal(*arguments: object, **options: object) -> str:
    with pytest.raises(TorrefyError) as caught:
        fine_tune(*arguments, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_the_run_is_a_model_that_tells_the_classes_apart(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    done = fine_tune(model, photos, tmp_path / "run", QUICK)
    assert done.answers[0].value == 1.0
    for file in (tmp_path / "run", tmp_path / "run/model.onnx"):
        clf = torrefy.Classifier(file)
        assert clf.labels == ("blau ¼", "grün", "rot")
        answers = list(clf.classify(sorted(photos.glob("*/*.png"))))
        assert all(answer.guesses[0].label == answer.path.parent.name for answer in answers)


def test_the_backbone_is_frozen_in_the_first_phase_and_learns_in_the_second(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    before = blobs(model / "net.caffemodel")
    run = tmp_path / "run"
    done = fine_tune(model, photos, run, QUICK)
    assert [phase.name for phase in done.phases] == ["1-head", "2-half"]
    first, second = (
        blobs(run / "1-head/learned.caffemodel"),
        blobs(run / "2-half/learned.caffemodel"),
    )
    assert all(np.array_equal(first[name][0], before[name][0]) for name in ("conv1", "conv2"))
    assert np.array_equal(second["conv1"][0], before["conv1"][0])
    assert not np.array_equal(second["conv2"][0], before["conv2"][0])
    for name in ("1-head", "2-half"):  # a BatchNorm's statistics stay
        assert all(
            map(np.array_equal, blobs(run / name / "learned.caffemodel")["bn1"], before["bn1"])
        )


def test_features_are_those_of_the_net_and_standardised(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    options = Options(head="Linear normalise: STANDARD", head_epochs=8, unfreeze="none")
    done = fine_tune(model, photos, tmp_path / "run", options)
    mean, variance, factor = blobs(tmp_path / "run/1-head/learned.caffemodel")["head/standard"]
    net = load_net(model / "net.prototxt", model / "net.caffemodel")
    seen = []
    for i in range(len(done.parts.train)):
        picture = done.preprocessor(done.parts.train.picture(i, "RGB"))
        for version in (picture, picture[..., ::-1].copy()):
            value = net.run({"data": torch.from_numpy(version[None])}, ["conv2"])["conv2"]
            seen.append(value.mean((2, 3))[0].detach().numpy())
    assert factor.tolist() == [1.0]
    assert np.allclose(mean, np.mean(seen, 0), atol=1e-5)
    expected = np.var(seen, 0) + 1e-3 * np.var(seen, 0).mean()
    assert np.allclose(variance, expected, rtol=1e-4)


def test_the_same_seed_gives_the_same_weights(model: Path, photos: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        fine_tune(model, photos, tmp_path / name, QUICK)
    one, two = ((tmp_path / name / "net.caffemodel") for name in ("one", "two"))
    assert {k: [b.tobytes() for b in v] for k, v in blobs(one).items()} == {
        k: [b.tobytes() for b in v] for k, v in blobs(two).items()
    }


class Stopping(Callback):
    """Stops at an update, as Ctrl-C does."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def on_update(self, solver: object, loss: object) -> None:
        self.at -= 1
        if self.at == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("phase", "at"), [("1-head", 3), ("2-half", 7)])
def test_a_run_that_was_broken_off_goes_on_and_ends_the_same(
    model: Path, photos: Path, tmp_path: Path, phase: str, at: int
) -> None:
    def callbacks(one: Phase) -> list[Callback]:
        return [Stopping(at)] if one.name == phase else []

    whole = fine_tune(model, photos, tmp_path / "whole", QUICK)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(model, photos, tmp_path / "run", QUICK, told=Told(callbacks=callbacks))
    assert not (tmp_path / "run/card.prototxt").exists()
    assert refusal(model, photos, tmp_path / "run", QUICK) == (
        f"{tmp_path}/run: a run was broken off here. Go on with it by --resume, or choose another "
        "folder."
    )
    told = refusal(model, photos, tmp_path / "run", Options(seed=1), resume=True)
    assert told.startswith(f"{tmp_path}/run: the run that was broken off here had other options")
    done = fine_tune(model, photos, tmp_path / "run", QUICK, resume=True)
    assert done.values == whole.values
    assert blobs(done.folder / "net.caffemodel")["head/score"][0].tobytes() == (
        blobs(whole.folder / "net.caffemodel")["head/score"][0].tobytes()
    )


def test_a_second_phase_that_does_worse_is_not_kept(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    bad = Options(head_epochs=8, epochs=1, lr=50.0, workers=0, unfreeze="all")
    done = fine_tune(model, photos, tmp_path / "run", bad)
    assert done.kept.name == "1-head"
    assert done.notes == (
        "2-all did no better on what is held out than 1-head, which is kept: what is gained must "
        "be more than its standard error",
        "the weights learned from all 30 pictures; what is measured on those held out is of the "
        "weights before, that had not seen them",
        "3 of 3 classes are learned from fewer than 10 pictures: more would help, and what is "
        "measured here is uncertain",
    )


def test_few_pictures_are_all_learned_from_in_the_end(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    done = fine_tune(model, photos, tmp_path / "run", QUICK)
    assert done.refitted
    assert len((tmp_path / "run/all/train.csv").read_text().splitlines()) == 1 + 30
    last = blobs(tmp_path / "run/all" / done.kept.name / "learned.caffemodel")["head/score"][0]
    assert np.array_equal(blobs(done.folder / "net.caffemodel")["head/score"][0], last)
    net = load_net(
        done.folder / "net.prototxt", done.folder / done.kept.name / "learned.caffemodel"
    )
    picture = done.preprocessor(done.parts.val.picture(0, "RGB"))
    seen = net.run({"data": torch.from_numpy(picture[None])}, [done.answer])[done.answer]
    assert np.allclose(done.answers[0].scores[0], seen.detach().numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "column"),
    [(Options(refit="no"), ""), (Options(patience=3), ""), (Options(), "val")],
)
def test_what_is_held_out_stays_so(
    model: Path, photos: Path, tmp_path: Path, options: Options, column: str
) -> None:
    lines = ["image,label,split"] if column else ["image,label"]
    for i, file in enumerate(sorted(photos.glob("*/*.png"))):
        part = f",{column if i % 5 == 0 else 'train'}" if column else ""
        lines.append(f"{file.relative_to(tmp_path)},{file.parent.name}{part}")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    options = replace(options, head_epochs=2, unfreeze="none")
    done = fine_tune(model, tmp_path / "t.csv", tmp_path / "run", options)
    assert not done.refitted
    assert not (tmp_path / "run/all").exists()
    kept = blobs(tmp_path / "run/1-head/learned.caffemodel")["head/score"][0]
    assert np.array_equal(blobs(tmp_path / "run/net.caffemodel")["head/score"][0], kept)


def test_a_phase_is_kept_if_it_gains_more_than_its_standard_error() -> None:
    def answers(right: int, wrong: int) -> Answers:
        told = np.asarray([[0.1, 0.9]] * right + [[0.9, 0.1]] * wrong, np.float32)
        pictures = [np.zeros((4, 4, 3), np.uint8)] * len(told)
        return Answers("val", examples_of(pictures, [1] * (len(told) - 1) + [0]), told)

    assert not answers(12, 8).beat(answers(11, 9))  # 1 of 1 that differ: no more than √1
    assert answers(13, 7).beat(answers(11, 9))
    assert not answers(11, 9).beat(answers(13, 7))


def test_gradual_unfreezing_goes_from_the_end_to_the_beginning(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    options = Options(head_epochs=2, epochs=1, workers=0, unfreeze="all", gradual=2)
    done = fine_tune(model, photos, tmp_path / "run", options)
    assert [(p.name, p.layers) for p in done.phases[1:]] == [
        ("2-all-1of2", ("conv2",)), ("3-all-2of2", ("conv1", "conv2")),
    ]  # fmt: skip
    rates = {
        spec.name: spec.param[0].lr_mult
        for spec in read_text(tmp_path / "run/3-all-2of2/train_val.prototxt").message.layer
        if spec.name in ("conv1", "conv2", "head/score")
    }
    assert rates == pytest.approx({"conv1": 0.3, "conv2": 1.0, "head/score": 10.0})


def test_the_texts_of_a_phase_train_by_themselves(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    options = Options(head_epochs=2, epochs=1, workers=0, unfreeze="all")
    fine_tune(model, photos, tmp_path / "run", options)
    solver = torrefy.Solver(
        tmp_path / "run/2-all/solver.prototxt",
        weights=tmp_path / "run/1-head/learned.caffemodel",
        loading={"workers": 0},
    )
    assert len(solver.step(2)) == 2


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_a_test_layer_sees_what_the_card_says(
    model: Path, photos: Path, tmp_path: Path, colour: str
) -> None:
    from torrefy.data.collect import read_examples
    from torrefy.finetune.pictures import data_layer, load

    seen = Preprocessor.from_text(
        f"width: 12 height: 12 resize_width: 14 resize_height: 14 colour: {colour} mean: 9"
    )
    examples = read_examples(photos)
    spec = data_layer(seen, "list.csv", 4, train=False)
    batch = next(load(spec, examples, "test", seed=0, bad="fail", workers=0))
    expected = [seen(examples.picture(i, colour)) for i in range(4)]
    assert np.array_equal(batch["data"].numpy(), np.stack(expected))
    assert batch["label"].tolist() == [0, 0, 0, 0]


def test_options_reach_the_losses(model: Path, photos: Path, tmp_path: Path) -> None:
    for extra in range(3):
        (photos / "rot" / f"{extra} é.png").unlink()
    options = Options(
        head_epochs=2,
        unfreeze="none",
        balance="weights",
        smoothing=0.2,
        find_lr=True,
        augment="none",
    )
    done = fine_tune(model, photos, tmp_path / "run", options)
    (loss,) = [
        spec
        for spec in read_text(tmp_path / "run/1-head/train_val.prototxt").message.layer
        if spec.type == "SoftmaxWithLoss"
    ]
    counts = np.bincount(done.parts.train.targets)
    assert loss.loss_param.label_smoothing == pytest.approx(0.2)
    assert np.allclose(list(loss.loss_param.class_weight), counts.sum() / 3 / counts)
    rate = read_text(tmp_path / "run/1-head/solver.prototxt", "caffe.SolverParameter")
    assert rate.message.base_lr > 0
    assert (tmp_path / "run/1-head/lr.png").read_bytes()[:4] == b"\x89PNG"


def test_what_was_loaded_is_told(model: Path, photos: Path, tmp_path: Path) -> None:
    done = fine_tune(model, photos, tmp_path / "run", Options(head_epochs=1, unfreeze="none"))
    assert str(done.loaded) == "3 copied; 1 anew (head/score); 1 unused (fc)"


def test_renamed_and_misfit_layers(model: Path, photos: Path, tmp_path: Path) -> None:
    (model / "net.prototxt").write_text(
        (model / "net.prototxt")
        .read_text()
        .replace('"conv', '"c')
        .replace("num_output: 16", "num_output: 20")
    )
    strict = Options(head_epochs=1, unfreeze="none")
    assert "the file has nothing for 2 of the net's layers: c1, c2" in refusal(
        model, photos, tmp_path / "a", strict
    )
    rename = Options(head_epochs=1, unfreeze="none", rename=("conv*=c*",))
    assert "blob 0 is 16x8x3x3 in the file, 20x8x3x3 in the net" in refusal(
        model, photos, tmp_path / "b", rename
    )
    skip = Options(head_epochs=1, unfreeze="none", rename=("conv*=c*",), load="skip")
    done = fine_tune(model, photos, tmp_path / "c", skip)
    fates = {one.layer: (one.fate, one.why) for one in done.loaded.layers}
    assert fates["c1"][0] == "copied"
    assert fates["c2"] == (
        "skipped", "16x8x3x3, 16 in the file, 20x8x3x3, 20 in the net",
    )  # fmt: skip
    idle = Options(rename=("deep*=c*",))
    assert '"deep*=c*" fits no layer of' in refusal(model, photos, tmp_path / "d", idle)


def test_broken_pictures_are_an_error_or_left_out(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "rot/0 é.png").write_bytes(b"no picture")
    told = refusal(model, photos, tmp_path / "run", QUICK)
    assert told == (
        f"{photos}/rot/0 é.png: this is not a picture. Mend or remove it, or leave out such "
        "pictures: --bad-images skip."
    )
    skip = Options(head_epochs=8, epochs=1, workers=0, bad_images="skip")
    done = fine_tune(model, photos, tmp_path / "two", skip)
    assert done.bad == {f"{photos}/rot/0 é.png": "this is not a picture"}


def test_little_data(model: Path, tmp_path: Path) -> None:
    from tests.finetune.conftest import make_pictures

    two = make_pictures(tmp_path / "two", each=2)
    done = fine_tune(model, two, tmp_path / "run", QUICK)
    assert (len(done.parts.train), len(done.parts.val)) == (3, 3)
    one = make_pictures(tmp_path / "one", each=1)
    assert refusal(model, one, tmp_path / "run1", QUICK) == (
        f"{one}: 3 pictures can't be divided into some to learn from and some to hold out. "
        "Two of each class are the least."
    )
    for name in ("rot", "grün"):
        for file in (two / name).iterdir():
            file.unlink()
        (two / name).rmdir()
    assert refusal(model, two, tmp_path / "run2", QUICK) == (
        f'{two}: there is only one class, "blau ¼": nothing tells it from others. '
        "Give pictures of at least two."
    )
    assert not (tmp_path / "run1").exists()
    assert not (tmp_path / "run2").exists()


def test_a_class_that_is_not_held_out_is_told(model: Path, photos: Path, tmp_path: Path) -> None:
    for i in range(1, 10):
        (photos / "rot" / f"{i} é.png").unlink()
    done = fine_tune(model, photos, tmp_path / "run", QUICK)
    assert 'no picture is held out of the class "rot"' in done.notes


def test_wrong_options_are_told(model: Path, photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert refusal(model, photos, run, Options(head="Liner")) == (
        'there is no head "Liner". Did you mean "Linear"?'
    )
    assert refusal(model, photos, run, Options(augment="filp")).startswith(
        'there is no augmentation "filp". Did you mean "Flip" or "flip"?'
    )
    assert refusal(model, photos, run, Options(augment="Mixup")) == (
        "Mixup mixes pictures and their labels, and a head learns class numbers. It goes in a "
        "definition of your own."
    )
    assert refusal(model, photos, run, Options(unfreeze="conv3")) == (
        'the backbone has no layer "conv3" that could learn. Did you mean "conv1" or "conv2"?'
    )
    assert refusal(model, photos, run, Options(blob="conv3")).startswith(
        'the net has no blob "conv3". Did you mean'
    )
    assert not run.exists()
    with pytest.raises(TorrefyError, match=r'balance can.t be "weight". Did you mean "weights"'):
        Options(balance="weight")
    with pytest.raises(TorrefyError, match=r"patience ends a phase by pictures that are held out"):
        Options(refit="yes", patience=3)
    with pytest.raises(TorrefyError, match=r"held_out must be above 0 and below 1, found 1"):
        Options(held_out=1.0)


def test_a_folder_that_holds_something_is_left_alone(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    assert refusal(model, photos, tmp_path / "mine", QUICK) == (
        f"{tmp_path}/mine: this folder holds something else. Choose another folder."
    )
    assert refusal(model, photos, model, QUICK) == (
        f"{model}: here is a run already. Choose another folder."
    )


def test_an_estimator_learns_the_same(model: Path, photos: Path, tmp_path: Path) -> None:
    from sklearn.base import clone
    from sklearn.exceptions import NotFittedError

    files = sorted(photos.glob("*/*.png"))
    names = [file.parent.name for file in files]
    tuner = torrefy.FineTuner(model, unfreeze="none", head_epochs=8)
    with pytest.raises(NotFittedError):
        tuner.predict(files)
    tuner = clone(tuner).fit(files, names)
    assert tuner.predict(files).tolist() == names
    arrays = [np.asarray(Image.open(file)) for file in files]
    assert np.allclose(tuner.predict_proba(arrays), tuner.predict_proba(files), atol=1e-6)
    assert tuner.score(arrays, names) == 1.0
    again = fine_tune(model, photos, tmp_path / "run", Options(unfreeze="none", head_epochs=8))
    weights = blobs(again.folder / "net.caffemodel")["head/score"][0]
    (tmp_path / "kept").mkdir()
    tuner.save(tmp_path / "kept")
    assert np.array_equal(weights, blobs(tmp_path / "kept/net.caffemodel")["head/score"][0])


def test_a_run_is_finetuned_again(model: Path, photos: Path, tmp_path: Path) -> None:
    options = Options(head_epochs=8, unfreeze="none")
    fine_tune(model, photos, tmp_path / "one", options)
    done = fine_tune(tmp_path / "one", photos, tmp_path / "two", options)
    assert done.graft.blob == "head/length"
    assert done.answer == "head2/prob"
    assert done.answers[0].value == 1.0
    assert torrefy.Classifier(tmp_path / "two").labels == ("blau ¼", "grün", "rot")
