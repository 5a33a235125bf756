"""What data layers hand to a net, number by number as real Caffe read it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import SHARED

from torrefy import load_net
from torrefy.data.open import open_loader
from torrefy.data.sources.leveldb import LevelDBSource
from torrefy.data.sources.lmdb import LMDBSource
from torrefy.data.statistics import mean_of
from torrefy.data.transform import read_mean
from torrefy.schema import read_text

CHOSEN = Path(__file__).parent / "data"
"""A few cases of real Caffe that are always there; the rest is looked for beside the repository."""
EVERYTHING = SHARED / "golden/data"
DATA = EVERYTHING if EVERYTHING.is_dir() else CHOSEN
FED = [
    meta.parent
    for meta in sorted(DATA.glob("cases/*/meta.json"))
    if meta.parent.name not in ("extract_features", "hdf5_output")
]


def layer_of(folder: Path) -> Any:
    (layer,) = [x for x in read_text(folder / "net.prototxt").message.layer if not x.bottom]
    return layer


@pytest.mark.parametrize("folder", FED, ids=lambda p: p.name)
def test_batches_are_those_of_caffe(folder: Path) -> None:
    compare(folder, workers=0)


@pytest.mark.parametrize("name", ["data_gray", "data_leveldb", "image_crop", "window_warp"])
def test_batches_of_worker_processes_are_those_of_caffe(name: str) -> None:
    compare(DATA / "cases" / name, workers=2)


def compare(folder: Path, workers: int) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    with np.load(folder / "case.npz") as arrays:
        expected = dict(arrays)
    held = [expected[key] for key in ("array:data", "array:label") if key in expected]
    loader = open_loader(
        layer_of(folder), meta["phase"].lower(), DATA, arrays=held or None, workers=workers
    )
    for k in range(1, meta["batches"] + 1):
        batch = next(loader)
        assert {f"out{k}:{top}" for top in batch} == {key for key in expected if f"out{k}:" in key}
        for top, tensor in batch.items():
            caffe = expected[f"out{k}:{top}"]
            ours = tensor.numpy()
            if held:  # Caffe gives these labels three more axes
                caffe = caffe.reshape(ours.shape)
            np.testing.assert_array_equal(ours, caffe, strict=True)
    loader.close()


RECORDS = sorted(DATA.glob("expected_lmdb*.npz"))


@pytest.mark.parametrize("expected", RECORDS, ids=lambda p: p.stem)
def test_a_database_has_the_records_that_convert_imageset_wrote(expected: Path) -> None:
    folder = DATA / expected.stem.removeprefix("expected_")
    source = LMDBSource(folder)
    with np.load(expected) as records:
        assert [source.name(i).decode() for i in range(len(source))] == list(records["keys"])
        for i, label in enumerate(records["labels"]):
            picture, ours = source.item(i)
            assert ours == label
            if "encoded" not in folder.name:
                np.testing.assert_array_equal(picture, records[f"datum:{i}"], strict=True)


def test_a_leveldb_is_read_where_it_lies_and_stays_as_it_is(tmp_path: Path) -> None:
    folder = shutil.copytree(DATA / "leveldb", tmp_path / "leveldb")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    source = LevelDBSource(folder)
    assert [source.name(i) for i in (0, 11)] == [b"00000000_img_00.png", b"00000011_img_11.png"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", [path.stem for path in sorted(DATA.glob("*.binaryproto"))])
def test_a_mean_image_is_read(name: str) -> None:
    with np.load(DATA / "expected_mean.npz") as means:
        np.testing.assert_array_equal(read_mean(DATA / f"{name}.binaryproto"), means[name][0])


def test_features_of_a_database_are_those_that_extract_features_wrote() -> None:
    folder = DATA / "cases/extract_features"
    if not folder.is_dir():
        pytest.skip("no such case here")
    definition = folder / "net.prototxt"
    loader = open_loader(layer_of(folder), "test", DATA)
    batches = [next(loader) for _ in range(3)]
    net = load_net(
        definition, folder / "weights.caffemodel", shapes={"data": batches[0]["data"].shape}
    )
    with np.load(folder / "case.npz") as expected:
        for blob in ("conv", "fc", "label"):
            found = [net.run(batch, blobs=[blob])[blob] for batch in batches]
            caffe = expected[f"out:{blob}"]
            ours = torch.cat(found).detach().numpy().reshape(caffe.shape)
            np.testing.assert_allclose(ours, caffe, rtol=1e-4, atol=1e-6, err_msg=blob)


def test_a_mean_is_that_of_compute_image_mean() -> None:
    with np.load(DATA / "expected_mean.npz") as means:
        found = mean_of(LMDBSource(DATA / "lmdb_gray"))
        np.testing.assert_array_equal(found, means["mean_gray"][0], strict=True)
