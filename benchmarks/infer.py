"""Nets in ONNX Runtime, exported by us, against the same by hand in PyTorch, on the CPU.

The hand-written module is exported by plain torch.onnx.export, for the batch that it is run with;
ours takes any. Both run in one ONNX Runtime with the same options. The module run by PyTorch itself
is the second contest. Weights are random and the same. Then our file in int8 runs against ours in
fp32, calibrated on noise, for what is timed; and, where the processor has AMX, our file in bf16 in
OpenVINO. Exit code 1 when ours takes longer than theirs, or more than the limits below.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import statistics
import sys
import tempfile
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image
from torch import nn

from classics import CLASSICS
from harness import compare
from nets import copy_params
from torrefy.data.preprocess import Preprocessor
from torrefy.data.recipe import Recipe
from torrefy.export.onnx import export_onnx
from torrefy.export.precision.lower import lower_precision
from torrefy.graph import State
from torrefy.net.net import Net, compile_net
from torrefy.runtime.base import open_session
from torrefy.runtime.runnable import Runnable
from torrefy.schema import parse_text

LIMIT = 1.0
NORMALISED_LIMIT = 0.75
"""AlexNet's and GoogLeNet's, where LRN works on large planes."""
EAGER_LIMIT = 0.6
BOUND_EAGER_LIMIT = 0.9
"""AlexNet's and CaffeNet's: most of their time goes by in reading the weights of two layers."""
NOISE = 0.03
"""MobileNet's files are the same graph but for names: so much their ratio may differ from 1."""
INT8_LIMITS = {"ResNet-50": 0.45}
"""Of one net at batch 1."""
INT8_LIMIT = 0.6
"""The geometric mean over all nets at batch 1."""
BF16_LIMIT = 0.35
"""ResNet-50's, on a processor with AMX."""
CALIBRATED = 16
"""Pictures of noise."""
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


def made(name: str) -> tuple[Net, nn.Module]:
    """A net, and the same by hand."""
    text, make = CLASSICS[name]
    net = compile_net(parse_text(text()), State("test"), seed=0)
    module = make().eval()
    copy_params(net, module)
    return net, module


def contest(name: str, threads: int, folder: Path) -> bool:
    """One net at each batch size, against both; whether ours is fast enough."""
    net, module = made(name)
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


def lowered(net: Net, folder: Path) -> Path:
    """A net's file in int8, calibrated on noise."""
    shape = net.inputs["data"]
    preprocessor = Preprocessor.from_text(
        f"width: {shape[3]} height: {shape[2]} mean: 127.5 scale: 0.0078"
    )
    export_onnx(net, folder / "fp32.onnx", recipe=Recipe(preprocessor=preprocessor))
    random = np.random.default_rng(0)
    pictures = folder / "noise"
    pictures.mkdir(exist_ok=True)
    for i in range(2 * CALIBRATED):
        pixels = random.integers(0, 256, (shape[2], shape[3], 3), np.uint8)
        Image.fromarray(pixels).save(pictures / f"{i}.png")
    lower_precision(
        folder / "fp32.onnx", folder / "int8.onnx", "int8", calibrate=pictures, count=CALIBRATED,
        least_agreement=0,
    )  # fmt: skip
    return folder / "int8.onnx"


def contest_in_int8(name: str, threads: int, folder: Path) -> float:
    """Our file in int8 against ours in fp32, a picture at once."""
    net, _ = made(name)
    low = opened(lowered(net, folder), threads)
    full = opened(folder / "fp32.onnx", threads)
    fed = {"data": np.random.default_rng(1).normal(size=(1, *net.inputs["data"][1:]))}
    fed["data"] = fed["data"].astype(np.float32)
    told = f"infer: {name}, int8 against fp32, {threads} thread{'s' * (threads > 1)}"
    run, full_run = partial(low.run, None, fed), partial(full.run, None, fed)
    return compare(told, run, full_run, limit=INT8_LIMITS.get(name, 1.0), rounds=BATCHES[1])


def contest_in_bf16(threads: int, folder: Path) -> bool:
    """ResNet-50 in bf16 in OpenVINO against ours in fp32; whether it is fast enough."""
    if "amx_bf16" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        print("infer: bf16 in OpenVINO is left out: this processor has no AMX", flush=True)
        return True
    net, _ = made("ResNet-50")
    file = export_onnx(net, folder / "bf16.onnx").path
    half = open_session(Runnable(file), "openvino", precision="bf16", threads=threads)
    full = opened(file, threads)
    fed = {"data": np.random.default_rng(1).normal(size=(1, 3, 224, 224)).astype(np.float32)}
    told = f"infer: ResNet-50, bf16 in OpenVINO against fp32, {threads} threads"
    run, full_run = partial(half.run, fed), partial(full.run, None, fed)
    return compare(told, run, full_run, limit=BF16_LIMIT, rounds=BATCHES[1]) <= BF16_LIMIT


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
    parser.add_argument("--only", choices=("fp32", "lower"), help="a part: fp32, or int8 and bf16")
    asked = parser.parse_args()
    unknown = [name for name in asked.nets if name not in CLASSICS]
    if unknown:
        parser.error(f"there is no net {unknown[0]} here")
    torch.set_num_threads(asked.threads)
    passed = True
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        names = asked.nets or list(CLASSICS)
        for name in names if asked.only != "lower" else ():
            passed &= contest(name, asked.threads, Path(folder))
        if asked.only != "fp32":
            ratios = {n: contest_in_int8(n, asked.threads, Path(folder)) for n in names}
            mean = statistics.geometric_mean(ratios.values())
            print(f"infer: int8 against fp32, geometric mean {mean:.2f} of {INT8_LIMIT}")
            passed &= mean <= INT8_LIMIT
            passed &= all(ratios[n] <= limit for n, limit in INT8_LIMITS.items() if n in ratios)
            passed &= contest_in_bf16(asked.threads, Path(folder))
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
