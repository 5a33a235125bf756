"""Several processes that train one net: what one would learn with the batches of all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from tests.train import together
from torch.distributed import TCPStore

from torrefy.errors import TorrefyError
from torrefy.net.stored import read_weights
from torrefy.train.distributed import Processes, own_gpu
from torrefy.train.solver import Solver

TOGETHER = Path(together.__file__)
SCENARIOS = (
    "momentum", "iter_size", "clipped", "adam", "afterwards", "idle", "sync_batch_norm",
    "batch_norm", "arrays", "tests", "resumed", "agreed", "seeds", "undisturbed",
)  # fmt: skip
Results = Callable[..., dict[str, Any]]


def rows(folder: Path) -> None:
    random = np.random.default_rng(0)
    label = np.arange(20) % 3
    data = random.normal(size=(20, 5)) + 2 * np.eye(5)[label]
    with h5py.File(folder / "rows.h5", "w") as file:
        file["data"], file["label"] = data.astype("f4"), label.astype("f4")
    (folder / "train.txt").write_text("rows.h5\n")


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


class Running(list["subprocess.Popen[str]"]):
    """The same command so many times, started as torchrun does, with a store of its own."""

    def __init__(self, count: int, *command: str, cwd: Path) -> None:
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        super().__init__(
            subprocess.Popen(
                [sys.executable, *command], cwd=cwd, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=environment(
                    RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count),
                    LOCAL_WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1",
                    MASTER_PORT=str(self.store.port), TORCHELASTIC_USE_AGENT_STORE="True",
                ),
            )
            for rank in range(count)
        )  # fmt: skip

    def told(self) -> list[str]:
        """What each has said on stderr, once all have ended."""
        return [process.communicate(timeout=100)[1] for process in self]

    @property
    def codes(self) -> list[int]:
        return [process.returncode for process in self]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """`two("momentum", rank)`: what a process of two has come to."""
    folder = tmp_path_factory.mktemp("two")
    rows(folder)
    both = Running(2, str(TOGETHER), str(folder), *SCENARIOS, cwd=folder)
    told = both.told()
    assert both.codes == [0, 0], told

    def found(name: str, rank: int = 0) -> dict[str, Any]:
        with np.load(folder / f"{name}.{rank}.npz") as file:
            return {**file, "folder": folder}

    return found


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Results]:
    """`one("momentum")`: what one process comes to with batches twice as large."""
    monkeypatch.chdir(tmp_path)
    rows(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield lambda name: getattr(together, name)()
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "name", ["momentum", "iter_size", "clipped", "adam", "idle", "sync_batch_norm", "arrays"]
)
def test_two_processes_learn_what_one_does_from_batches_twice_as_large(
    two: Results, one: Results, name: str
) -> None:
    alone = one(name)
    for rank in range(2):
        found = two(name, rank)
        for blob, values in alone.items():
            np.testing.assert_allclose(found[blob], values, rtol=1e-5, atol=1e-6, err_msg=blob)


def test_gradients_sent_during_the_pass_and_after_it_are_the_same_bits(two: Results) -> None:
    early, late = two("momentum"), two("afterwards")
    assert all(np.array_equal(early[name], late[name]) for name in early if name != "folder")


def test_batch_norm_goes_by_each_process_and_the_first_one_is_kept_and_tested(
    two: Results,
) -> None:
    first, second = two("batch_norm", 0), two("batch_norm", 1)
    assert np.array_equal(first["ip2.0"], second["ip2.0"])
    assert not np.array_equal(first["norm.0"], second["norm.0"])
    for name in ("loss", "accuracy"):
        assert first[f"score {name}"] == second[f"score {name}"]


def test_each_process_tests_its_share_and_the_scores_are_those_of_one(
    two: Results, one: Results
) -> None:
    # 5 batches of 3 rows of 20: every test gets other ones, and they don't divide by 2.
    alone = one("tests")["scores"]
    assert len(set(alone[::2])) == 3
    for rank in range(2):
        np.testing.assert_allclose(two("tests", rank)["scores"], alone, rtol=1e-5)


def test_a_resumed_run_of_two_has_the_bits_of_one_that_was_not_broken_off(two: Results) -> None:
    # That it has is asserted in `together.resumed`, by both.
    first, second = two("resumed", 0), two("resumed", 1)
    assert not np.array_equal(first["drawn"], second["drawn"])  # Dropout
    assert np.array_equal(first["ip1.0"], second["ip1.0"])
    assert list(first["files"]) == [
        "whole_iter_5.caffemodel", "whole_iter_5.solverstate", "whole_iter_5.torrefy.safetensors",
    ]  # fmt: skip


def test_one_process_goes_on_with_what_two_have_begun(
    two: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(two("resumed")["folder"])
    solver = Solver("whole.solver", resume="whole_iter_5.solverstate")
    assert solver.iteration == 5
    assert solver.notes == [
        "whole_iter_5.solverstate: written by 2 processes, gone on with by 1: the data go on "
        "where they were, Dropout draws anew"
    ]
    # Five iterations of two batches of 4.
    assert solver.feed.state_dict()["data"]["position"] == 40


def test_what_one_process_wants_all_do(two: Results) -> None:
    for rank, told in ((0, 5), (1, 0)):
        found = two("agreed", rank)
        assert (found["iteration"], found["stopped"], found["told"]) == (5, True, told)
        assert list(found["files"]) == ["agreed_iter_3.solverstate", "agreed_iter_5.solverstate"]


def test_without_a_seed_all_begin_with_the_same_weights(two: Results) -> None:
    first, second = two("seeds", 0), two("seeds", 1)
    assert first["seed"] == second["seed"]
    assert np.array_equal(first["ip1.0"], second["ip1.0"])
    assert list(first["notes"]) == ["2 processes: 2 x 4 = 8 rows a step"]


def test_alone_there_is_nobody_to_agree_with() -> None:
    alone = Processes()
    assert (alone.rank, alone.world, alone.leads, alone.together) == (0, 1, True, False)
    assert alone.any(True, False) == (True, False)
    assert alone.all("x") == ["x"]
    assert alone.share(3, 5) == 5


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
NAME = "run"
LONG = "display: 1 snapshot: 1000 "


def write(folder: Path, fields: str = "", *, more: str = together.DROP, steps: int = 12) -> None:
    rows(folder)
    text = together.SOLVER.format(name=NAME, seed=7).replace("100", str(steps))
    (folder / f"{NAME}.solver").write_text(text + fields)
    (folder / f"{NAME}.net").write_text(together.PLAIN.format(batch=4, more=more))


def snapshots(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob(f"{NAME}_iter_*.solverstate"))


def test_what_one_process_can_not_do_ends_all_with_one_message(tmp_path: Path) -> None:
    write(tmp_path, more="")
    with h5py.File(tmp_path / "rows.h5", "r+") as file:
        file["label"][13] = 7
    net = tmp_path / f"{NAME}.net"
    net.write_text(net.read_text().replace(" shuffle: true", ""))
    # The second batch of the second process has the thirteenth row; batches are of 4.
    command = ("-m", "torrefy", "train", f"{NAME}.solver", "--log", "none", "--no-verify")
    both = Running(2, *command, cwd=tmp_path)
    assert [told.splitlines() for told in both.told()] == [
        [f"{NAME}.solver: note: 2 processes: 2 x 4 = 8 rows a step",
         f"wrote {NAME}_iter_1.solverstate before giving up"],
        ['rows.h5 (row 13): layer "data": the label is 7, but there are 3 classes, from 0 to 2'],
    ]  # fmt: skip
    assert both.codes == [1, 1]


def test_a_slip_that_all_processes_find_is_told_once(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.solver").write_text("net: 1")
    both = Running(2, "-m", "torrefy", "train", f"{NAME}.solver", cwd=tmp_path)
    told = f'{NAME}.solver:1:6: "net" takes a text in quotes, found 1. Write "1".\n'
    assert sorted(both.told()) == ["", told]
    assert both.codes == [1, 1]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of Unix")
def test_a_signal_to_one_process_stops_all_with_one_snapshot(tmp_path: Path) -> None:
    write(tmp_path, LONG, steps=10**6)
    both = Running(2, "-m", "torrefy", "train", f"{NAME}.solver", cwd=tmp_path)
    assert both[0].stderr is not None
    while not both[0].stderr.readline().startswith("Iteration 3"):
        pass
    both[1].send_signal(signal.SIGTERM)
    out = [process.communicate(timeout=100) for process in both]
    assert both.codes == [130, 130]
    (snapshot,) = snapshots(tmp_path)
    assert out[0][0].splitlines()[-1] == f"wrote {snapshot}"
    assert out[1] == ("", "")


KILLER = """TORREFY_API = 1
import os, signal
from torrefy.plugins import hookimpl
from torrefy.train.callbacks import Callback, callback

