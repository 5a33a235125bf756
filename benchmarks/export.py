"""Exporting a ResNet-152: its time against torch.onnx.export of the net by hand, and its memory.

Ours folds, translates, checks the file and runs it beside the net; theirs translates and writes.
The memory is that of a process of its own, at its highest, less what it held before there was a
net: the net itself counts. Exit code 1 when ours takes more than twice as long, or more memory
than 4 times the weights.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch

from harness import compare
from nets import HandWrittenResNet, copy_params, resnet_prototxt
from torrefy.export.onnx import export_onnx
from torrefy.graph import State
from torrefy.net.net import Net, compile_net
from torrefy.schema import parse_text

LIMIT = 2.0
MEMORY_LIMIT = 4.0
DEPTH = 152


def compiled() -> Net:
    """The net, with the weights that its fillers make."""
    return compile_net(parse_text(resnet_prototxt(DEPTH)), State("test"), seed=0)


def theirs(module: HandWrittenResNet, path: Path) -> None:
    """What one does in plain PyTorch."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.zeros(1, 3, 224, 224),), path, verbose=False)


def highest() -> int:
    """The most bytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(path: Path) -> None:
    """Export alone, and print the bytes that it took, and those of the weights."""
    export_onnx(small(), path)  # what is loaded when it is first needed
    before = highest()
    net = compiled()
    weights = sum(p.numel() * p.element_size() for blobs in net.params.values() for p in blobs)
    export_onnx(net, path)
    print(json.dumps({"taken": highest() - before, "weights": weights}))


def small() -> Net:
    """A net of one layer."""
    text = (
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 8 } } }'
        'layer { name: "relu" type: "ReLU" bottom: "data" top: "y" }'
    )
    return compile_net(parse_text(text), State("test"))


def memory(folder: Path) -> bool:
    """Whether a process that exports stays within the limit."""
    command = [sys.executable, __file__, "--measure", str(folder / "measured.onnx")]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(told.strip().splitlines()[-1])
    ratio = found["taken"] / found["weights"]
    print(
        f"export: {found['taken'] / 1e6:.0f} MB for {found['weights'] / 1e6:.0f} MB of weights, "
        f"{ratio:.2f} times; limit {MEMORY_LIMIT:.2f}"
    )
    result = {
        "benchmark": f"memory of exporting ResNet-{DEPTH}",
        "ratio": round(ratio, 4),
        "limit": MEMORY_LIMIT,
        "taken_megabytes": round(found["taken"] / 1e6, 1),
        "weights_megabytes": round(found["weights"] / 1e6, 1),
        "passed": ratio <= MEMORY_LIMIT,
    }
    print(json.dumps(result), flush=True)
    return ratio <= MEMORY_LIMIT


def main() -> int:
    """Compare; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--measure", metavar="FILE", help="export once, and tell the memory")
    asked = parser.parse_args()
    if asked.measure:
        measured(Path(asked.measure))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        within = memory(folder)
        net, module = compiled(), HandWrittenResNet(DEPTH).eval()
        copy_params(net, module)
        ratio = compare(
            f"export: ResNet-{DEPTH}", lambda: export_onnx(net, folder / "ours.onnx"),
            lambda: theirs(module, folder / "theirs.onnx"), limit=LIMIT, rounds=3,
        )  # fmt: skip
    return int(ratio > LIMIT or not within)


if __name__ == "__main__":
    sys.exit(main())
