"""Features of pictures into a file: the net's own numbers, resumed when broken off."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tests.finetune.conftest import make_model, make_pictures

from torrefy.cli import main
from torrefy.data.collect import read_examples
from torrefy.errors import TorrefyError
from torrefy.features.extract import Extractor, extract, pooled_to
from torrefy.features.formats import read
from torrefy.features.stream import extract_to, part_of
from torrefy.weights.load import load_net


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    make_model(folder / "model")
    make_pictures(folder / "photos", each=12)
    return folder


def test_features_are_the_nets_own_numbers(world: Path) -> None:
    found = extract(world / "model", world / "photos", ["conv2", "prob"])
    net = load_net(world / "model/net.prototxt", world / "model/net.caffemodel")
    extractor = Extractor(world / "model")
    examples = read_examples(world / "photos")
    for i in (0, 20, 35):
        picture = torch.from_numpy(extractor.preprocessor(examples.picture(i, "RGB"))[None])
        values = net.run({"data": picture}, ["conv2", "prob"])
        assert np.allclose(found.arrays["conv2"][i], values["conv2"].mean((2, 3)).detach()[0])
        assert np.allclose(found.arrays["prob"][i], values["prob"].detach()[0])
    assert found.labels is not None
    assert found.labels.tolist() == examples.targets.tolist()
    assert found.paths == examples.names


def test_a_blob_is_the_one_before_the_last_learned_layer(world: Path) -> None:
    assert Extractor(world / "model").dims == {"conv2": 16}


def test_maps_are_pooled() -> None:
    blob = torch.arange(2 * 3 * 4 * 4.0).reshape(2, 3, 4, 4)
    assert torch.equal(pooled_to(blob, "avg"), blob.mean((2, 3)))
    assert torch.equal(pooled_to(blob, "max"), blob.amax((2, 3)))
    assert pooled_to(blob, "flatten").shape == (2, 48)
    assert pooled_to(blob, "none").shape == (2, 3, 4, 4)
    spp = pooled_to(blob, "spp")
    assert spp.shape == (2, 3 * (1 + 4 + 16))
    assert torch.equal(spp[:, :3], blob.amax((2, 3)))
    assert torch.equal(spp[:, -48:], blob.reshape(2, 48))


def test_versions_are_averaged(world: Path) -> None:
    alone = extract(world / "model", world / "photos").matrix()
    both = extract(world / "model", world / "photos", tta="flip").matrix()
    extractor = Extractor(world / "model")
    examples = read_examples(world / "photos")
    mirrored = extractor(
        np.stack([extractor.preprocessor(examples.picture(i, "RGB"))[..., ::-1] for i in range(3)])
    )["conv2"]
    assert np.allclose(both[:3], (alone[:3] + mirrored) / 2, atol=1e-5)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_a_file_has_what_memory_has(world: Path, tmp_path: Path, engine: str) -> None:
    done = extract_to(tmp_path / "f.npz", world / "model", world / "photos", engine=engine)
    assert (done.count, done.engine, done.dims) == (36, engine, {"conv2": 16})
    found, wanted = read(tmp_path / "f.npz"), extract(world / "model", world / "photos")
    assert np.allclose(found.matrix(), wanted.matrix(), atol=1e-5)
    assert (found.paths, found.classes) == (wanted.paths, wanted.classes)
    assert list(tmp_path.iterdir()) == [tmp_path / "f.npz"]


def test_half_precision(world: Path, tmp_path: Path) -> None:
    extract_to(tmp_path / "f.h5", world / "model", world / "photos", float16=True)
    assert read(tmp_path / "f.h5").arrays["conv2"].dtype == np.float16


def test_an_extraction_that_was_broken_off_goes_on(world: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.npz"
    extract_to(whole, world / "model", world / "photos", batch=4)

    def stop(done: int, count: int) -> None:
        if done >= 12:
            raise KeyboardInterrupt

    target = tmp_path / "f.npz"
    with pytest.raises(KeyboardInterrupt):
        extract_to(target, world / "model", world / "photos", batch=4, progress=stop)
    assert not target.exists()
    with pytest.raises(TorrefyError) as caught:
        extract_to(target, world / "model", world / "photos", ["prob"])
    assert str(caught.value) == (
        f"{part_of(target)}: another extraction to this file was broken off. Ask for what it was "
        "asked for, and it goes on; or remove this folder."
    )
    done = extract_to(target, world / "model", world / "photos", batch=4)
    assert done.resumed == 12
    assert np.array_equal(read(target).matrix(), read(whole).matrix())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.npz", "whole.npz"]


SLOWLY = """
import sys, time
from torrefy.features import stream
from torrefy.features.kept import Kept
import torrefy.features.kept as kept
kept.SAVED = 1
stream.extract_to(sys.argv[3], sys.argv[1], sys.argv[2], batch=2, engine="torch",
                  progress=lambda done, count: (print(done, flush=True), time.sleep(0.05)))
"""


def test_a_kill_loses_little(world: Path, tmp_path: Path) -> None:
    target = tmp_path / "f.npz"
    arguments = [sys.executable, "-c", SLOWLY, str(world / "model"), str(world / "photos")]
    with subprocess.Popen([*arguments, str(target)], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if int(line) >= 10:
                run.send_signal(signal.SIGKILL)
                break
    assert not target.exists()
    done = extract_to(target, world / "model", world / "photos", batch=2, engine="torch")
    assert done.resumed >= 8
    wanted = extract(world / "model", world / "photos", batch=2)
    assert np.allclose(read(target).matrix(), wanted.matrix(), atol=1e-6)


def test_the_command(world: Path, tmp_path: Path) -> None:
    target = tmp_path / "fé.parquet"
    line = ["features", str(world / "model"), str(world / "photos"), "-o", str(target), "--json"]
    done = CliRunner().invoke(main, line)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["pictures"], told["files"], told["dims"]) == (36, [str(target)], {"conv2": 16})
    again = CliRunner().invoke(main, line[:-1])
    assert (again.exit_code, again.stderr.splitlines()[-1]) == (
        1, f"{target}: this exists; it is not overwritten",
    )  # fmt: skip


def test_broken_pictures_fail_or_are_left_out(world: Path, tmp_path: Path) -> None:
    photos = make_pictures(tmp_path / "photos", each=2)
    (photos / "rot/0 é.png").write_bytes(b"none")
    line = ["features", str(world / "model"), str(photos), "-o", str(tmp_path / "f.npz")]
    failed = CliRunner().invoke(main, line)
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1] == f"{photos}/rot/0 é.png: this is not a picture"
    done = CliRunner().invoke(main, [*line, "--bad-images", "skip"])
    assert done.exit_code == 0
    assert f"{photos}/rot/0 é.png: left out: this is not a picture" in done.stderr
    assert len(read(tmp_path / "f.npz")) == 5


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--blob", "conv"), 'error: the net has no blob "conv". Did you mean "conv1" or "conv2"'),
        (("-o", "no/f.npz"), "no/f.npz: there is no folder no"),
        (("-o", "f.txt"), 'f.txt: no format of features ends in ".txt". Take .npz, .h5, .parquet'),
    ],
)
def test_wrong_usage_is_told(
    world: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    line = ["features", str(world / "model"), str(world / "photos"), "-o", "f.npz", *arguments]
    done = CliRunner().invoke(main, line)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith(told)
