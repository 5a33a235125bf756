"""Metrics against numbers counted by hand, and against scikit-learn's and scipy's."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import log_loss, top_k_accuracy_score

from torrefy.errors import DataError
from torrefy.finetune.metrics import Judged, measure, wilson


@pytest.fixture(autouse=True)
def _no_warning() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def judged(
    kind: str, truth: Any, scores: Any, classes: Sequence[str] = ("cat", "dog", "owl")
) -> Judged:
    truth, scores = np.asarray(truth), np.asarray(scores, np.float32)
    names = tuple(f"{i}.jpg" for i in range(len(truth)))
    return Judged("val", kind, names, tuple(classes), truth, scores)


def drawn(count: int, classes: int, seed: int = 0) -> Judged:
    draws = np.random.default_rng(seed)
    truth = draws.integers(0, classes, count)
    scores = np.exp(draws.normal(size=(count, classes)) * 2)
    scores /= scores.sum(1, keepdims=True)
    return judged("classes", truth, scores, [f"c{i}" for i in range(classes)])


FIVE = judged(
    "classes",
    [0, 0, 0, 1, 1],
    [[0.9, 0.1, 0], [0.8, 0.1, 0.1], [0.3, 0.7, 0], [0.2, 0.8, 0], [0.6, 0.4, 0]],
)
"""Two of three cats and one of two dogs are right; there is no owl."""


def test_the_numbers_of_classes_are_those_counted_by_hand() -> None:
    found = measure(FIVE)
    assert found.values == pytest.approx(
        {
            "accuracy": 3 / 5,
            "majority": 3 / 5,
            "macro_precision": (2 / 3 + 1 / 2) / 2,
            "macro_recall": (2 / 3 + 1 / 2) / 2,
            "macro_f1": (2 / 3 + 1 / 2) / 2,
            "weighted_precision": (3 * 2 / 3 + 2 / 2) / 5,
            "weighted_recall": 3 / 5,
            "weighted_f1": (3 * 2 / 3 + 2 / 2) / 5,
            "log_loss": -math.log(0.9 * 0.8 * 0.3 * 0.8 * 0.4) / 5,
            # Bins of 1/15: 0.8 twice, both right; 0.9 right; 0.7 wrong; 0.6 wrong.
            "ece": (2 * 0.2 + 0.1 + 0.7 + 0.6) / 5,
        },
        rel=1e-6,
    )
    cat, dog, owl = (row.values for row in found.rows)
    assert (cat["support"], cat["guessed"], dog["support"], dog["guessed"]) == (3, 3, 2, 2)
    assert dog["precision"] == dog["recall"] == dog["f1"] == 0.5
    assert owl["support"] == owl["guessed"] == 0
    assert math.isnan(owl["recall"])
    assert found.confusion is not None
    assert found.confusion.matrix().tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert found.confusion.mistakes() == [(0, 1, 1), (1, 0, 1)]


def test_a_class_without_pictures_is_told_and_is_in_no_average() -> None:
    assert measure(FIVE).notes == (
        'the class "owl" has no picture here: not measured, and in no average',
    )
    told = measure(drawn(3, 40)).notes[0]
    assert told.startswith('the classes "c0", "c1", "c2"')
    assert told.endswith(" more have no picture here: not measured, and in no average")


@pytest.mark.parametrize(("right", "count"), [(0, 7), (3, 7), (7, 7), (941, 1000)])
def test_the_interval_is_wilsons(right: int, count: int) -> None:
    theirs = binomtest(right, count).proportion_ci(method="wilson")
    assert wilson(right, count) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_log_loss_and_top_5_are_scikit_learns() -> None:
    many = drawn(500, 23)
    found = measure(many).values
    labels = range(23)
    probabilities = many.scores.astype(np.float64)
    probabilities /= probabilities.sum(1, keepdims=True)
    expected = log_loss(many.truth, probabilities, labels=labels)
    assert found["log_loss"] == pytest.approx(expected, rel=1e-5)
    assert found["top_5"] == top_k_accuracy_score(many.truth, many.scores, k=5, labels=labels)
    assert "top_5" not in measure(drawn(50, 10)).values


def test_of_equal_scores_the_first_class_is_guessed_and_ranks_first() -> None:
    found = measure(judged("classes", [0, 11], np.ones((2, 12)) / 12, list("abcdefghijkl")))
    assert found.values["accuracy"] == found.values["top_5"] == 0.5


def test_scores_that_are_no_probabilities_have_no_log_loss() -> None:
    found = measure(judged("classes", [0, 1], [[3, -1, 0], [2, 1, 0]]))
    assert found.values["accuracy"] == 0.5
    assert not {"log_loss", "ece"} & set(found.values)
    assert not found.calibration
    assert "the scores are no probabilities: there is no log loss and no calibration" in found.notes


def test_5000_classes_make_no_large_matrix() -> None:
    found = measure(drawn(200, 5000))
    told = json.dumps(found.to_json(), allow_nan=False)
    assert "confusion" not in json.loads(told)
    assert len(told) < 1_000_000
    assert found.confusion is not None
    assert len(found.confusion.pairs) <= 200


def test_json_has_the_matrix_of_few_classes_and_null_for_what_is_not_known() -> None:
    told = json.loads(json.dumps(measure(FIVE).to_json(), allow_nan=False))
    assert told["confusion"] == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert told["rows"][2] == {
        "name": "owl", "support": 0, "guessed": 0, "precision": None, "recall": None, "f1": None,
    }  # fmt: skip
    assert told["accuracy"] == 0.6
    assert told["accuracy_95"] == pytest.approx([0.2307, 0.8824], abs=1e-4)


def test_the_numbers_of_tags_are_those_counted_by_hand() -> None:
    truth = [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]]
    scores = [[0.9, 0.2, 0.1], [0.4, 0.8, 0.6], [0.6, 0.1, 0], [0.1, 0.9, 0.2]]
    found = measure(judged("tags", truth, scores))
    cat, dog, owl = (row.values for row in found.rows)
    # Cats by score: right (1/1), wrong, right (2/3); guessed are the first two.
    assert cat == pytest.approx(
        {"support": 2, "guessed": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5,
         "average_precision": (1 + 2 / 3) / 2}
    )  # fmt: skip
    assert dog["f1"] == dog["average_precision"] == 1
    assert owl["guessed"] == 1
    assert math.isnan(owl["average_precision"])
    assert found.values == pytest.approx(
        {"map": (5 / 6 + 1) / 2, "macro_precision": 0.75, "macro_recall": 0.75, "macro_f1": 0.75,
         "micro_f1": 2 * 3 / (4 + 5), "all_right": 0.5}
    )  # fmt: skip
    assert found.notes == ('the tag "owl" has no picture here: not measured, and in no average',)


def test_the_numbers_of_columns_are_those_counted_by_hand() -> None:
    truth, scores = [[1, 5], [2, 5], [3, 5], [4, 5]], [[1, 5], [2, 5], [3, 5], [2, 6]]
    found = measure(judged("numbers", truth, scores, ["age", "flat"]))
    age, flat = (row.values for row in found.rows)
    assert age == pytest.approx({"mae": 0.5, "rmse": 1, "r2": 1 - 4 / 5, "least": 1, "most": 4})
    assert math.isnan(flat["r2"])
    assert found.values == pytest.approx({"mae": 0.375, "rmse": 0.75, "r2": 0.2})
    assert found.notes[0] == '"flat" is the same in all pictures here: it has no R²'


def test_the_numbers_of_points_are_those_counted_by_hand() -> None:
    truth = [[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2]]
    scores = [[0.53, 0.54, 0.2, 0.2], [0.5, 0.5, 0.2, 0.28]]
    found = measure(judged("points", truth, scores, ["eye_x", "eye_y", "nose_x", "nose_y"]))
    assert [row.name for row in found.rows] == ["eye", "nose"]
    assert found.values["mean_error"] == pytest.approx((0.05 + 0.08) / 4)
    assert found.rows[1].values == pytest.approx({"mean_error": 0.04, "pck_5": 0.5, "pck_10": 1})


def test_what_cannot_be_measured_is_refused() -> None:
    def refused(one: Judged) -> str:
        with pytest.raises(DataError) as error:
            measure(one)
        return str(error.value)

    assert refused(judged("masks", [0], [[1, 0, 0]])) == (
        "there are no metrics of masks. There are of classes, tags, numbers, points."
    )
    assert refused(judged("classes", [], np.zeros((0, 3)))) == 'there is nothing to judge in "val"'
    assert refused(judged("classes", [0, 1], [[1, 0], [0, 1]])) == (
        "the scores are 2x2, expected 2x3 of 2 pictures and 3 names"
    )
    assert refused(judged("classes", [0, 1], [[1, 0, 0], [math.nan, 0, 0]])) == (
        'the scores of "1.jpg" are no numbers'
    )
    assert refused(judged("classes", [3], [[1, 0, 0]])) == (
        "there are 3 classes, but one of the truths has another number"
    )
    assert refused(judged("points", [[0, 0, 0]], [[0, 0, 0]])) == (
        "points have an x and a y each, found 3 columns"
    )
