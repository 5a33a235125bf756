"""What the tests of training share: a small problem to learn, as files in the working folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.plugins.conftest import installed

from torrefy.train.solver import Solver

__all__ = ["installed"]

NET = """name: "small"
layer { name: "data" type: "HDF5Data" top: "data" top: "label" include { phase: TRAIN }
  hdf5_data_param { source: "train.txt" batch_size: 4 shuffle: true } }
layer { name: "data" type: "HDF5Data" top: "data" top: "label" include { phase: TEST }
  hdf5_data_param { source: "train.txt" batch_size: 10 } }
layer { name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
  inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "BatchNorm" bottom: "ip1" top: "norm" }
layer { name: "relu" type: "ReLU" bottom: "norm" top: "norm" }
layer { name: "drop" type: "Dropout" bottom: "norm" top: "norm"
  dropout_param { dropout_ratio: 0.3 } }
layer { name: "ip2" type: "InnerProduct" bottom: "norm" top: "ip2"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy"
  include { phase: TEST } }
"""
SOLVER = """net: "net.prototxt"
base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.001
max_iter: 30 random_seed: 7 snapshot_prefix: "snap"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: net.prototxt, and 20 rows of three classes in train.txt."""
    random = np.random.default_rng(0)
    label = np.arange(20) % 3
    data = random.normal(size=(20, 5)) + 2 * np.eye(5)[label]
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["data"], file["label"] = data.astype("f4"), label.astype("f4")
    (tmp_path / "train.txt").write_text("rows.h5\n")
    (tmp_path / "net.prototxt").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def make(folder: Path) -> Callable[..., Solver]:
    """`make(more, resume=…)`: a Solver of the small problem, with more fields."""

    def made(more: str = "", text: str = SOLVER, **options: object) -> Solver:
        (folder / "solver.prototxt").write_text(text + more)
        return Solver("solver.prototxt", **options)  # type: ignore[arg-type]

    return made
