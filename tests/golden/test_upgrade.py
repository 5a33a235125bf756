"""Old definitions and weights, against what Caffe's own upgrade tools make of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import SHARED

from torrefy import load_net
from torrefy.net.stored import read_weights
from torrefy.schema import parse_text, read_text, upgrade, write_text

CHOSEN = Path(__file__).parent / "upgrade"
"""A few cases of real Caffe that are always there; the rest is looked for beside the repository."""
EVERYTHING = SHARED / "golden/upgrade"
UPGRADES = EVERYTHING if EVERYTHING.is_dir() else CHOSEN
TEXTS = sorted(p.parent for p in UPGRADES.glob("*/input.prototxt"))
BINARIES = sorted(p.parent for p in UPGRADES.glob("*/old.caffemodel"))


@pytest.mark.parametrize("folder", TEXTS, ids=lambda p: p.name)
def test_a_text_becomes_what_caffe_makes_of_it(folder: Path) -> None:
    kind = json.loads((folder / "meta.json").read_text())["kind"]
    message = "caffe.SolverParameter" if kind == "solver" else "caffe.NetParameter"
    ours = upgrade(read_text(folder / "input.prototxt", message)).message
    assert ours == read_text(folder / "expected.prototxt", message).message
    assert upgrade(parse_text(write_text(ours), message)).message == ours


@pytest.mark.parametrize("name", ["old", "expected"])
@pytest.mark.parametrize("folder", BINARIES, ids=lambda p: p.name)
def test_a_binary_gives_the_weights_that_caffe_reads(folder: Path, name: str) -> None:
    weights = folder / f"{name}.caffemodel"
    types = {layer.name: layer.type for layer in read_weights(weights).layers}
    definition = read_text(folder / "net.prototxt")
    assert types.items() >= {(x.name, x.type) for x in definition.message.layer if x.bottom}
    net = load_net(definition, weights=weights)
    with np.load(folder / "case.npz") as case:
        arrays = dict(case)
    params = {
        f"param:{name}:{i}": blob.detach().numpy()
        for name, blobs in net.params.items()
        for i, blob in enumerate(blobs)
    }
    assert params.keys() == {key for key in arrays if key.startswith("param:")}
    for key, value in params.items():
        np.testing.assert_array_equal(value, arrays[key])
    out = net.run({"data": torch.from_numpy(arrays["in:data"])}, ["conv", "ip"])
    for blob, tensor in out.items():
        np.testing.assert_allclose(
            tensor.detach().numpy(), arrays[f"out:{blob}"], rtol=1e-4, atol=1e-6
        )


def test_every_reference_case_is_walked() -> None:
    if UPGRADES == CHOSEN:
        pytest.skip("no ../shared here")
    assert len(TEXTS) + len(BINARIES) == 22
