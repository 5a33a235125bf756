"""Old definitions, against what Caffe's own upgrade tools make of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import SHARED

from torrefy.net.stored import read_weights
from torrefy.schema import read_text, upgrade

UPGRADES = SHARED / "golden/upgrade"
TEXTS = sorted(p.parent for p in UPGRADES.glob("*/input.prototxt"))
BINARIES = sorted(p.parent for p in UPGRADES.glob("*/old.caffemodel"))


@pytest.mark.parametrize("folder", TEXTS, ids=lambda p: p.name)
def test_a_text_becomes_what_caffe_makes_of_it(folder: Path) -> None:
    kind = json.loads((folder / "meta.json").read_text())["kind"]
    message = "caffe.SolverParameter" if kind == "solver" else "caffe.NetParameter"
    ours = upgrade(read_text(folder / "input.prototxt", message)).message
    assert ours == read_text(folder / "expected.prototxt", message).message


@pytest.mark.parametrize("folder", BINARIES, ids=lambda p: p.name)
def test_a_binary_gives_the_weights_that_caffe_reads(folder: Path) -> None:
    upgraded = read_weights(folder / "expected.caffemodel")
    old = read_weights(folder / "old.caffemodel")
    weights = {layer.name: layer for layer in old.layers if layer.blobs}
    with np.load(folder / "case.npz") as case:
        params = {key: case[key] for key in case if key.startswith("param:")}
    assert params
    for key, value in params.items():
        _, name, index = key.split(":")
        np.testing.assert_array_equal(weights[name].blobs[int(index)].reshape(value.shape), value)
    for layer in upgraded.layers:
        if layer.blobs:
            assert weights[layer.name].type == layer.type
