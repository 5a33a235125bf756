"""A training killed again and again, through the command line: nothing but an interval is lost."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data.conftest import lmdb_file

from torrefy.data.sources.datum import write_datum

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="a signal of Unix")

INTERVAL = 3
"""Iterations between two snapshots."""
NET = """name: "killed"
layer {{ name: "data" type: "{type}" top: "data" top: "label"
  transform_param {{ crop_size: 8 mirror: true mean_value: 120 scale: 0.02 }} {source} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param {{ num_output: 6 kernel_size: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "norm" type: "BatchNorm" bottom: "conv" top: "norm" }}
layer {{ name: "relu" type: "ReLU" bottom: "norm" top: "norm" }}
layer {{ name: "drop" type: "Dropout" bottom: "norm" top: "norm" }}
layer {{ name: "ip" type: "InnerProduct" bottom: "norm" top: "ip"
  inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }}
"""
SOURCES = {
    "Data": 'data_param { source: "db" batch_size: 4 backend: LMDB rand_skip: 5 }',
    "ImageData": 'image_data_param { source: "list.txt" batch_size: 4 shuffle: true }',
}
SOLVER = """net: "net.prototxt" type: "{type}" random_seed: 7 snapshot_prefix: "snap"
base_lr: 0.01 lr_policy: "step" gamma: 0.9 stepsize: 50 momentum: 0.9 weight_decay: 0.001
max_iter: {iterations}
"""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with 30 pictures of three classes, as a list and as an LMDB."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 3, 11, 10), np.uint8)
    for i, picture in enumerate(pixels):
        Image.fromarray(picture.transpose(1, 2, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "list.txt").write_text(
        "".join(f"{tmp_path}/{i}.png {i % 3}\n" for i in range(len(pixels)))
    )
    records = [(b"%08d" % i, write_datum(picture, i % 3)) for i, picture in enumerate(pixels)]
    (tmp_path / "db").mkdir()
    (tmp_path / "db/data.mdb").write_bytes(lmdb_file(records))
    return tmp_path


def start(folder: Path, workers: int, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "torrefy", "train", "solver.prototxt", "--workers", str(workers),
         *options],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> None:
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told


def snapshots(folder: Path) -> list[int]:
    """The iterations that have a solverstate."""
    return sorted(int(p.stem.rpartition("_")[2]) for p in folder.glob("*.solverstate"))


def result(folder: Path, iterations: int) -> list[bytes]:
    stem = f"snap_iter_{iterations}"
    return [(folder / f"{stem}{end}").read_bytes() for end in (".caffemodel", ".solverstate")]


def killed_at_random(folder: Path, chance: random.Random, most: int) -> tuple[int, int]:
    """Train on, and kill the process: while it starts, or some iterations later.

    Returns:
        The iteration that it began with, and the last that it told of; -1 and -1 where it was
        killed before it told of any.
    """
    process = start(folder, 2, *(["--resume", "."] if snapshots(folder) else []))
    assert process.stderr is not None
    told: list[int] = []

    def heard(line: str) -> None:
        told.extend(int(number) for number in re.findall(r"^Iteration (\d+).* loss = ", line))

    if not chance.randrange(10):
        time.sleep(chance.uniform(0, 2))
    else:
        wanted = chance.randint(1, most)
        while len(told) < wanted and (line := process.stderr.readline()):
            heard(line)
        time.sleep(chance.uniform(0, 0.03))
    assert process.poll() is None, process.stderr.read()
    process.kill()
    out, rest = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert out == ""
    deadline = time.monotonic() + 10
    while processes_in(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_in(folder) == []  # its workers have ended, too
    for line in rest.splitlines():
        heard(line)
    return (told[0], told[-1]) if told else (-1, -1)


def processes_in(folder: Path) -> list[int]:
    """The processes whose working folder this is; none where the system has no /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == folder:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def check_kills(folder: Path, kind: str, solver: str, kills: int, most: int) -> None:
    iterations = 60 + kills * (most + 10)
    net = NET.format(type=kind, source=SOURCES[kind])
    (folder / "net.prototxt").write_text(net)
    text = SOLVER.format(type=solver, iterations=iterations)
    (folder / "solver.prototxt").write_text(text)
    finish(start(folder, 0))
    whole = result(folder, iterations)
    for path in folder.glob("snap_*"):
        path.unlink()
    (folder / "solver.prototxt").write_text(f"{text} snapshot: {INTERVAL} display: 1")
    chance = random.Random(kills)
    reached = lost = 0
    for _ in range(kills):
        began, ended = killed_at_random(folder, chance, most)
        kept = max([0, *snapshots(folder)])
        if ended >= 0:
            assert began == reached  # where the last snapshot is, bit by bit, it goes on
            lost = max(lost, ended - kept)
            assert ended - kept <= INTERVAL
        assert kept >= reached
        reached = kept
    assert 0 < reached < iterations
    for part in folder.rglob("*.part"):
        os.utime(part, (0, 0))
    finish(start(folder, 2, "--resume", "."))
    assert list(folder.rglob("*.part")) == []  # what was half-written is swept when it is old
    lines = (folder / "snap.run/history.csv").read_text().splitlines()
    seen = [int(line.split(",")[0]) for line in lines[1:]]
    assert seen == sorted(set(seen))
    assert seen[-1] == iterations
    assert result(folder, iterations) == whole
    print(f"{kind}, {solver}: {kills} kills up to iteration {reached}, at most {lost} lost")
    assert processes_in(folder) == []


def test_killed_at_any_moment_a_run_resumes_and_ends_with_the_same_bits(pictures: Path) -> None:
    check_kills(pictures, "ImageData", "SGD", kills=2, most=20)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "solver"), [("Data", "SGD"), ("ImageData", "Adam")])
def test_killed_50_times_a_run_ends_with_the_same_bits(
    pictures: Path, kind: str, solver: str
) -> None:
    check_kills(pictures, kind, solver, kills=50, most=30)