@callback("Killer")
class Killer(Callback):
    "Kills the second process, once."
    def on_update(self, solver, loss):
        if (solver.iteration, solver.processes.rank, solver.processes.restarts) == (9, 1, 0):
            os.kill(os.getpid(), signal.SIGKILL)

@hookimpl
def torrefy_train_callbacks():
    return [Killer]
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of Unix")
def test_a_training_goes_on_from_its_last_snapshot_when_a_process_was_killed(
    two: Results, tmp_path: Path
) -> None:
    write(tmp_path, "snapshot: 4 test_iter: 3 test_interval: 6")
    (tmp_path / "killer.py").write_text(KILLER)
    command = [
        sys.executable, *TORCHRUN, "--max-restarts", "1", "-m", "torrefy", "train",
        f"{NAME}.solver", "--plugin", "killer.py", "--callback", "Killer",
    ]  # fmt: skip
    result = subprocess.run(
        command, cwd=tmp_path, env=environment(), timeout=200, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    told = result.stderr.splitlines()
    assert (
        f"{NAME}.solver: note: started anew after a process had ended: goes on from "
        f"{NAME}_iter_8.solverstate"
    ) in told
    (lost,) = [one for one in told if one.startswith("error: ")]
    assert lost.startswith("error: another process of this training has ended or does not answer (")
    undisturbed = two("undisturbed")
    for layer in read_weights(tmp_path / f"{NAME}_iter_12.caffemodel").layers:
        for i, blob in enumerate(layer.blobs):
            assert np.array_equal(blob, undisturbed[f"{layer.name}.{i}"])


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ("cuda", "there are 4 processes on this machine, but 2 GPUs. Start as many: torchrun "
                 "--nproc-per-node 2."),
        ("cuda:1", 'the device "cuda:1" is one GPU, but there are 4 processes on this machine. '
                   'Give "cuda": each process takes the GPU of its own number.'),
    ],
)  # fmt: skip
def test_each_process_has_a_gpu_of_its_own(
    monkeypatch: pytest.MonkeyPatch, device: str, told: str
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(TorrefyError) as error:
        own_gpu(device)
    assert str(error.value) == told


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpus_learn_what_the_cpu_does(tmp_path: Path) -> None:
    write(tmp_path, "snapshot_after_train: true", more=together.NORM)
    count = min(2, torch.cuda.device_count())
    found = []
    for device in ("cpu", "cuda"):
        run = Running(count, "-m", "torrefy", "train", f"{NAME}.solver", "--device", device,
                        "-o", device, "--sync-batch-norm", cwd=tmp_path)  # fmt: skip
        told = run.told()
        assert run.codes == [0] * count, told
        (path,) = (tmp_path / device).glob("*.caffemodel")
        found.append(read_weights(path))
    for one, two in zip(found[0].layers, found[1].layers, strict=True):
        for blob, other in zip(one.blobs, two.blobs, strict=True):
            np.testing.assert_allclose(blob, other, rtol=1e-3, atol=1e-4)
