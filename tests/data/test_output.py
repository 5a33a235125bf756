"""What HDF5Output writes, read back."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from torrefy.data.output import HDF5Output
from torrefy.data.sources.hdf5 import HDF5Source
from torrefy.errors import DataError

CASE = Path(__file__).parents[1] / "golden/data/cases/hdf5_output"


def test_passes_go_one_behind_the_other(tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    rows = torch.arange(30.0).view(5, 3, 2)
    with HDF5Output(path) as output:
        output.write(rows[:2], np.arange(2))
        output.write(rows[2:], np.arange(2, 5))
        assert not path.exists()
    source = HDF5Source([str(path)], ["data", "label"])
    for i in range(5):
        data, label = source.item(i)
        np.testing.assert_array_equal(data, rows[i, ..., np.newaxis])
        assert label == i
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    with pytest.raises(DataError) as error, HDF5Output(path) as output:
        output.write(np.zeros((2, 3)), np.zeros(2))
        output.write(np.zeros((2, 4)), np.zeros(2))
    assert str(error.value) == f'{path}: the rows of "data" have another shape now'
    with pytest.raises(DataError, match="two blobs of as many rows are written, found 2x3 and 3"):
        HDF5Output(path).write(np.zeros((2, 3)), np.zeros(3))
    with HDF5Output(path):
        pass
    with pytest.raises(DataError, match="can't be written"):
        HDF5Output(tmp_path / "no/out.h5").write(np.zeros((2, 3)), np.zeros(2))
    assert not list(tmp_path.iterdir())


def test_the_datasets_are_those_of_caffe(tmp_path: Path) -> None:
    with np.load(CASE / "case.npz") as given, HDF5Output(tmp_path / "out.h5") as output:
        output.write(given["in:data"], given["in:label"])
    with h5py.File(tmp_path / "out.h5") as ours, h5py.File(CASE / "expected.h5") as caffe:
        assert sorted(ours) == sorted(caffe)
        for name in caffe:
            np.testing.assert_array_equal(ours[name][()], caffe[name][()], strict=True)
