"""`torrefy train` and `torrefy test` on a small problem: results, progress, signals, errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from tests.cli.conftest import Run
from tests.train.conftest import NET, SOLVER

PLAIN = "display: 10 test_iter: 2 test_interval: 15"


@pytest.fixture
def problem(tmp_path: Path) -> Path:
    """A folder with a solver, a net and its data."""
    label = np.arange(20) % 3
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["data"] = (2 * np.eye(5)[label]).astype("f4")
        file["label"] = label.astype("f4")
    (tmp_path / "train.txt").write_text("rows.h5\n")
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER + PLAIN)
    return tmp_path


@pytest.mark.usefixtures("problem")
def test_a_net_is_trained_tested_and_gone_on_with(run: Run) -> None:
    result = run("train", "solver.prototxt")
    assert result.exit_code == 0
    first, *scores, run_folder, last = result.stdout.splitlines()
    assert run_folder == "run folder snap.run: history, curves, log"
    assert first.startswith("trained at iteration 30, loss ")
    assert [line.split()[:4] for line in scores] == [
        ["test", "net", "0:", "loss"], ["test", "net", "0:", "accuracy"],
    ]  # fmt: skip
    assert last == "wrote snap_iter_30.solverstate"
    assert "Iteration 10 (" in result.stderr
    assert "Iteration 15, Testing net (#0)\n" in result.stderr
    again = run("train", "solver.prototxt", "--resume", "snap.run", "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["iteration"] == 30
    nothing = run("train", "solver.prototxt", "--resume", ".").stdout.splitlines()
    assert nothing[0] == "nothing to train: it is at iteration 30, and max_iter is 30"
    assert nothing[1].startswith("test net 0: loss ")
    fresh = run("train", "solver.prototxt", "--weights", "snap_iter_30.caffemodel", "--json")
    told = json.loads(fresh.stdout)
    assert (told["ok"], told["stopped"], told["seed"]) == (True, False, 7)
    assert told["snapshots"] == ["snap_iter_30.solverstate"]
    assert told["scores"][0]["accuracy"][0] > 0.9
    assert "note: snap_iter_30.caffemodel: 3 layers got their weights\n" in fresh.stderr


def test_tests_are_shown_as_a_table_and_what_is_best_is_marked(run: Run, problem: Path) -> None:
    result = run("train", "solver.prototxt", "--log", "table", "--no-run")
    head, *rows = result.stderr.splitlines()
    assert head.split() == [
        "iteration", "epoch", "train", "loss", "valid", "loss", "accuracy", "train/valid", "lr",
        "images/s", "dur",
    ]  # fmt: skip
    assert [row.split()[0] for row in rows] == ["0", "15", "30"]
    losses = [float(row.split()[-6].rstrip("*")) for row in rows[1:]]
    assert [row.split()[-6].endswith("*") for row in rows[1:]] == [True, losses[1] < losses[0]]
    assert not (problem / "snap.run").exists()


def test_a_run_has_a_folder_for_all_that_comes_of_it(run: Run, problem: Path) -> None:
    (problem / "solver.prototxt").write_text(
        SOLVER.replace('"snap"', '"no/such/folder"') + PLAIN + " snapshot: 10"
    )
    result = run(
        "train", "solver.prototxt", "-o", "runs/one", "--keep-last", "1", "--keep-best", "--json",
        "--callback", "EarlyStopping patience: 1",
    )  # fmt: skip
    told = json.loads(result.stdout)
    assert told["run"] == "runs/one"
    assert told["snapshots"] == ["runs/one/folder_iter_30.solverstate"]
    names = sorted(p.name for p in (problem / "runs/one").iterdir() if "folder" in p.name)
    assert names == [
        "folder_best.caffemodel", "folder_iter_30.caffemodel", "folder_iter_30.solverstate",
        "folder_iter_30.torrefy.safetensors",
    ]  # fmt: skip
    again = run("train", "solver.prototxt", "-o", "runs/one", "--resume", "runs/one")
    assert again.exit_code == 0


def test_a_training_that_stops_early_says_why(run: Run, problem: Path) -> None:
    text = SOLVER.replace("0.1", "0.0").replace("max_iter: 30", "max_iter: 3000")
    (problem / "solver.prototxt").write_text(text + PLAIN)
    result = run("train", "solver.prototxt", "--callback", "EarlyStopping patience: 2")
    assert result.exit_code == 0
    first, second, *_ = result.stdout.splitlines()
    assert first.startswith("trained at iteration ")
    assert second.startswith("ended before max_iter: no test was better than that of iteration ")


def test_a_training_that_goes_wrong_ends_with_the_layer(run: Run, problem: Path) -> None:
    (problem / "solver.prototxt").write_text(SOLVER.replace("0.1", "1e30"))
    result = run("train", "solver.prototxt")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(
        'net.prototxt:6:1: layer "ip1": the loss of iteration '
    )
    assert not list(problem.glob("*.solverstate"))  # weights that are no numbers are not kept


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("-o", "a", "--no-run"), 2, "--run and --no-run contradict each other"),
        (("--callback", "EarlyStoping"), 1, 'Did you mean "EarlyStopping"?'),
        (("--callback", "KeepLast snapshots: 0"), 1, "snapshots must be at least 1, found 0"),
        (("--keep-last", "0"), 2, "--keep-last"),
    ],
)
def test_slips_about_callbacks_are_told(
    run: Run, problem: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    result = run("train", "solver.prototxt", *arguments)
    assert result.exit_code == code
    assert told in result.stderr
    assert not (problem / "snap.run").exists()


@pytest.mark.usefixtures("problem")
def test_a_net_is_trained_and_tested_in_another_precision(run: Run) -> None:
    options = ("--precision", "bf16", "--channels-last", "--deterministic")
    losses = []
    for _ in range(2):
        result = run("train", "solver.prototxt", *options, "--json")
        assert result.exit_code == 0
        losses.append(json.loads(result.stdout)["loss"])
    plain = run("train", "solver.prototxt", "--json")
    assert losses[0] == losses[1] != json.loads(plain.stdout)["loss"]
    told = [
        json.loads(run("test", "net.prototxt", "snap_iter_30.caffemodel", *more, "--json").stdout)
        for more in ((), options[:3])
    ]
    exact, mixed = (one["blobs"]["loss"][0] for one in told)
    assert exact != mixed == pytest.approx(exact, rel=0.05)
    refused = run("train", "solver.prototxt", "--precision", "fp8")
    assert refused.exit_code == 2
    assert "'fp8' is not one of 'fp32', 'bf16', 'fp16'" in refused.stderr


@pytest.mark.usefixtures("problem")
def test_a_net_that_can_not_be_compiled_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.compile

    def broken(*_: object) -> None:
        raise RuntimeError("No working C++ compiler found")

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", lambda net: real(net, backend=broken))
    result = run("train", "solver.prototxt", "--compile")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == (
        "solver.prototxt: note: each net is compiled at its first pass, which takes a while"
    )
    assert result.stderr.splitlines()[-1].startswith(
        "error: torch.compile can't compile the net: No working C++ compiler found. "
    )


def test_many_workers_are_nothing_to_warn_of(problem: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "torrefy", "train", "solver.prototxt",
         "--workers", str((os.cpu_count() or 1) + 1)],
        cwd=problem, capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert "Warning" not in done.stderr
    assert "worker" not in done.stderr


@pytest.mark.usefixtures("problem")
def test_weights_are_tested(run: Run) -> None:
    run("train", "solver.prototxt")
    result = run("test", "net.prototxt", "snap_iter_30.caffemodel", "--iterations", "3")
    assert result.exit_code == 0
    loss, accuracy = result.stdout.splitlines()
    assert loss.startswith("loss = ")
    assert loss.endswith(" loss)")
    assert accuracy.startswith("accuracy = ")
    told = run("test", "net.prototxt", "snap_iter_30.caffemodel", "--iterations", "3", "--json")
    assert json.loads(told.stdout)["blobs"]["accuracy"] == [float(accuracy.split()[-1])]


def test_what_an_hdf5_output_layer_reads_is_written_by_a_test(run: Run, problem: Path) -> None:
    run("train", "solver.prototxt")
    (problem / "net.prototxt").write_text(
        NET + 'layer { name: "out" type: "HDF5Output" bottom: "ip2" bottom: "label"\n'
        '  include { phase: TEST } hdf5_output_param { file_name: "scores.h5" } }'
    )
    result = run("test", "net.prototxt", "snap_iter_30.caffemodel", "--iterations", "3", "--json")
    assert result.exit_code == 0
    with h5py.File(problem / "scores.h5") as file:
        scores, label = np.array(file["data"]), np.array(file["label"])
    assert (scores.shape, label.shape) == ((30, 3, 1, 1), (30, 1, 1, 1))
    right = (scores[:, :, 0, 0].argmax(1) == label[:, 0, 0, 0]).mean()
    assert json.loads(result.stdout)["blobs"]["accuracy"] == [pytest.approx(right)]


def test_labels_that_the_net_has_no_class_for_are_refused(run: Run, problem: Path) -> None:
    net = NET.replace("num_output: 3", "num_output: 2").replace(" shuffle: true", "")
    (problem / "net.prototxt").write_text(net)
    (problem / "solver.prototxt").write_text(SOLVER)
    result = run("train", "solver.prototxt")
    assert result.exit_code == 1
    assert 'layer "data": the label is 2, but there are 2 classes, from 0 to 1' in result.stderr


def test_what_was_learned_is_kept_when_the_data_end_a_run(run: Run, problem: Path) -> None:
    with h5py.File(problem / "rows.h5", "a") as file:
        file["label"][:] = np.where(np.arange(20) < 19, 0, 2)
    net = NET.replace("num_output: 3", "num_output: 2").replace(" shuffle: true", "")
    (problem / "net.prototxt").write_text(net)
    (problem / "solver.prototxt").write_text(SOLVER)
    result = run("train", "solver.prototxt", "--no-verify")
    assert result.exit_code == 1
    (state,) = problem.glob("*.solverstate")
    lines = result.stderr.splitlines()
    assert lines[-2] == f"wrote {state.name} before giving up"
    assert "the label is 2, but there are 2 classes" in lines[-1]
    again = run("train", "solver.prototxt", "--resume", ".")
    assert again.exit_code == 1  # the label is still there


def test_mistakes_are_told(run: Run, problem: Path) -> None:
    (problem / "solver.prototxt").write_text(SOLVER.replace("fixed", "fixd"))
    result = run("train", "solver.prototxt")
    assert result.exit_code == 1
    assert result.stderr == (
        'solver.prototxt:2:25: there is no lr_policy "fixd". Did you mean "fixed"?\n'
    )
    (problem / "solver.prototxt").write_text(SOLVER)
    (problem / "train.txt").write_text("gone.h5\n")
    result = run("train", "solver.prototxt", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"][0]["layer"] == "data"
    result = run("test", "net.prototxt", "gone.caffemodel")
    assert result.exit_code == 1
    result = run("train", "net.prototxt")
    assert result.exit_code == 1
    assert result.stderr == (
        "net.prototxt: this is a net's definition, not a solver's. Give a solver that names it as "
        "its net.\n"
    )
    result = run("test", "solver.prototxt", "gone.caffemodel")
    assert result.exit_code == 1
    assert result.stderr == (
        "solver.prototxt: this is a solver's definition, not a net's. Load its net, "
        '"net.prototxt".\n'
    )


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of Unix")
def test_signals_snapshot_and_stop(problem: Path) -> None:
    (problem / "solver.prototxt").write_text(
        SOLVER.replace("max_iter: 30", "max_iter: 10000000") + "display: 1"
    )

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "torrefy", "train", "solver.prototxt", *arguments],
            cwd=problem, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        while "Iteration" not in process.stderr.readline():
            assert process.poll() is None
        return process

    process = start()
    process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 60
    while not list(problem.glob("*.solverstate")) and time.monotonic() < deadline:
        process.stderr.readline()
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.startswith("stopped at iteration ")
    assert "stopping after this iteration, with a snapshot; Ctrl-C stops now" in err
    states = {int(p.name.split("_")[2].split(".")[0]) for p in problem.glob("*.solverstate")}
    assert f"stopped at iteration {max(states)}," in out
    process = start("--resume", ".")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert int(out.split()[3].rstrip(",")) > max(states)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of Unix")
def test_however_often_ctrl_c_comes_the_end_is_quiet_and_130(problem: Path) -> None:
    (problem / "solver.prototxt").write_text(
        SOLVER.replace("max_iter: 30", "max_iter: 10000000") + "display: 1"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "torrefy", "train", "solver.prototxt", "--no-run"],
        cwd=problem, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        while "Iteration" not in process.stderr.readline():
            assert process.poll() is None
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers, too
            time.sleep(0.005)
        out, err = process.communicate(timeout=60)
    told = [line for line in err.splitlines() if not line.startswith(("Iteration", "  "))]
    assert process.returncode == 130, err
    assert (out, told[-1]) == ("", "interrupted")
    assert set(told[:-1]) <= {"stopping after this iteration, with a snapshot; Ctrl-C stops now"}
