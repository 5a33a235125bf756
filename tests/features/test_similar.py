"""Search by example: the nearest by cosine, and an index that is used only where it fits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tests.finetune.conftest import make_model, make_pictures

from torrefy.cli import main
from torrefy.errors import DataError
from torrefy.features import similar
from torrefy.features.formats import write
from torrefy.features.similar import Index
from torrefy.features.table import Features

faiss = pytest.importorskip("faiss")


def some(count: int = 50) -> Features:
    x = np.random.default_rng(0).normal(size=(count, 8)).astype(np.float32)
    return Features({"fc": x}, tuple(f"{i}.png" for i in range(count)))


def test_the_nearest_are_those_with_the_largest_cosine() -> None:
    features = some()
    x = features.matrix()
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    query = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    cosines = query @ unit.T / np.linalg.norm(query, axis=1, keepdims=True)
    for row, found in zip(cosines, Index(features).nearest(query, 5), strict=True):
        assert [one.row for one in found] == np.argsort(-row)[:5].tolist()
        assert np.allclose([one.likeness for one in found], np.sort(row)[::-1][:5], atol=1e-5)


def test_a_picture_is_most_like_itself_whatever_its_length() -> None:
    features = some()
    (found,) = Index(features).nearest(7 * features.matrix()[3:4], 1)
    assert (found[0].name, round(found[0].likeness, 5)) == ("3.png", 1.0)


def test_an_index_of_many_finds_nearly_all(monkeypatch: pytest.MonkeyPatch) -> None:
    features = some(2000)
    exact = Index(features).nearest(features.matrix()[:50], 10)
    monkeypatch.setattr(similar, "LARGE", 100)
    index = Index(features)
    assert isinstance(index.index, faiss.IndexHNSWFlat)
    fast = index.nearest(features.matrix()[:50], 10)
    shared = [
        len({a.row for a in one} & {b.row for b in other})
        for one, other in zip(exact, fast, strict=True)
    ]
    assert np.mean(shared) > 9


def test_an_index_is_used_only_if_it_is_of_these_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "f.npz", some())
    index = tmp_path / "f.npz.faiss"
    assert Index(tmp_path / "f.npz").write() == index

    def refuse(x: object) -> None:
        raise AssertionError("it was built anew")

    monkeypatch.setattr(similar, "_build", refuse)
    assert Index(tmp_path / "f.npz").index.ntotal == 50
    whole = index.read_bytes()
    index.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(AssertionError, match="it was built anew"):
        Index(tmp_path / "f.npz")
    index.write_bytes(whole)
    (tmp_path / "f.npz").unlink()
    write(tmp_path / "f.npz", some(40))
    with pytest.raises(AssertionError, match="it was built anew"):
        Index(tmp_path / "f.npz")


def test_other_features_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        Index(some()).nearest(np.ones((1, 9), np.float32))
    assert str(caught.value) == "the index has 8 features of each picture, the query 9"


def test_features_of_a_definition_are_searched_without_saying_how_they_were_made(
    tmp_path: Path,
) -> None:
    model = make_model(tmp_path / "model")
    make_pictures(tmp_path / "photos", each=3)
    (tmp_path / "seen.prototxt").write_text("width: 12 height: 12 mean: 100 colour: RGB")
    features = str(tmp_path / "f.npz")
    line = ["features", str(model / "net.prototxt"), str(tmp_path / "photos"), "-o", features]
    line += ["--weights", str(model / "net.caffemodel")]
    line += ["--preprocessing", str(tmp_path / "seen.prototxt"), "--blob", "conv2"]
    done = CliRunner().invoke(main, line)
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(
        main, ["similar", features, str(tmp_path / "photos/rot/2 é.png"), "--json"]
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["neighbours"][0]
    assert (found["name"], found["likeness"]) == ("rot/2 é.png", pytest.approx(1, abs=1e-5))


def test_the_command_draws_what_it_finds(tmp_path: Path) -> None:
    make_model(tmp_path / "model")
    make_pictures(tmp_path / "photos", each=5)
    features = str(tmp_path / "f.npz")
    line = ["features", str(tmp_path / "model"), str(tmp_path / "photos"), "-o", features]
    assert CliRunner().invoke(main, [*line, "--index"]).exit_code == 0
    picture = tmp_path / "photos/rot/2 é.png"
    line = ["similar", features, str(picture), "--top", "4", "-o", str(tmp_path / "alike.png")]
    done = CliRunner().invoke(main, [*line, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["neighbours"]
    assert (found[0]["name"], found[0]["file"]) == ("rot/2 é.png", str(picture))
    assert all(one["name"].startswith("rot/") for one in found)
    with Image.open(tmp_path / "alike.png") as sheet:
        assert sheet.width > 300
