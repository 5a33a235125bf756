"""Train a net on few pictures of Fashion-MNIST, with and without augmentation, and compare.

    python docs/examples/few_samples.py FOLDER --jobs 4

The net is Caffe's LeNet with fewer filters, so that a training takes seconds.

FOLDER holds Fashion-MNIST's four files (Xiao et al. 2017, arXiv:1708.07747), as its authors
give them, compressed or not: train-images-idx3-ubyte.gz and so on. Every training of a seed has
the same pictures, as many of each class, the same first values and as many iterations; what differs
is the text in `transform_param`. The score is the share of the 10,000 test pictures that are
classified rightly after the last iteration; nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from torrefy import Solver
from torrefy.data.open import open_loader
from torrefy.data.sources.memory import ArraySource
from torrefy.schema import parse_text

MOVED = """
    augmentation { type: "Flip" }
    augmentation { type: "Translation" translation_param { pixels: 1.5 } }
    warp { interpolation: NEAREST border: CONSTANT }
"""
# By whole pixels: to interpolate blurs pictures as small as these. Beyond their edges they are 0.
MIXED = """
    augmentation { type: "Mixup" mixup_param { alpha: 0.4 classes: 10 } }
"""
WAYS = {"none": "", "moved": MOVED, "moved and mixed": MOVED + MIXED}
"""What is compared: augmentations by a short name."""

NET = """
name: "LeNet-like"
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  data_param { batch_size: 25 }
  transform_param { scale: 0.00390625 %s } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  data_param { batch_size: 100 }
  transform_param { scale: 0.00390625 } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 16 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  convolution_param { num_output: 32 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool2" top: "ip1"
  inner_product_param { num_output: 128 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy"
  include { phase: TEST } }
"""

SOLVER = """
base_lr: 0.01 lr_policy: "poly" power: 1 momentum: 0.9 weight_decay: 0.0005
max_iter: %d test_iter: 100 test_interval: %d test_initialization: false
random_seed: %d snapshot_after_train: false
net_param { %s }
"""
# LeNet's own base_lr, momentum and weight_decay; the rate falls to 0 in a line.


def read_idx(folder: Path, name: str) -> NDArray[np.uint8]:
    """One of the dataset's files: big-endian sizes after four bytes, then bytes."""
    path = folder / name
    packed = path.with_name(f"{name}.gz")
    data = gzip.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes()
    axes = data[3]
    shape = np.frombuffer(data, ">u4", axes, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def read_part(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pictures as N×1×28×28, and labels, of "train" or "t10k"."""
    pictures = read_idx(folder, f"{part}-images-idx3-ubyte")
    return pictures[:, np.newaxis], read_idx(folder, f"{part}-labels-idx1-ubyte")


def few(labels: NDArray[np.uint8], count: int, seed: int) -> NDArray[np.intp]:
    """Rows that a seed draws, as many of each class."""
    rows = np.random.default_rng(seed).permutation(len(labels))
    classes = np.unique(labels)
    each = count // len(classes)
    return np.sort(np.concatenate([rows[labels[rows] == one][:each] for one in classes]))


def train(folder: Path, way: str, seed: int, samples: int, iterations: int) -> tuple[float, float]:
    """The share of the test pictures that a net classifies rightly, and the seconds it took."""
    torch.set_num_threads(1)  # so that sums have one order on any machine
    began = time.monotonic()
    pictures, labels = read_part(folder, "train")
    rows = few(labels, samples, seed)
    text = SOLVER % (iterations, iterations, seed, NET % WAYS[way])
    definition = parse_text(text, "caffe.SolverParameter", f"{way}.prototxt")
    layers = definition.message.net_param.layer
    source = ArraySource(pictures[rows], labels[rows], shuffle=True)
    solver = Solver(
        definition,
        feeds=open_loader(layers[0], "train", source=source, seed=seed),
        test_feeds=open_loader(layers[1], "test", source=ArraySource(*read_part(folder, "t10k"))),
    )
    solver.solve()
    return float(solver.scores[0]["accuracy"]), time.monotonic() - began


def table(found: dict[tuple[str, int], float], ways: list[str], seeds: list[int]) -> str:
    """The scores in Markdown, in percent, with each way's mean and standard deviation."""
    heads = [f"seed {seed}" for seed in seeds]
    lines = [f"| augmentation | {' | '.join(heads)} | mean | deviation |"]
    lines.append("|---" * (len(seeds) + 3) + "|")
    for way in ways:
        scores = [100 * found[way, seed] for seed in seeds]
        cells = [f"{score:.1f}" for score in scores]
        deviation = statistics.stdev(scores) if len(scores) > 1 else 0.0
        lines.append(
            f"| {way} | {' | '.join(cells)} | {statistics.mean(scores):.1f} | {deviation:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Train, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where Fashion-MNIST's files are")
    parser.add_argument("--samples", type=int, default=1000, help="training pictures")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 4, 5, 6])
    parser.add_argument("--iterations", type=int, default=3000, help="of each training")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS, metavar="WAY")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once")
    given = parser.parse_args()

    found: dict[tuple[str, int], float] = {}
    with ProcessPoolExecutor(given.jobs, multiprocessing.get_context("spawn")) as pool:
        running = {
            pool.submit(train, given.folder, way, seed, given.samples, given.iterations): (
                way,
                seed,
            )
            for seed in given.seeds
            for way in given.ways
        }
        for done in as_completed(running):
            way, seed = running[done]
            found[way, seed], seconds = done.result()
            told = {"seed": seed, "way": way, "accuracy": round(found[way, seed], 4)}
            print(json.dumps({**told, "seconds": round(seconds)}), flush=True)
    print(f"\n{table(found, given.ways, given.seeds)}")


if __name__ == "__main__":
    main()
