"""Snapshots: whole or not there, gone on from bit by bit, and refused where they do not fit."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from tests.train.conftest import NET, SOLVER
from tests.train.test_solver import input_net, rows, same
from torch.utils.data import DataLoader, TensorDataset

from torrefy.errors import TorrefyError, WeightsError
from torrefy.schema import new_message
from torrefy.train.feed import Arrays
from torrefy.train.snapshots import SolverState, find_state, read_state, write_state
from torrefy.train.solver import Solver

Make = Callable[..., Solver]


@pytest.mark.parametrize("ending", ["", ".h5"])
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_a_resumed_run_has_the_bits_of_one_that_was_not_broken_off(
    make: Make, kind: str, ending: str
) -> None:
    more = f'type: "{kind}" snapshot_format: {"HDF5" if ending else "BINARYPROTO"} '
    more += "test_iter: 1 test_interval: 4"
    whole = make(more)
    first = whole.step(7)
    path = whole.snapshot()
    assert path.name == f"snap_iter_7.solverstate{ending}"
    assert sorted(p.name for p in Path().glob("snap*")) == [
        f"snap_iter_7.caffemodel{ending}",
        f"snap_iter_7.solverstate{ending}",
        "snap_iter_7.torrefy.safetensors",
    ]
    rest = whole.step(8)
    torch.manual_seed(99)
    resumed = make(more, resume=path)
    assert (resumed.iteration, resumed.notes) == (7, [])
    assert resumed.step(8) == rest != first
    assert same(whole, resumed)
    assert resumed.scores[0].keys() == whole.scores[0].keys()
    assert all(torch.equal(resumed.scores[0][k], whole.scores[0][k]) for k in whole.scores[0])


@pytest.mark.parametrize("kind", ["loader", "arrays", "list"])
def test_what_is_handed_over_is_gone_on_with_too(make: Make, folder: Path, kind: str) -> None:
    input_net(folder)
    arrays = rows()
    data, label = (torch.from_numpy(arrays[name]) for name in ("data", "label"))

    def feeds() -> Any:
        return {
            "loader": DataLoader(TensorDataset(data, label), batch_size=6, shuffle=True),
            "arrays": Arrays(arrays, 6, shuffle=True),
            "list": [(data[i : i + 5], label[i : i + 5]) for i in range(0, 20, 5)],
        }[kind]

    whole = make(feeds=feeds())
    whole.step(6)
    path = whole.snapshot()
    rest = whole.step(7)
    assert make(resume=path, feeds=feeds()).step(7) == rest


def test_without_what_caffe_forgets_the_data_begin_anew_and_that_is_noted(make: Make) -> None:
    solver = make()
    solver.step(3)
    path = solver.snapshot()
    Path("snap_iter_3.torrefy.safetensors").unlink()
    resumed = make(resume=path)
    assert resumed.iteration == 3
    assert resumed.notes == [
        "snap_iter_3.solverstate: nothing tells where the data were, so they begin anew, as in "
        "Caffe"
    ]


def test_the_drops_of_the_rate_are_kept(make: Make) -> None:
    text = SOLVER.replace('"fixed"', '"multistep" gamma: 0.5 stepvalue: 2 stepvalue: 2')
    solver = make(text=text)
    solver.step(3)
    assert read_state(solver.snapshot()).current_step == 1
    assert solver.lr == pytest.approx(0.025)
    assert make(text=text, resume="snap_iter_3.solverstate").lr == pytest.approx(0.025)


def test_snapshots_are_made_when_they_are_due(make: Make) -> None:
    make("snapshot: 10").solve()
    found = sorted(p.name for p in Path().glob("*.solverstate"))
    assert found == ["snap_iter_10.solverstate", "snap_iter_20.solverstate",
                     "snap_iter_30.solverstate"]  # fmt: skip
    assert make(resume=".").iteration == 30


def test_a_snapshot_can_be_moved(make: Make, folder: Path) -> None:
    make().solve()
    (folder / "kept").mkdir()
    for path in folder.glob("snap*"):
        shutil.move(path, folder / "kept" / path.name)
    assert read_state(folder / "kept/snap_iter_30.solverstate").learned_net == (
        "snap_iter_30.caffemodel"
    )
    assert make(resume="kept/snap_iter_30.solverstate").iteration == 30


def test_statistics_and_frozen_params_have_a_history_of_zeros_as_in_caffe(make: Make) -> None:
    solver = make()
    solver.step(2)
    history = read_state(solver.snapshot()).history
    assert [blob.shape for blob in history] == [(6, 5), (6,), (6,), (6,), (1,), (3, 6), (3,)]
    assert [bool(blob.any()) for blob in history] == [True] * 2 + [False] * 3 + [True] * 2


def test_a_disk_that_fills_leaves_the_last_snapshot_as_it_was(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    solver = make()
    solver.step(2)
    solver.snapshot()
    solver.step(1)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fail)
        with pytest.raises(WeightsError) as error:
            solver.snapshot()
    assert str(error.value) == "snap_iter_3.caffemodel: can't be written: No space left on device"
    assert sorted(p.name for p in Path().glob("*iter_3*")) == []
    assert sorted(p.name for p in Path().glob("*.part")) == []
    assert find_state(".").name == "snap_iter_2.solverstate"


def test_what_killed_processes_left_half_written_is_removed(make: Make, folder: Path) -> None:
    old, new = folder / ".torrefy-1.part", folder / ".torrefy-2.part"
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (0, 0))
    make().snapshot()
    assert not old.exists()
    assert new.exists()  # another process may be writing it


# --- What is refused ---


def test_a_snapshot_of_another_net_is_told(make: Make, folder: Path) -> None:
    solver = make()
    solver.step(1)
    path = solver.snapshot()
    before = [p.detach().clone() for p in solver.net.parameters()]
    (folder / "net.prototxt").write_text(NET.replace("num_output: 6", "num_output: 7"))
    with pytest.raises(WeightsError) as error:
        make(resume=path)
    assert str(error.value) == (
        'snap_iter_1.solverstate: history 0 is 6x5 in the snapshot, but blob 0 of layer "ip1" is '
        "7x5 in the net. Is it of another net?"
    )
    (folder / "net.prototxt").write_text(NET)
    with pytest.raises(WeightsError) as error:
        make('type: "Adam"', resume=path)
    assert str(error.value) == (
        "snap_iter_1.solverstate: the snapshot has a history of 7 blobs, the solver keeps 14. Is "
        "it of another net, or of another type of solver?"
    )
    (folder / "net.prototxt").write_text(NET.replace('"ip1"', '"fc"'))
    with pytest.raises(WeightsError) as error:
        make(resume=path)
    assert str(error.value).startswith(
        "snap_iter_1.caffemodel: the file has nothing for 1 of the net's layers: fc."
    )
    for mine, kept in zip(solver.net.parameters(), before, strict=True):
        assert torch.equal(mine, kept)


def test_files_that_are_no_solverstate_are_told(make: Make, folder: Path) -> None:
    solver = make("snapshot_format: HDF5")
    solver.step(1)
    solver.snapshot()
    solver.net.save("w.caffemodel")
    state = (folder / "snap_iter_1.solverstate.h5").read_bytes()
    (folder / "cut.solverstate.h5").write_bytes(state[:1000])
    (folder / "empty.solverstate").write_bytes(b"")
    (folder / "text.solverstate").write_text("iter: 5")
    (folder / "weights.solverstate.h5").write_bytes(
        (folder / "snap_iter_1.caffemodel.h5").read_bytes()
    )
    (folder / "sub").mkdir()
    told = {
        "w.caffemodel": "these are weights, not a solverstate. Give the .solverstate beside it; or "
        "the weights as weights, to begin anew.",
        "snap_iter_2.solverstate.h5": 'no such file. Did you mean "snap_iter_1.solverstate.h5"?',
        "empty.solverstate": "the file is empty",
        "weights.solverstate.h5": "this is no solverstate: these are weights. Give the "
        ".solverstate.h5 beside it.",
        "cut.solverstate.h5": f"the file is cut off: it has 1000 bytes of {len(state)}",
        "sub": "there is no solverstate in this folder",
    }
    for name, message in told.items():
        with pytest.raises(WeightsError) as error:
            make(resume=name)
        assert str(error.value) == f"{name}: {message}"
    with pytest.raises(WeightsError):
        make(resume="text.solverstate")


@pytest.mark.parametrize("name", ["a.solverstate", "a.solverstate.h5"])
def test_a_state_of_a_negative_iteration_is_damaged(folder: Path, name: str) -> None:
    write_state(folder / name, SolverState(-3))
    with pytest.raises(WeightsError) as error:
        read_state(Path(name))
    assert str(error.value) == f"{name}: damaged: it is of iteration -3 and step 0"


def test_a_folder_with_the_snapshots_of_several_runs_is_told(folder: Path) -> None:
    for name in ("a_iter_5", "a_iter_10", "b_iter_3"):
        write_state(folder / f"{name}.solverstate", SolverState(1))
    with pytest.raises(WeightsError) as error:
        find_state(".")
    assert str(error.value) == (
        ".: there are solverstates of several runs in this folder: a, b. Give the file."
    )
    (folder / "b_iter_3.solverstate").unlink()
    assert find_state(".").name == "a_iter_10.solverstate"


def test_weights_that_are_gone_are_told(make: Make, folder: Path) -> None:
    solver = make()
    path = solver.snapshot()
    (folder / "snap_iter_0.caffemodel").unlink()
    with pytest.raises(WeightsError) as error:
        make(resume=path)
    assert str(error.value) == (
        'snap_iter_0.solverstate: the weights "snap_iter_0.caffemodel" that belong to it are not '
        "beside it"
    )


def test_extra_state_of_another_snapshot_is_told(make: Make, folder: Path) -> None:
    solver = make()
    solver.snapshot()
    solver.step(1)
    path = solver.snapshot()
    shutil.copy("snap_iter_0.torrefy.safetensors", "snap_iter_1.torrefy.safetensors")
    with pytest.raises(WeightsError) as error:
        make(resume=path)
    assert str(error.value) == (
        "snap_iter_1.torrefy.safetensors: this belongs to another snapshot than that of iteration "
        "1. Delete it to resume as Caffe does, with the data from their beginning."
    )
    (folder / "snap_iter_1.torrefy.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(WeightsError, match="damaged"):
        make(resume=path)


def test_batches_of_an_iterator_cant_be_resumed(make: Make, folder: Path) -> None:
    input_net(folder)
    solver = make(feeds=[rows()])
    path = solver.snapshot()
    with pytest.raises(TorrefyError) as error:
        make(feeds=iter([rows()]), resume=path)
    assert str(error.value) == (
        "batches of an iterator can't be found again to resume. Give something that can be run "
        "through again, as a list or a DataLoader."
    )


@pytest.mark.parametrize("seed", range(40))
def test_a_state_of_random_bytes_is_read_or_refused(make: Make, folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = folder / f"x.solverstate{'.h5' if seed % 2 else ''}"
    write_state(path, SolverState(5, 1, (np.ones((2, 3), "f4"), np.zeros(4, "f4")), "x.caffemodel"))
    data = bytearray(path.read_bytes())
    for _ in range(3):
        data[chance.randrange(len(data))] = chance.randrange(256)
    path.write_bytes(data[: chance.choice([len(data), chance.randrange(len(data))])])
    try:
        read_state(path)
    except TorrefyError:
        pass


# --- As files ---


def test_a_state_is_caffes_message_and_caffes_hdf5(folder: Path) -> None:
    history = (np.arange(6, dtype="f4").reshape(2, 3), np.float32(3).reshape(()))
    state = SolverState(20_000_001, 4, history, "out/net.caffemodel")
    write_state(folder / "a.solverstate", state)
    message = new_message("caffe.SolverState")
    message.ParseFromString((folder / "a.solverstate").read_bytes())
    assert (message.iter, message.current_step) == (20_000_001, 4)
    assert message.learned_net == "out/net.caffemodel"
    assert list(message.history[0].shape.dim) == [2, 3]
    write_state(folder / "a.solverstate.h5", state)
    with h5py.File("a.solverstate.h5") as file:
        assert sorted(file) == ["current_step", "history", "iter", "learned_net"]
        assert file["iter"][()].tolist() == [20_000_001]
        assert file["learned_net"].dtype == "S19"  # the text and a zero byte
        np.testing.assert_array_equal(file["history/0"][()], history[0])
    for name in ("a.solverstate", "a.solverstate.h5"):
        back = read_state(folder / name)
        assert (back.iteration, back.current_step) == (20_000_001, 4)
        for mine, other in zip(back.history, history, strict=True):
            np.testing.assert_array_equal(mine, other)
