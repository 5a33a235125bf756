"""Features in files: what comes back, and what is said of files that hold something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from torrefy.errors import DataError
from torrefy.features.table import Features, read_features, write_features

FULL = Features(
    {"fire9/concat": np.arange(6, dtype=np.float32).reshape(2, 3), "path": np.ones((2, 1, 1, 1))},
    ("Katze/ä b.png", "犬.png"),
    np.array([1, 0]),
    ("Hund", "Katze"),
    ("g1", "g2"),
    ("train", "test"),
    {"model": "lenet"},
)


def test_features_come_back_as_they_were(tmp_path: Path) -> None:
    write_features(tmp_path / "f.npz", FULL)
    found = read_features(tmp_path / "f.npz")
    assert list(found.arrays) == ["fire9/concat", "path"]
    assert np.array_equal(found.matrix("fire9/concat"), FULL.matrix("fire9/concat"))
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0]
    assert (found.paths, found.classes, found.groups, found.parts, found.origin) == (
        FULL.paths, FULL.classes, FULL.groups, FULL.parts, FULL.origin,
    )  # fmt: skip


def test_some_are_taken() -> None:
    found = FULL.take([1])
    assert (found.paths, found.groups, found.matrix("fire9/concat").tolist()) == (
        ("犬.png",), ("g2",), [[3, 4, 5]],
    )  # fmt: skip


def test_a_blob_must_be_named_where_there_are_several() -> None:
    with pytest.raises(DataError, match=r"features of 2 blobs: fire9/concat, path. Say which"):
        FULL.blob()
    with pytest.raises(DataError, match=r'of a blob "fire9". Did you mean'):
        FULL.blob("fire9")


def test_an_npz_of_anyones_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", x=np.ones((3, 2), np.float32), label=np.array([0, 2, 1]))
    found = read_features(tmp_path / "f.npz")
    assert (found.classes, found.paths) == (("0", "1", "2"), ("0", "1", "2"))


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x": np.ones((3, 2)), "y": np.ones((2, 2))}, "expected arrays of as many rows"),
        ({"x": np.ones(3)}, '"x" is float64 of 1 axes, expected floats of 2 or more'),
        ({"x": np.ones((3, 2)), "label": np.ones(2, int)}, "3 rows of features, but labels are"),
        ({"x": np.ones((3, 2)), "path": np.array(["a"])}, "3 rows of features, but 1 of path"),
        (
            {"x": np.ones((2, 2)), "label": np.array([0, 5]), "classes": np.array(["a"])},
            "labels go from 0 to 5, but there are 1 classes",
        ),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, arrays: dict[str, object], told: str) -> None:
    np.savez(tmp_path / "f.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError) as caught:
        read_features(tmp_path / "f.npz")
    assert str(caught.value).startswith(f"{tmp_path}/f.npz: {told}")


def test_objects_and_broken_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "o.npz", x=np.array([{}, {}]))
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04broken")
    np.savez_compressed(tmp_path / "z.npz", x=np.zeros((1 << 12, 1 << 13), np.float32))
    np.save(tmp_path / "n.npz", np.ones(3))
    (tmp_path / "n.npz.npy").rename(tmp_path / "n.npz")
    for name in ("o.npz", "b.npz", "z.npz", "n.npz"):
        with pytest.raises(DataError, match=r"this is no \.npz of features"):
            read_features(tmp_path / name)
    with pytest.raises(DataError, match=r"no such file"):
        read_features(tmp_path / "oo.npz")
