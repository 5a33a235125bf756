"""Mixup and CutMix: what becomes of pictures and labels, by whom a batch is made, and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import torrefy
from torrefy.data.augment.mixing import CutMix, Mixing, Mixup
from torrefy.data.draws import Draws
from torrefy.data.loader import Loader
from torrefy.data.open import open_loader
from torrefy.data.sources.memory import ArraySource
from torrefy.errors import RecordError, TorrefyError
from torrefy.schema import parse_text

COUNT = 60


def layer(augmentation: str, tops: str = 'top: "data" top: "label"', kind: str = "Data") -> Any:
    text = (
        f'layer {{ name: "d" type: "{kind}" {tops} data_param {{ batch_size: {COUNT} }} '
        f"transform_param {{ {augmentation} }} }}"
    )
    return parse_text(text).message.layer[0]


def loader(augmentation: str, phase: str = "train", **options: Any) -> Loader:
    """Batches of 60 pictures of one value each, 0 to 59, and labels 0 to 9."""
    pictures = np.arange(COUNT, dtype=np.float32).reshape(-1, 1, 1, 1) * np.ones((2, 10, 8), "f4")
    source = ArraySource(pictures, np.arange(COUNT) % 10)
    return open_loader(layer(augmentation), phase, source=source, seed=3, **options)


def mixed(one: Mixing, **arrays: NDArray[Any]) -> dict[str, NDArray[Any]]:
    batch = {name: array.astype(np.float32) for name, array in arrays.items()}
    one.mix(batch, np.ones(len(batch["data"]), bool), Draws(1, 2))
    return batch


MIXUP = 'augmentation { type: "Mixup" mixup_param { alpha: 0.5 classes: 10 } }'
CUTMIX = 'augmentation { type: "CutMix" cut_mix_param { classes: 10 } }'


def test_mixup_adds_up_two_pictures_and_their_labels_by_one_share() -> None:
    batch = next(loader(MIXUP))
    values, rows = batch["data"].numpy(), batch["label"].numpy()
    assert rows.shape == (COUNT, 10)
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-6)
    assert (values == values[:, :1, :1, :1]).all()  # every pixel by the same share
    mixtures = 0
    for i, (value, row) in enumerate(zip(values[:, 0, 0, 0], rows, strict=True)):
        share, other = row[i % 10], int(np.argmax(np.where(np.arange(10) == i % 10, 0, row)))
        if row.max() < 0.99:
            # The partner is one of the other label's pictures, with the rest of the share.
            partner = (value - share * i) / (1 - share)
            assert partner == pytest.approx(round(float(partner)), abs=1e-2)
            assert round(float(partner)) % 10 == other
            mixtures += 1
    assert mixtures > COUNT // 3


def test_cutmix_copies_a_rectangle_whose_area_is_its_labels_share() -> None:
    batch = next(loader(CUTMIX))
    values, rows = batch["data"].numpy(), batch["label"].numpy()
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-6)
    areas = []
    for i, (picture, row) in enumerate(zip(values, rows, strict=True)):
        other = picture != i
        assert (other == other[:1]).all()  # in all channels alike
        partners = np.unique(picture[other])
        assert len(partners) <= 1
        area = float(other.mean())
        areas.append(area)
        down, across = other[0].any(axis=1), other[0].any(axis=0)
        assert area == pytest.approx(down.mean() * across.mean())  # a rectangle
        if len(partners) and int(partners[0]) % 10 != i % 10:
            assert row[int(partners[0]) % 10] == pytest.approx(area, abs=1e-6)
            assert row[i % 10] == pytest.approx(1 - area, abs=1e-6)
    assert 0.2 < np.mean(areas) < 0.5
    assert max(areas) > 0.5


def test_both_one_after_the_other_leave_labels_that_are_probabilities() -> None:
    batch = next(loader(MIXUP + CUTMIX))
    rows = batch["label"].numpy()
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-5)
    assert ((rows > 0.01).sum(axis=1) > 2).any()


def test_a_share_of_the_pictures_is_left_alone() -> None:
    batch = next(loader(MIXUP.replace("mixup_param", "probability: 0.3 mixup_param")))
    alone = (batch["data"][:, 0, 0, 0] == torch.arange(COUNT)).sum()
    assert COUNT * 0.5 < alone < COUNT * 0.95
    none = next(loader(MIXUP.replace("mixup_param", "probability: 0 mixup_param")))
    assert (none["data"][:, 0, 0, 0] == torch.arange(COUNT)).all()
    assert none["label"].shape == (COUNT, 10)  # as of every other batch


def test_nothing_is_mixed_in_phase_test() -> None:
    batch = next(loader(MIXUP + CUTMIX, "test"))
    assert batch["label"].tolist() == [i % 10 for i in range(COUNT)]


def test_a_batch_is_mixed_the_same_by_any_number_of_workers_and_when_resumed() -> None:
    alone = loader(MIXUP + CUTMIX, workers=0)
    first, second = next(alone), next(alone)
    assert not torch.equal(first["label"], second["label"])
    together = loader(MIXUP + CUTMIX, workers=2)
    resumed = loader(MIXUP + CUTMIX, workers=0)
    try:
        assert all(torch.equal(array, first[top]) for top, array in next(together).items())
        resumed.load_state_dict(together.state_dict())
        for feed in (resumed, together):
            assert all(torch.equal(array, second[top]) for top, array in next(feed).items())
    finally:
        together.close()


def test_targets_are_mixed_as_they_are() -> None:
    tags = np.array([[1, 0, 1], [0, 0, 1], [0, 1, 0], [1, 1, 0]])
    given = {"data": np.arange(4).reshape(4, 1, 1, 1), "tags": tags}
    batch = mixed(Mixup(alpha=1.0, labels="TARGETS"), **given)
    for row, value in zip(batch["tags"], batch["data"].ravel(), strict=True):
        spans = [(i, j) for i in range(4) for j in range(4) if i <= value <= j]
        assert any(
            np.allclose(row, tags[i] + (tags[j] - tags[i]) * (value - i) / max(j - i, 1), atol=1e-5)
            for i, j in spans
        )
    numbers = mixed(Mixup(labels="TARGETS"), data=np.zeros((4, 1, 2, 2)), age=np.full(4, 31.5))
    np.testing.assert_allclose(numbers["age"], 31.5, rtol=1e-6)


def test_pictures_without_labels_are_mixed_alone() -> None:
    batch = mixed(CutMix(classes=2), data=np.arange(8).reshape(8, 1, 1, 1) * np.ones((1, 6, 6)))
    assert list(batch) == ["data"]
    assert len(np.unique(batch["data"][0])) <= 2


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 5.0])
def test_shares_are_of_the_beta_law(alpha: float) -> None:
    draws = Draws(1, 1)
    found = np.array([draws.beta(alpha, alpha) for _ in range(20_000)])
    assert ((found >= 0) & (found <= 1)).all()
    assert found.mean() == pytest.approx(0.5, abs=0.012)
    assert found.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.04)
    assert np.mean([draws.beta(2, 6) for _ in range(20_000)]) == pytest.approx(0.25, abs=0.006)


@pytest.mark.parametrize("label", [10, -1, 255])
def test_a_label_beyond_the_classes_is_told_before_it_is_mixed(label: int) -> None:
    source = ArraySource(np.zeros((COUNT, 1, 4, 4)), np.full(COUNT, label))
    with pytest.raises(RecordError) as error:
        next(open_loader(layer(MIXUP), "train", source=source))
    assert str(error.value) == (
        f'<arrays> (row 0): layer "d": the label is {label}, but there are 10 classes, from 0 to 9'
    )


@pytest.mark.parametrize(
    ("augmentation", "tops", "message"),
    [
        (
            'augmentation { type: "Mixup" }',
            'top: "data" top: "label"',
            'layer "d": Mixup: classes is missing. Give classes: …, or '
            "labels: TARGETS where labels are no class numbers.",
        ),
        (
            'augmentation { type: "Flip" } augmentation { type: "CutMix" cut_mix_param { '
            "classes: 1 } }",
            'top: "data" top: "label"',
            'layer "d": CutMix: classes must be 2 or more, found 1. Give classes: '
            "…, or labels: TARGETS where labels are no class numbers.",
        ),
        (
            'augmentation { type: "Mixup" mixup_param { classes: 5 top: "lable" } }',
            'top: "data" top: "label"',
            'layer "d": the layer has no top "lable" that could hold labels. Did you mean "label"?',
        ),
        (
            'augmentation { type: "Mixup" mixup_param { classes: 5 } }',
            'top: "data" top: "label" top: "boxes"',
            'layer "d": pictures are mixed with their labels in "label", but the layer has also '
            '"boxes"',
        ),
        (
            'augmentation { type: "CutMix" cut_mix_param { alpha: 0 classes: 5 } }',
            'top: "data" top: "label"',
            'layer "d": CutMix: alpha must be above 0, found 0',
        ),
    ],
)
def test_what_can_not_be_mixed_is_told_when_the_data_are_opened(
    augmentation: str, tops: str, message: str
) -> None:
    source = ArraySource(np.zeros((4, 1, 4, 4)), np.zeros(4), np.zeros((4, 4)))
    with pytest.raises(TorrefyError) as error:
        open_loader(layer(augmentation, tops), "train", source=source)
    assert str(error.value) == message


def test_labels_of_several_numbers_are_no_class() -> None:
    source = ArraySource(np.zeros((COUNT, 1, 4, 4)), np.zeros((COUNT, 3)))
    with pytest.raises(TorrefyError) as error:
        next(open_loader(layer(MIXUP), "train", source=source))
    assert str(error.value) == (
        'layer "d": Mixup: "label" holds 3 numbers for each picture, which are no class. Give '
        "labels: TARGETS where they are mixed as they are."
    )


def test_what_has_no_height_and_width_can_not_be_cut() -> None:
    with pytest.raises(TorrefyError) as error:
        mixed(CutMix(classes=2), data=np.zeros((4, 5)), label=np.zeros(4))
    assert str(error.value) == "CutMix cuts pictures of CxHxW, found 5"


NET = """
layer { name: "data" type: "Data" top: "data" top: "label" data_param { batch_size: 20 }
  transform_param { scale: 0.02 %s } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "hidden" type: "InnerProduct" bottom: "pool" top: "hidden"
  inner_product_param { num_output: 8 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "hidden" top: "hidden" }
layer { name: "ip" type: "InnerProduct" bottom: "hidden" top: "ip"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" }
"""
SOLVER = """base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 60 random_seed: 1
test_iter: 2 test_interval: 60 snapshot_after_train: false net_param { %s }"""


def test_a_net_is_trained_on_mixed_labels_and_tested_on_plain_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mix = 'augmentation { type: "Mixup" mixup_param { classes: 2 } }'
    definition = parse_text(SOLVER % (NET % mix), "caffe.SolverParameter")
    spec = definition.message.net_param.layer[0]
    source = ArraySource(
        np.arange(40).reshape(-1, 1, 1, 1) * np.ones((1, 6, 6)), np.arange(40) >= 20, shuffle=True
    )
    solver = torrefy.Solver(
        definition,
        feeds=open_loader(spec, "train", source=source, seed=1),
        test_feeds=open_loader(spec, "test", source=source),
    )
    assert solver.net.inputs["label"] == (20, 2)
    assert solver.test_nets[0].inputs["label"] == (20,)
    losses = solver.step(60)
    assert losses[-1] < losses[0]
    solver.solve()
    assert solver.scores[0]["accuracy"] > 0.9
