"""A run's folder: definitions, circumstances, history, curves, log; begun anew or gone on with."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data.conftest import lmdb
from tests.train.conftest import NET, SOLVER

from torrefy.data.normalise.compute import compute_statistics
from torrefy.data.sources.datum import write_datum
from torrefy.data.sources.memory import ArraySource
from torrefy.errors import TorrefyError
from torrefy.train.history import History, Row
from torrefy.train.run import RunFolder
from torrefy.train.solver import Solver
from torrefy.train.tensorboard import TensorBoard

__all__ = ["lmdb"]

Make = Callable[..., Solver]
MORE = "display: 5 test_iter: 2 test_interval: 10 "


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_a_run_keeps_what_is_needed_to_repeat_it(make: Make, folder: Path) -> None:
    solver = make(MORE, run="runs/one")
    solver.solve()
    run = folder / "runs/one"
    assert {p.name for p in run.iterdir()} == {
        "solver.prototxt", "net.prototxt", "run.json", "history.csv", "curves.png", "train.log",
        "snap_iter_30.caffemodel", "snap_iter_30.solverstate", "snap_iter_30.torrefy.safetensors",
    }  # fmt: skip
    assert (run / "net.prototxt").read_text() == NET
    assert (run / "solver.prototxt").read_text() == (folder / "solver.prototxt").read_text()
    told = json.loads((run / "run.json").read_text())
    assert told["seed"] == 7
    (begun,) = told["begun"]
    assert begun["folder"] == str(folder)
    assert set(begun["versions"]) >= {"torrefy", "python", "torch", "numpy"}
    history = rows(run / "history.csv")
    assert [row["iteration"] for row in history] == ["0", "6", "10", "16", "20", "26", "30"]
    last = history[-1]
    assert float(last["epoch"]) == 30 * 4 / 20
    assert float(last["test/loss"]) == pytest.approx(float(solver.scores[0]["loss"]), rel=1e-6)
    assert history[1]["test/loss"] == ""
    with Image.open(run / "curves.png") as picture:
        assert picture.size == (1200, 500)
    assert "Iteration 5, lr = 0.1" in (run / "train.log").read_text().splitlines()


def test_a_run_keeps_the_statistics_that_its_data_are_normalised_by(
    folder: Path, lmdb: Callable[..., Path]
) -> None:
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (40, 1, 3, 3), np.uint8)
    pictures[::2, :, 0] //= 4  # what there is to learn
    records = [(b"%08d" % i, write_datum(one, i % 2)) for i, one in enumerate(pictures)]
    source = ArraySource(pictures)
    compute_statistics(source, whiten=True, epsilon=1e-3).write(folder / "stats.safetensors")
    (folder / "of_test").mkdir()
    compute_statistics(source, whiten=True).write(folder / "of_test/stats.safetensors")
    data = (
        'layer { name: "data" type: "Data" top: "data" top: "label" include { phase: %s } '
        f'data_param {{ source: "{lmdb(records)}" backend: LMDB batch_size: 20 }} '
        'transform_param { statistics: "%s" normalise: PCA } }'
    )
    (folder / "net.prototxt").write_text(
        data % ("TRAIN", "stats.safetensors")
        + data % ("TEST", "of_test/stats.safetensors")
        + 'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" '
        'inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }'
    )
    (folder / "solver.prototxt").write_text(SOLVER + "test_iter: 2 test_interval: 30 ")
    solver = Solver("solver.prototxt", run="one", loading={"workers": 0})
    assert solver.net.inputs["data"] == (20, 9, 1, 1)
    solver.solve()
    for kept, name in (("", ""), ("2-", "of_test/")):
        written = (folder / f"one/{kept}stats.safetensors").read_bytes()
        assert written == (folder / f"{name}stats.safetensors").read_bytes()
    assert float(solver.scores[0]["loss"]) < 0.4


def test_a_resumed_run_goes_on_with_its_history(make: Make, folder: Path) -> None:
    whole = make(MORE, run="whole")
    whole.solve()
    half = make(MORE + "snapshot: 10 ", run="half")
    half.step(20)  # what is behind the snapshot is trained again
    resumed = make(MORE, run="half", resume="half/snap_iter_10.solverstate")
    resumed.solve()
    kept = ("iteration", "train/loss", "test/loss", "test/accuracy")
    once, twice = (
        [[row[name] for name in kept] for row in rows(folder / name / "history.csv")]
        for name in ("whole", "half")
    )
    assert [r for r in twice if r[0] not in ("10",)] == [r for r in once if r[0] not in ("10",)]
    told = json.loads((folder / "half/run.json").read_text())
    assert [one["iteration"] for one in told["begun"]] == [0, 10]
    seconds = [float(row["seconds"]) for row in rows(folder / "half/history.csv")]
    assert seconds == sorted(seconds)


def test_the_folder_of_a_run_leads_to_its_snapshots(make: Make, folder: Path) -> None:
    make(callbacks=[RunFolder()]).solve()
    assert (folder / "snap.run/history.csv").exists()
    assert make(resume="snap.run").iteration == 30


def test_a_history_that_is_none_is_refused_and_stays(make: Make, folder: Path) -> None:
    make(MORE, run="one").solve()
    (folder / "one/history.csv").write_text("iteration,epoch\nthree,4\n")
    solver = make(MORE, run="one", resume="one")
    with pytest.raises(TorrefyError) as error:
        solver.solve()
    assert str(error.value) == (
        "one/history.csv: this is no history of a training: could not convert string to float: "
        "'three'. Move it away to begin a new one."
    )
    assert (folder / "one/history.csv").read_text() == "iteration,epoch\nthree,4\n"
    (folder / "taken").write_text("")
    with pytest.raises(TorrefyError, match="the run's folder can't be written to: File exists"):
        make(run="taken").step(1)


def test_a_history_reads_back_what_it_wrote(tmp_path: Path) -> None:
    history = History()
    history.add(Row(0, 0.0, scores={"test/loss": 2.5}))
    history.add(Row(10, 0.5, 1.25, 0.1, 100.0, 1.5))
    history.add(Row(10, 0.5, seconds=2.0, scores={"test/loss": 1.5, "test1/a[0]": 3.0}))
    assert len(history) == 2
    (tmp_path / "h.csv").write_text(history.text())
    again = History.read(tmp_path / "h.csv", 10)
    assert again.text() == history.text()
    assert again.rows[1].loss == 1.25
    assert again.rows[1].scores == {"test/loss": 1.5, "test1/a[0]": 3.0}
    assert math.isnan(again.rows[0].loss)
    assert len(History.read(tmp_path / "h.csv", 9)) == 1
    assert not len(History.read(tmp_path / "gone.csv", 9))


def test_tensorboard_reads_the_events(make: Make, folder: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    solver = make(MORE, callbacks=[TensorBoard()])
    solver.solve()
    events = accumulator.EventAccumulator(str(folder / "snap.run"))
    events.Reload()
    points = [(e.step, e.value) for e in events.Scalars("test/accuracy")]
    assert points[-1] == (30, pytest.approx(float(solver.scores[0]["accuracy"])))
    assert [e.step for e in events.Scalars("train/loss")] == [6, 10, 16, 20, 26, 30]
