"""Trainings by several processes for test_distributed.py, each a function by its name.

Run as a script it is one of the processes: `python together.py FOLDER NAME…`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torrefy.train.callbacks import Callback
from torrefy.train.distributed import Processes, join
from torrefy.train.feed import Arrays
from torrefy.train.solver import Solver

STEPS = 12
PLAIN = """name: "plain"
layer {{ name: "data" type: "HDF5Data" top: "data" top: "label" include {{ phase: TRAIN }}
  hdf5_data_param {{ source: "train.txt" batch_size: {batch} shuffle: true }} }}
layer {{ name: "data" type: "HDF5Data" top: "data" top: "label" include {{ phase: TEST }}
  hdf5_data_param {{ source: "train.txt" batch_size: 3 }} }}
layer {{ name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
  inner_product_param {{ num_output: 6 weight_filler {{ type: "xavier" }} }} }}
{more}
layer {{ name: "tanh" type: "TanH" bottom: "ip1" top: "ip1" }}
layer {{ name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }}
layer {{ name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy"
  include {{ phase: TEST }} }}
"""
NORM = 'layer { name: "norm" type: "BatchNorm" bottom: "ip1" top: "ip1" }'
DROP = NORM + '\nlayer { name: "drop" type: "Dropout" bottom: "ip1" top: "ip1" }'
IDLE = """layer { name: "idle" type: "InnerProduct" bottom: "data" top: "idle"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }"""
SOLVER = """base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.01 max_iter: 100
random_seed: {seed} snapshot_prefix: "{name}" net: "{name}.net" """


def solver(name: str, fields: str = "", *, more: str = "", seed: int = 7, **options: Any) -> Solver:
    """A solver of a net of its own; alone it has the batches of two processes as one."""
    processes = Processes()
    batch = 8 // processes.world
    if processes.leads:
        Path(f"{name}.net").write_text(PLAIN.format(batch=batch, more=more))
        Path(f"{name}.solver").write_text(SOLVER.format(name=name, seed=seed) + fields)
    processes.wait()
    return Solver(f"{name}.solver", **options)


def weights(trained: Solver) -> dict[str, Any]:
    return {
        f"{key}.{i}": blob.detach().numpy().copy()
        for key, blobs in trained.net.params.items()
        for i, blob in enumerate(blobs)
    }


def steps(name: str, fields: str = "", **options: Any) -> dict[str, Any]:
    trained = solver(name, fields, **options)
    losses = trained.step(STEPS)
    return {**weights(trained), "losses": losses}


def momentum() -> dict[str, Any]:
    return steps("momentum")


def iter_size() -> dict[str, Any]:
    return steps("iter_size", "iter_size: 2")


def clipped() -> dict[str, Any]:
    return steps("clipped", "clip_gradients: 0.5")


def adam() -> dict[str, Any]:
    return steps("adam", 'type: "Adam" momentum2: 0.99')


def afterwards() -> dict[str, Any]:
    return steps("momentum", "layer_wise_reduce: false")


def idle() -> dict[str, Any]:
    return steps("idle", more=IDLE)


def sync_batch_norm() -> dict[str, Any]:
    return steps("sync", more=NORM, sync_batch_norm=True)


def batch_norm() -> dict[str, Any]:
    trained = solver("norm", "test_iter: 4 test_interval: 100", more=NORM)
    trained.step(STEPS)
    before = weights(trained)
    scores = trained.test()[0]
    return {**before, **{f"score {name}": blob.numpy() for name, blob in scores.items()}}


def arrays() -> dict[str, Any]:
    random = np.random.default_rng(1)
    rows = {"data": random.normal(size=(20, 5)), "label": np.arange(20) % 3}
    size = 8 // Processes().world
    return steps("arrays", feeds=Arrays(rows, size, shuffle=True))


def tests() -> dict[str, Any]:
    trained = solver("tests", "test_iter: 5 test_interval: 4")
    found: list[float] = []

    class Scores(Callback):
        def on_test(self, solver: Solver) -> None:
            found.extend(float(blob) for blob in solver.scores[0].values())

    trained.callbacks.all.append(Scores())
    trained.step(STEPS)
    return {"scores": found}


def resumed() -> dict[str, Any]:
    fields = "test_iter: 3 test_interval: 4 "
    whole = solver("whole", fields, more=DROP)
    whole.step(5)
    path = whole.snapshot()
    losses = whole.step(7)
    torch.manual_seed(99)
    again = solver("whole", fields, more=DROP, resume=path)
    assert again.step(7) == losses
    one, two = weights(whole), weights(again)
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert [n for n in again.notes if "processes" not in n] == []
    files = sorted(p.name for p in Path().glob("whole_iter*"))
    return {"drawn": whole._random.state()["random.cpu"], "files": files, **one}


def agreed() -> dict[str, Any]:
    """One process alone wants a snapshot, and another the end."""
    told: list[str] = []

    class First(Callback):
        everywhere = False

        def on_update(self, solver: Solver, loss: Any) -> None:
            told.append("update")

    trained = solver("agreed", callbacks=[First()])
    rank, world = trained.processes.rank, trained.processes.world

    class Wish(Callback):
        def on_update(self, solver: Solver, loss: Any) -> None:
            if solver.iteration == 3 and rank == 0:
                solver.request_snapshot()
            if solver.iteration == 5 and rank == world - 1:
                solver.stop()

    trained.callbacks.all.append(Wish())
    trained.solve()
    return {
        "iteration": trained.iteration,
        "stopped": trained.stopped,
        "told": len(told),
        "files": sorted(p.name for p in Path().glob("agreed_iter*.solverstate")),
    }


def seeds() -> dict[str, Any]:
    torch.manual_seed(Processes().rank)
    trained = solver("seeds", seed=-1)
    return {**weights(trained), "seed": trained.seed, "notes": trained.notes}


def undisturbed() -> dict[str, Any]:
    return steps("undisturbed", "test_iter: 3 test_interval: 6", more=DROP)


if __name__ == "__main__":
    join("cpu")
    for name in sys.argv[2:]:
        scenario: Callable[[], dict[str, Any]] = globals()[name]
        np.savez(f"{sys.argv[1]}/{name}.{Processes().rank}.npz", **scenario())
