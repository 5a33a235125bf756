"""Memory of a training over 10,000 iterations: flat, with tests, lines and snapshots on the way.

Exit code 1 when the process has grown by more than 4 MB between iteration 1,000 and the last.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import sys
import tempfile
from pathlib import Path

import torch

from torrefy.schema import parse_text
from torrefy.train.definition import MESSAGE
from torrefy.train.feed import Arrays
from torrefy.train.solver import Solver

LIMIT = 4.0
"""Megabytes."""
WARM, ALL = 1_000, 10_000
NET = """
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 8 dim: 16 } shape { dim: 8 } } }
layer { name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
  inner_product_param { num_output: 32 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "drop1" type: "Dropout" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy"
  include { phase: TEST } }
"""
SOLVER = """net: "net.prototxt" base_lr: 0.01 lr_policy: "step" stepsize: 1000 gamma: 0.9
  momentum: 0.9 weight_decay: 0.0005 max_iter: 10000 random_seed: 1 average_loss: 20 display: 10
  test_iter: 2 test_interval: 50 snapshot: 100 snapshot_prefix: "snap" """


def resident() -> float:
    """Megabytes that the process holds, once what can be given back is."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> int:
    """Train, and look at the memory twice."""
    if not Path("/proc/self/statm").exists():
        print("this looks at /proc, which only Linux has", file=sys.stderr)
        return 0
    torch.manual_seed(0)
    rows = {"data": torch.randn(256, 16), "label": torch.randint(4, (256,))}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("net.prototxt").write_text(NET)
        given, tested = Arrays(rows, 8, shuffle=True), Arrays(rows, 8)
        solver = Solver(parse_text(SOLVER, MESSAGE), feeds=given, test_feeds=tested)
        lines = 0

        def count(_: str) -> None:
            nonlocal lines
            lines += 1

        solver.log = count
        while solver.iteration < WARM:
            solver.step(100)
        before = resident()
        solver.solve()
        grown = resident() - before
    passed = grown <= LIMIT
    print(
        f"memory: {before:.1f} MB after {WARM:,} iterations, {grown:+.1f} MB after "
        f"{solver.iteration:,}; limit {LIMIT:+.1f} MB"
    )
    result = {
        "benchmark": "memory of 10,000 iterations",
        "grown_megabytes": round(grown, 2),
        "limit": LIMIT,
        "lines_logged": lines,
        "passed": passed,
    }
    print(json.dumps(result), flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
