"""Nets in ONNX Runtime, exported by us, against the same by hand in PyTorch, on the CPU.

The hand-written module is exported by plain torch.onnx.export, for the batch that it is run with;
ours takes any. Both run in one ONNX Runtime with the same options. The module run by PyTorch itself
is the second contest. Weights are random and the same. Exit code 1 when ours takes longer than
theirs, or more than the limits below.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from classics import CLASSICS
from harness import compare
from nets import copy_params
from torrefy.export.onnx import export_onnx
from torrefy.graph import State
from torrefy.net.net import compile_net
from torrefy.schema import parse_text

LIMIT = 1.0
NORMALISED_LIMIT = 0.75
"""AlexNet's and GoogLeNet's, where LRN works on large planes."""
EAGER_LIMIT = 0.6
BOUND_EAGER_LIMIT = 0.9
"""AlexNet's and CaffeNet's: most of their time goes by in reading the weights of two layers."""
NOISE = 0.03
"""MobileNet's files are the same graph but for names: so much their ratio may differ from 1."""
BATCHES = {1: 31, 8: 11}
"""Batch sizes, and the rounds of each."""


def written(module: nn.Module, x: torch.Tensor, path: Path) -> None:
    """What one does in plain PyTorch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), path, verbose=False)


def opened(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session that does not spin while the other one runs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporter says of packages that are not needed here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def contest(name: str, threads: int, folder: Path) -> bool:
    """One net at each batch size, against both; whether ours is fast enough."""
    text, make = CLASSICS[name]
    net = compile_net(parse_text(text()), State("test"), seed=0)
    module = make().eval()
    copy_params(net, module)
    export_onnx(net, folder / "ours.onnx")
    ours = opened(folder / "ours.onnx", threads)
    limit = NORMALISED_LIMIT if name in {"AlexNet", "GoogLeNet"} else LIMIT + NOISE
    eager_limit = BOUND_EAGER_LIMIT if name in {"AlexNet", "CaffeNet"} else EAGER_LIMIT
    passed = True
    for batch, rounds in BATCHES.items():
        x = torch.randn(batch, *net.inputs["data"][1:])
        path = folder / f"theirs_{batch}.onnx"
        with quiet():
            written(module, x, path)
        theirs = opened(path, threads)
        fed = x.numpy()
        run = partial(ours.run, None, {"data": fed})
        their_run = partial(theirs.run, None, {theirs.get_inputs()[0].name: fed})
        expected = module(x)
        for found in (run()[0], their_run()[0]):
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
        told = f"{name}, batch {batch}, {threads} thread{'s' * (threads > 1)}"
        ratio = compare(f"infer: {told}, plain export", run, their_run, limit=limit, rounds=rounds)
        eager = compare(
            f"infer: {told}, eager", run, partial(module, x), limit=eager_limit, rounds=rounds
        )
        passed &= ratio <= limit and eager <= eager_limit
    return passed


def main() -> int:
    """Compare all; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("nets", nargs="*", metavar="NET", help=f"of {', '.join(CLASSICS)}")
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="of each; threads that wait measure what else is running",
    )
    asked = parser.parse_args()
    unknown = [name for name in asked.nets if name not in CLASSICS]
    if unknown:
        parser.error(f"there is no net {unknown[0]} here")
    torch.set_num_threads(asked.threads)
    passed = True
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        for name in asked.nets or CLASSICS:
            passed &= contest(name, asked.threads, Path(folder))
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
