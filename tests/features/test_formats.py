"""Each format of features: what was written comes back, and the names of pictures with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from torrefy.errors import DataError
from torrefy.features.formats import read, write
from torrefy.features.table import Features

FULL = Features(
    {
        "fire9/concat": np.arange(12, dtype=np.float32).reshape(4, 3),
        "prob": np.ones((4, 2), np.float32),
    },
    ("Katze/ä b.png", "犬.png", "c", "d_e"),
    np.array([1, 0, 0, 2]),
    ("Hund", "Katze", "π"),
    ("g1", "g2", "g1", "g3"),
    ("train", "test", "train", "val"),
    {"model": "lenet"},
)


@pytest.mark.parametrize("name", ["f.npz", "f.h5", "f.parquet"])
def test_all_comes_back(tmp_path: Path, name: str) -> None:
    assert write(tmp_path / name, FULL) == [tmp_path / name]
    found = read(tmp_path / name)
    assert list(found.arrays) == list(FULL.arrays)
    assert all(np.array_equal(found.arrays[k], FULL.arrays[k]) for k in FULL.arrays)
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0, 0, 2]
    for part in ("paths", "classes", "groups", "parts"):
        assert getattr(found, part) == getattr(FULL, part)
    assert found.origin == {"model": "lenet"}
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["f.npz", "f.h5", "f.parquet"])
def test_half_precision_comes_back(tmp_path: Path, name: str) -> None:
    half = replace(FULL, arrays={"x": np.ones((4, 3), np.float16)})
    write(tmp_path / name, half)
    assert read(tmp_path / name).arrays["x"].dtype == np.float16


def test_an_lmdb_for_each_blob_keeps_names_and_labels(tmp_path: Path) -> None:
    paths = write(tmp_path / "f_lmdb", FULL)
    assert [path.name for path in paths] == ["f_lmdb_fire9_concat", "f_lmdb_prob"]
    found = read(paths[0])
    assert found.paths == FULL.paths
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0, 0, 2]
    assert np.array_equal(found.matrix(), FULL.arrays["fire9/concat"])


def test_what_is_no_file_of_features_is_refused(tmp_path: Path) -> None:
    for name, told in (
        ("b.npz", "this is no .npz of features"),
        ("b.h5", "this is no HDF5 of features"),
        ("b.parquet", "this is no Parquet file of features"),
        ("b.txt", 'no format of features ends in ".txt". Take .npz, .h5, .parquet, or a name'),
    ):
        (tmp_path / name).write_bytes(b"something else")
        with pytest.raises(DataError) as caught:
            read(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path}/{name}: {told}")
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "gone.npz")
