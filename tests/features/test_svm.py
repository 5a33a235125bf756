"""Classifiers of features: chosen, calibrated, kept without pickle, merged with their net."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from tests.finetune.conftest import make_model, make_pictures

import torrefy
from torrefy.cli import main
from torrefy.errors import TorrefyError
from torrefy.features.extract import extract
from torrefy.features.formats import write
from torrefy.features.merged import export_merged
from torrefy.features.svm import KINDS, SVM, SVMOptions, fit
from torrefy.features.table import Features


def blobs(classes: int = 3, each: int = 20, seed: int = 0) -> Features:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(0, 2, (classes, 6))
    x = np.concatenate([random.normal(c, 1.0, (each, 6)) for c in centres]).astype(np.float32)
    y = np.repeat(np.arange(classes), each)
    names = tuple(f"{i}.png" for i in range(len(y)))
    return Features({"fc": x}, names, y, tuple("abcdef"[:classes]), origin={"weights": "w"})


def refusal(features: Features, folder: Path, **options: object) -> str:
    with pytest.raises(TorrefyError) as caught:
        fit(features, folder, SVMOptions(**options))  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 3])
def test_what_is_kept_says_what_scikit_learn_says(tmp_path: Path, kind: str, classes: int) -> None:
    features = blobs(classes)
    options = SVMOptions(classifier=kind, pca=4 if classes == 3 else 0.0, l2=classes == 3)
    done = fit(features, tmp_path / "svm", options)
    assert done.classes == tuple("abc"[:classes])
    svm = SVM(tmp_path / "svm")
    other = blobs(classes, seed=5)
    found = svm.classify(other)
    assert np.array_equal(found.classes, svm.to_sklearn().predict(other.matrix()))
    assert np.allclose(found.scores.sum(1), 1, atol=1e-5)
    assert (found.classes == other.labels).mean() > 0.8
    assert sorted(p.name for p in (tmp_path / "svm").iterdir()) == [
        "classifier.onnx", "classifier.skops", "svm.json",
    ]  # fmt: skip


def test_scores_are_of_classifiers_that_have_not_seen_the_picture(tmp_path: Path) -> None:
    features = blobs(each=30)
    done = fit(features, tmp_path / "svm")
    assert features.labels is not None
    right = (done.scores.argmax(1) == features.labels).mean()
    assert right == pytest.approx(max(mean for _, mean, _ in done.table), abs=0.02)
    seen = (SVM(tmp_path / "svm").classify(features).classes == features.labels).mean()
    assert seen >= right


def test_the_smallest_of_equally_good_c_is_chosen(tmp_path: Path) -> None:
    features = blobs(2)
    apart = features.arrays["fc"] + np.repeat([[0], [50]], 20, 0).astype(np.float32)
    far = replace(features, arrays={"fc": apart})
    done = fit(far, tmp_path / "svm", SVMOptions(c=(10.0, 0.1, 1.0)))
    assert (done.c, [c for c, _, _ in done.table]) == (0.1, [0.1, 1.0, 10.0])


def test_what_has_one_group_stays_in_one_fold(tmp_path: Path) -> None:
    """Pictures of one object are alike: with them in both parts a useless classifier looks good."""
    random = np.random.default_rng(0)
    objects = random.normal(0, 1, (20, 6)).astype(np.float32)
    x = np.repeat(objects, 5, 0) + random.normal(0, 0.01, (100, 6)).astype(np.float32)
    y = np.repeat(np.arange(20) % 2, 5)
    groups = tuple(np.repeat(np.arange(20), 5).astype(str))
    features = Features({"fc": x}, tuple(map(str, range(100))), y, ("a", "b"), groups)
    apart = fit(features, tmp_path / "apart", SVMOptions(classifier="rbf"))
    mixed = fit(features, tmp_path / "mixed", SVMOptions(classifier="rbf", groups=False))
    best = [max(mean for _, mean, _ in one.table) for one in (apart, mixed)]
    assert best[1] > 0.95
    assert best[0] < 0.75


def test_few_pictures_make_fewer_folds(tmp_path: Path) -> None:
    done = fit(blobs(each=2), tmp_path / "two")
    assert (done.folds, done.notes) == (2, ("a class has 2 pictures: there are 2 folds, not 5",))
    lonely = blobs(each=3).take([0, 1, 2, 3, 4, 5, 6])
    done = fit(lonely, tmp_path / "one")
    assert done.notes == ("a class has 1 picture: there are 2 folds, not 5",)


def test_few_groups_make_fewer_folds_and_none_is_told(tmp_path: Path) -> None:
    two = replace(blobs(), groups=("x", "y") * 30)
    done = fit(two, tmp_path / "two")
    assert (done.folds, done.notes) == (2, ("a class has 2 groups: there are 2 folds, not 5",))
    own = replace(blobs(), groups=("x",) * 20 + ("y",) * 20 + ("z",) * 20)
    assert refusal(own, tmp_path / "s") == (
        'class "a" has 1 group, and so have all: nothing is left to fit to when it is looked at. '
        "--no-groups divides groups, too."
    )
    assert refusal(blobs(each=1), tmp_path / "s") == (
        'class "a" has 1 picture, and so have all: nothing is left to fit to when it is looked at. '
        "Take more pictures."
    )
    assert not (tmp_path / "s").exists()


def test_components_are_no_more_than_there_can_be(tmp_path: Path) -> None:
    assert refusal(blobs(), tmp_path / "s", pca=7) == (
        "7 principal components are asked for, but there are at most 6: 6 numbers of each picture, "
        "48 pictures in the smallest part that is fitted to"
    )


def test_a_kernel_far_from_the_origin_is_kept_exactly(tmp_path: Path) -> None:
    """Squared lengths of 60,000 would leave float32 nothing of distances of 10."""
    features = blobs()
    far = replace(features, arrays={"fc": features.arrays["fc"] + 100})
    fit(far, tmp_path / "s", SVMOptions(classifier="rbf", standardise=False, l2=False))
    svm = SVM(tmp_path / "s")
    wanted = svm.to_sklearn().decision_function(far.matrix())
    found = np.log(svm.classify(far).scores)
    ratio = np.ptp(found, axis=1) / np.ptp(wanted, axis=1)  # of a softmax: 1 / temperature
    assert ratio == pytest.approx(np.full(60, ratio[0]), rel=1e-3)


def test_a_class_without_pictures_is_left_out(tmp_path: Path) -> None:
    done = fit(blobs().take(range(40)), tmp_path / "svm")
    assert (done.classes, done.notes) == (
        ("a", "b"), ("1 classes have no picture and are left out, as c",),
    )  # fmt: skip


def test_what_can_not_be_fitted_is_told(tmp_path: Path) -> None:
    features = blobs()
    assert refusal(replace(features, labels=None), tmp_path / "s") == (
        "the features have no labels: nothing says what is in the pictures. Take them of a folder "
        "with a folder for each class, of a list or a table."
    )
    assert refusal(features.take(range(20)), tmp_path / "s") == (
        'there is only one class, "a": nothing tells it from others'
    )
    broken = features.arrays["fc"].copy()
    broken[3, 1] = np.nan
    assert refusal(replace(features, arrays={"fc": broken}), tmp_path / "s") == (
        "the features of 3.png are not finite"
    )
    assert refusal(features, tmp_path) == f"{tmp_path}: this exists; it is not overwritten"
    assert refusal(features, tmp_path / "s", classifier="svc").startswith(
        'there is no classifier "svc"'
    )
    assert not (tmp_path / "s").exists()


def test_features_of_another_kind_are_refused(tmp_path: Path) -> None:
    fit(blobs(), tmp_path / "svm")
    svm = SVM(tmp_path / "svm")

    def told(features: Features) -> str:
        with pytest.raises(TorrefyError) as caught:
            svm.classify(features)
        return str(caught.value).removeprefix(f"{tmp_path}/svm: ")

    features = blobs()
    assert told(replace(features, arrays={"fc": np.ones((60, 7), np.float32)})) == (
        "the classifier takes 6 numbers of each picture, the features have 7"
    )
    assert told(replace(features, origin={"weights": "x"})) == (
        "the features were made by other weights than those it was fitted to"
    )
    other = {"a": features.arrays["fc"], "b": features.arrays["fc"]}
    assert told(replace(features, arrays=other)) == 'there are no features of the blob "fc"'


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    fit(blobs(), tmp_path / "svm")
    (tmp_path / "svm/classifier.skops").write_bytes(b"PK broken")
    with pytest.raises(TorrefyError, match=r"classifier\.skops: this can't be read"):
        SVM(tmp_path / "svm").to_sklearn()
    (tmp_path / "svm/classifier.onnx").write_bytes(b"none")
    with pytest.raises(TorrefyError, match="ONNX Runtime can't take this file"):
        SVM(tmp_path / "svm")
    (tmp_path / "svm/svm.json").write_text("[1]")
    with pytest.raises(TorrefyError, match=r"svm\.json: this is no record of a classifier"):
        SVM(tmp_path / "svm")


def test_what_skops_does_not_trust_is_not_loaded(tmp_path: Path) -> None:
    import skops.io

    fit(blobs(), tmp_path / "svm")
    skops.io.dump({"x": np.random.default_rng}, tmp_path / "svm/classifier.skops")
    with pytest.raises(TorrefyError, match=r"it holds .*, which is not trusted"):
        SVM(tmp_path / "svm").to_sklearn()


@pytest.fixture(scope="module", params=["RGB", "BGR"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("svm")
    make_model(folder / "model", request.param)
    make_pictures(folder / "photos", each=12)
    features = extract(folder / "model", folder / "photos")
    features.origin["model"] = str(folder / "model")
    write(folder / "f.npz", features)
    fit(features, folder / "svm")
    return folder


def pixels(file: Path) -> NDArray[np.float32]:
    """As the docs show it."""
    picture = Image.open(file).convert("RGB").resize((14, 14), Image.Resampling.BILINEAR)
    return np.asarray(picture.crop((1, 1, 13, 13)), np.float32).transpose(2, 0, 1)


def test_one_file_says_what_net_and_classifier_say(world: Path, tmp_path: Path) -> None:
    done = export_merged(world / "svm", tmp_path / "m.onnx")
    assert done.input == ("batch", 3, 12, 12)
    files = sorted((world / "photos").glob("*/*.png"))
    wanted = SVM(world / "svm").classify(extract(world / "model", files))
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    scores, index = session.run(
        ["scores", "class"], {"picture": np.stack([pixels(file) for file in files])}
    )
    assert np.array_equal(index, wanted.classes)
    assert np.allclose(scores, wanted.scores, atol=1e-5)
    clf = torrefy.Classifier(tmp_path / "m.onnx")
    answers = list(clf.classify(files))
    assert [a.guesses[0].index for a in answers] == wanted.classes.tolist()
    assert clf.labels == ("blau ¼", "grün", "rot")


def test_one_file_takes_whole_pictures_where_it_is_asked_to(world: Path, tmp_path: Path) -> None:
    done = export_merged(world / "svm", tmp_path / "m.onnx", whole=True)
    assert (done.given, done.input) == ("pictures", ("batch", "height", "width", 3))
    files = sorted((world / "photos").glob("*/*.png"))
    wanted = SVM(world / "svm").classify(extract(world / "model", files))
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    for file, scores in zip(files, wanted.scores, strict=True):
        picture = np.asarray(Image.open(file).convert("RGB"))
        (found,) = session.run(["scores"], {"pictures": picture[None]})
        assert np.allclose(found[0], scores, atol=1e-5)
    answers = list(torrefy.Classifier(tmp_path / "m.onnx").classify(files))
    assert [a.guesses[0].index for a in answers] == wanted.classes.tolist()


def test_features_of_versions_make_no_single_file(world: Path, tmp_path: Path) -> None:
    features = extract(world / "model", world / "photos", tta="flip")
    features.origin["model"] = str(world / "model")
    fit(features, tmp_path / "svm")
    with pytest.raises(TorrefyError, match=r"means over versions of each picture \(flip\)"):
        export_merged(tmp_path / "svm", tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_the_commands(world: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> dict[str, object]:
        done = CliRunner().invoke(main, ["svm", *map(str, arguments), "--json"])
        assert done.exit_code == 0, done.output
        return dict(json.loads(done.stdout))

    told = run("fit", world / "f.npz", "-o", tmp_path / "s", "--classifier", "logistic")
    assert told["classes"] == ["blau ¼", "grün", "rot"]
    picture = world / "photos/rot/0 é.png"
    answers: object = run("predict", tmp_path / "s", picture)["answers"]
    assert answers[0]["guesses"][0]["label"] == "rot"  # type: ignore[index]
    measured: object = run("score", tmp_path / "s", world / "f.npz")["metrics"]
    assert measured["accuracy"] == 1.0  # type: ignore[index]
    assert run("export", tmp_path / "s", "-o", tmp_path / "m.onnx")["classes"] == told["classes"]
    table = CliRunner().invoke(main, ["svm", "predict", str(tmp_path / "s"), str(picture), "--csv"])
    assert table.stdout.splitlines()[0] == "picture,class,blau ¼,grün,rot"
    failed = CliRunner().invoke(main, ["svm", "predict", str(tmp_path), str(picture)])
    assert failed.exit_code == 1
    assert failed.stderr.strip() == (
        f"{tmp_path}: there is no svm.json in this folder. `torrefy svm fit` makes such folders."
    )


def test_an_extractor_stands_in_a_pipeline(world: Path) -> None:
    from sklearn.base import clone
    from sklearn.exceptions import NotFittedError
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    files = np.array(sorted(map(str, (world / "photos").glob("*/*.png"))))
    names = np.array([Path(file).parent.name for file in files])
    extractor = torrefy.FeatureExtractor(world / "model")
    with pytest.raises(NotFittedError):
        extractor.transform(files)
    made = clone(extractor).fit_transform(files)
    assert np.allclose(made, extract(world / "model", list(files)).matrix(), atol=1e-6)
    assert extractor.fit(files).get_feature_names_out()[:2].tolist() == ["conv2_0", "conv2_1"]
    arrays = [np.asarray(Image.open(file)) for file in files[:3]]
    assert np.allclose(extractor.transform(arrays), made[:3], atol=1e-6)
    pipeline = make_pipeline(extractor, LinearSVC())
    assert cross_val_score(pipeline, files, names, cv=3).mean() > 0.9
    search = GridSearchCV(pipeline, {"featureextractor__pool": ["avg", "max"]}, cv=2, n_jobs=2)
    assert search.fit(files, names).best_score_ > 0.9


@pytest.mark.parametrize("name", ["FeatureExtractor", "FineTuner"])
def test_estimators_keep_scikit_learns_contract(name: str, tmp_path: Path) -> None:
    """The checks that need no table of numbers: parameters, clones, and what isn't fitted."""
    from sklearn.utils import estimator_checks as checks

    made = getattr(torrefy, name)(make_model(tmp_path / "model"))
    for check in (
        checks.check_no_attributes_set_in_init,
        checks.check_parameters_default_constructible,
        checks.check_get_params_invariance,
        checks.check_set_params,
        checks.check_estimator_cloneable,
        checks.check_estimator_repr,
        checks.check_valid_tag_types,
        checks.check_mixin_order,
    ):
        check(name, made)
