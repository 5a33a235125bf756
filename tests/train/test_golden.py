"""Every training of the reference, against the losses, rates and weights of real Caffe."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.conftest import SHARED

from torrefy.schema import new_message
from torrefy.train.snapshots import read_state
from torrefy.train.solver import Solver

CHOSEN = Path(__file__).parents[1] / "golden/solvers"
"""A few cases of real Caffe that are always there; the rest is looked for beside the repository."""

RTOL, ATOL = 1e-4, 1e-5


def cases() -> list[Path]:
    everything = SHARED / "golden/solvers"
    root = everything if everything.is_dir() else CHOSEN
    return sorted(meta.parent for meta in root.glob("*/meta.json"))


def snapshots() -> list[tuple[Path, str]]:
    return [
        (folder, state.name)
        for folder in cases()
        for state in sorted(folder.glob("*.solverstate*"))
    ]


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path,
         monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:  # fmt: skip
    """A case's folder, copied, as the working folder."""
    folder = tmp_path / "case"
    shutil.copytree(request.param, folder)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    monkeypatch.chdir(folder)
    return folder


def same_weights(solver: Solver, expected: dict[str, np.ndarray], prefix: str) -> None:
    compared = 0
    for key, value in expected.items():
        what, _, rest = key.partition(":")
        if what == prefix:
            layer, index = rest.rsplit(":", 1)
            ours = solver.net.params[layer][int(index)].detach().numpy()
            np.testing.assert_allclose(ours, value, RTOL, ATOL, err_msg=key)
            compared += 1
    assert compared


def trajectory(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "trajectory.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("case", cases(), ids=lambda p: p.name, indirect=True)
def test_a_solver_trains_as_caffe_does(case: Path) -> None:
    expected = trajectory(case)
    solver = Solver("solver.prototxt", weights="init.caffemodel")
    same_weights(solver, expected, "w0")
    rates, losses = [], []
    for count in range(1, 21):
        rates.append(solver.lr)
        losses += solver.step()
        assert solver.iteration == count
        if f"w{count}:ip2:0" in expected:
            same_weights(solver, expected, f"w{count}")
    np.testing.assert_allclose(rates, expected["lr"], rtol=1e-5)
    np.testing.assert_allclose(losses, expected["loss"], RTOL, ATOL)


@pytest.mark.parametrize(
    ("case", "state"), snapshots(), ids=lambda p: p.parent.name if isinstance(p, Path) else p,
    indirect=["case"],
)  # fmt: skip
def test_a_snapshot_of_caffe_is_resumed_as_caffe_does(case: Path, state: str) -> None:
    expected = trajectory(case)
    solver = Solver("solver.prototxt", resume=state)
    assert solver.iteration == 10
    same_weights(solver, expected, "w10")
    losses = solver.step(10)
    np.testing.assert_allclose(losses, expected["loss"][10:], RTOL, ATOL)
    same_weights(solver, expected, "resumed")


@pytest.mark.parametrize(
    ("case", "state"), snapshots(), ids=lambda p: p.parent.name if isinstance(p, Path) else p,
    indirect=["case"],
)  # fmt: skip
def test_a_snapshot_holds_what_caffes_holds(case: Path, state: str) -> None:
    theirs = read_state(case / state)
    kind = "hdf5" if state.endswith(".h5") else "binaryproto"
    solver = Solver(f"solver_snapshot_{kind}.prototxt", weights="init.caffemodel")
    solver.step(10)
    old = (case / state).read_bytes()
    ours_path = solver.snapshot()
    assert ours_path.name == state
    ours = read_state(ours_path)
    assert (ours.iteration, ours.current_step) == (theirs.iteration, theirs.current_step)
    assert ours.learned_net == theirs.learned_net
    for mine, other in zip(ours.history, theirs.history, strict=True):
        assert mine.shape == other.shape
        np.testing.assert_allclose(mine, other, RTOL, ATOL)
    if kind == "binaryproto":
        message, caffe = new_message("caffe.SolverState"), new_message("caffe.SolverState")
        message.ParseFromString(ours_path.read_bytes())
        caffe.ParseFromString(old)
        assert message.iter == caffe.iter
        assert [b.shape for b in message.history] == [b.shape for b in caffe.history]
        assert len(message.history[0].data) == len(caffe.history[0].data)
        assert len(ours_path.read_bytes()) == len(old)
        return
    with h5py.File(ours_path) as file:
        assert file["iter"].shape == (1,)
        assert file["iter"].dtype == np.int32
        assert file["learned_net"][()] == theirs_path(old)


def theirs_path(state: bytes) -> bytes:
    import io

    with h5py.File(io.BytesIO(state)) as file:
        path: bytes = file["learned_net"][()]
    return path
