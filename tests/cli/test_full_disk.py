"""Disks that fill, or go, under a training: one error, and the last snapshot is whole."""

from __future__ import annotations

import contextlib
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.cli.conftest import Run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits and mounts of Unix")

NET = """layer { name: "data" type: "HDF5Data" top: "data" top: "label"
  hdf5_data_param { source: "files.txt" batch_size: 4 shuffle: true } }
layer { name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
  inner_product_param { num_output: 600 weight_filler { type: "xavier" } } }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""
WEIGHTS = 4 * (100 * 600 + 600 + 600 * 3 + 3)
"""Bytes of the net's weights, and of its history."""
SOLVER = """net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 random_seed: 1
max_iter: 9 snapshot: 3 snapshot_prefix: "kept/snap"
"""


@pytest.fixture
def problem(tmp_path: Path) -> Path:
    """A folder with a solver, a net, data, and an empty folder for its snapshots."""
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["data"] = np.random.default_rng(0).normal(size=(20, 100)).astype("f4")
        file["label"] = (np.arange(20) % 3).astype("f4")
    (tmp_path / "files.txt").write_text("rows.h5\n")
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    (tmp_path / "kept").mkdir()
    return tmp_path


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "kept").iterdir() if path.name != "snap.run")


def snapshot(iteration: int) -> list[str]:
    endings = ("caffemodel", "solverstate", "torrefy.safetensors")
    return [f"snap_iter_{iteration}.{ending}" for ending in endings]


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A disk of so many bytes in place of a folder; the test is skipped where it can't be had."""
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True, check=False,
    ) if shutil.which("mount") else None  # fmt: skip
    if made is None or made.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


FULL = "No space left on device"


@pytest.mark.parametrize(
    ("room", "file"),
    [(2.5, "caffemodel"), (3.5, "solverstate"), (4.001, "solverstate")],
)
def test_a_disk_that_fills_leaves_the_last_snapshot_and_a_run_goes_on_when_it_is_freed(
    run: Run, problem: Path, room: float, file: str
) -> None:
    assert run("train", "solver.prototxt").exit_code == 0
    expected = (problem / "kept/snap_iter_9.caffemodel").read_bytes()
    shutil.rmtree(problem / "kept")
    (problem / "kept").mkdir()
    with small_disk(problem / "kept", int(room * WEIGHTS)):
        result = run("train", "solver.prototxt")
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1] == (
            f"kept/snap_iter_6.{file}: can't be written: {FULL}"
        )
        assert kept(problem) == snapshot(3)
        larger = f"remount,size={100 * WEIGHTS}"
        subprocess.run(["mount", "-o", larger, str(problem / "kept")], check=True)
        result = run("train", "solver.prototxt", "--resume", "kept")
        assert result.exit_code == 0
        assert (problem / "kept/snap_iter_9.caffemodel").read_bytes() == expected


def test_a_snapshot_that_cant_be_written_again_stays_as_it_was(run: Run, problem: Path) -> None:
    assert run("train", "solver.prototxt").exit_code == 0
    before = {name: (problem / "kept" / name).read_bytes() for name in kept(problem)}
    shutil.move(problem / "kept", problem / "moved")
    (problem / "kept").mkdir()
    (problem / "solver.prototxt").write_text(SOLVER.replace("snapshot: 3", ""))
    with small_disk(problem / "kept", int(6.5 * WEIGHTS)):
        for name in before:
            shutil.copy(problem / "moved" / name, problem / "kept" / name)
        result = run("train", "solver.prototxt", "--resume", "kept/snap_iter_9.solverstate")
        after = {name: (problem / "kept" / name).read_bytes() for name in kept(problem)}
    assert result.exit_code == 1
    assert result.stderr == f"kept/snap_iter_9.caffemodel: can't be written: {FULL}\n"
    assert after == before


def test_a_limit_of_the_size_of_files_is_told_and_nothing_half_written_is_left(
    run: Run, problem: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (WEIGHTS // 2, hard))
    try:
        result = run("train", "solver.prototxt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result.exit_code == 1
    assert result.stderr == "kept/snap_iter_3.caffemodel: can't be written: File too large\n"
    assert kept(problem) == []


@pytest.mark.parametrize("how", ["removed", "read-only"])
def test_a_folder_of_snapshots_that_goes_during_a_run_is_told(problem: Path, how: str) -> None:
    text = SOLVER.replace("max_iter: 9", "max_iter: 100000").replace("snapshot: 3", "snapshot: 300")
    (problem / "solver.prototxt").write_text(f"{text} display: 1")
    folder = problem / "kept"
    with small_disk(folder, 100 * WEIGHTS) if how == "read-only" else contextlib.nullcontext():
        process = subprocess.Popen(
            [sys.executable, "-m", "torrefy", "train", "solver.prototxt", "--no-run"],
            cwd=problem, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        while "Iteration 3," not in process.stderr.readline().replace(" (", ","):
            assert process.poll() is None
        if how == "removed":
            shutil.rmtree(folder)
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in told
    reason = {"removed": "No such file or directory", "read-only": "Read-only file system"}[how]
    assert told.splitlines()[-1] == f"kept/snap_iter_300.caffemodel: can't be written: {reason}"


def test_a_full_disk_under_the_folder_of_a_run_ends_it_with_a_snapshot(
    run: Run, problem: Path
) -> None:
    text = SOLVER.replace("max_iter: 9", "max_iter: 1000").replace("snapshot: 3", "display: 1")
    (problem / "solver.prototxt").write_text(text)
    folder = problem / "kept/snap.run"
    folder.mkdir()
    with small_disk(folder, 40_000):
        (folder / "ballast").write_bytes(bytes(20_000))
        result = run("train", "solver.prototxt")
        assert not list(folder.glob("*.part"))
    assert result.exit_code == 1
    first, last = result.stderr.splitlines()[-2:]
    (state,) = (problem / "kept").glob("*.solverstate")
    assert first == f"wrote kept/{state.name} before giving up"
    assert last == f"kept/snap.run/history.csv: can't be written: {FULL}"
