"""Every filler against the params that real Caffe made: the same numbers, or the same spread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import SHARED

from torrefy.graph import State
from torrefy.net.net import compile_net
from torrefy.schema import read_text, upgrade

CHOSEN = Path(__file__).parent / "fillers"
"""A few cases of real Caffe that are always there; the rest is looked for beside the repository."""

SIGMAS = 4
"""How many standard errors two random samples may differ by."""


def cases() -> list[Path]:
    everything = SHARED / "golden/fillers"
    root = everything if everything.is_dir() else CHOSEN
    return sorted(meta.parent for meta in root.glob("*/meta.json"))


@pytest.mark.parametrize("folder", cases(), ids=lambda p: p.name)
def test_a_filler_fills_as_caffe_does(folder: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    net = compile_net(upgrade(read_text(folder / "net.prototxt")), State("test"), seed=1)
    with np.load(folder / "case.npz") as arrays:
        caffe = dict(arrays)
    for i, blob in enumerate(net.params["op"]):
        ours = blob.detach().numpy()
        assert ours.shape == tuple(caffe[f"shape:op:{i}"])
        alike(ours, dict(zip(meta["stats"], caffe[f"stats:op:{i}"].tolist(), strict=True)))
        if f"param:op:{i}" in caffe:
            np.testing.assert_array_equal(ours, caffe[f"param:op:{i}"])
    first = net.params["op"][0].detach().numpy()
    rows = first.reshape(first.shape[0], -1).sum(1)
    low, high = caffe["row_sum_range"]
    if high - low < 1e-4 * max(1, abs(high)):  # what makes every row's sum one number
        np.testing.assert_allclose(rows, high, rtol=1e-5, atol=1e-6)


def alike(ours: np.ndarray, theirs: dict[str, Any]) -> None:
    """Mean, spread, zeros and extremes of a sample, as near to another's as chance allows."""
    n = ours.size
    assert n == theirs["count"]
    values = ours.astype(np.float64)
    mean, std = values.mean(), values.std()
    if not std:
        assert theirs["std"] == pytest.approx(0, abs=1e-6)
        assert mean == pytest.approx(theirs["mean"], rel=1e-6)
        return
    standard = (values - mean) / std
    kurtosis = (standard**4).mean()
    both = np.sqrt(2)  # their sample is as random as ours
    assert abs(mean - theirs["mean"]) <= SIGMAS * both * std / np.sqrt(n)
    assert abs(std - theirs["std"]) <= SIGMAS * both * std * np.sqrt((kurtosis - 1) / (4 * n))
    zeros = np.mean(values == 0)
    chance = np.sqrt(max(zeros * (1 - zeros), 0) / n)
    assert abs(zeros - theirs["zero_fraction"]) <= SIGMAS * both * chance + 1 / n
    for end, sign in (("min", -1), ("max", 1)):  # a normal's is beyond 3, a uniform's is √3
        farthest = sign * (theirs[end] - theirs["mean"]) / theirs["std"]
        assert (sign * standard).max() == pytest.approx(farthest, rel=0.3)
