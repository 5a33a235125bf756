"""Classifying 2,000 pictures into a table, against reading them alone and computing them alone.

JPEGs of 500x375; SqueezeNet v1.1 as exported, from `torrefy classify DIR -o FILE.csv`. Where the
same processors read and compute, no program can need less than both times together; the ratio is
to that sum, and its limit says that 15 % at most are lost. What part of the rate of either alone is
reached, and how busy the processors were, is printed, too.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

import torrefy
from harness import compare
from torrefy.data.ahead import made_ahead
from torrefy.export.onnx import export_onnx
from torrefy.runtime.bulk import classify_to
from torrefy.weights.load import load_net
from torrefy.zoo.model import find_model

MODEL, COUNT, HELD = "squeezenet_v1.1", 2000, 256
LIMIT = 1 / 0.85


def make_pictures(folder: Path) -> list[Path]:
    """JPEGs of 500x375, smooth as photographs are."""
    random = np.random.default_rng(0)
    files = []
    for i in range(COUNT):
        files.append(folder / f"{i:04d}.jpg")
        pixels = random.integers(0, 256, (24, 32, 3), np.uint8)
        large = Image.fromarray(pixels).resize((500, 375), Image.Resampling.BICUBIC)
        large.save(files[-1], quality=90)
    return files


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and the share of all processors that they took."""
    clock, processor = time.perf_counter(), time.process_time()
    run()
    seconds = time.perf_counter() - clock
    return seconds, (time.process_time() - processor) / seconds / len(os.sched_getaffinity(0))


def main() -> int:
    """Print the ratio; 1 where it is above the limit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pictures").mkdir()
        files = make_pictures(folder / "pictures")
        model = find_model(MODEL)
        net = load_net(model.definition, model.weights)
        export_onnx(net, folder / "net.onnx", blobs=[model.recipe.output], recipe=model.recipe)
        classifier = torrefy.Classifier(folder / "net.onnx")
        looked = classifier.looked_over(files)
        batch = looked.batch
        alone = torrefy.Classifier(folder / "net.onnx", threads=1)
        seen = classifier.preprocessor
        held = np.stack([seen.read(file) for file in files[:HELD]])

        def read() -> None:
            for _ in made_ahead(files, seen.read, batch):
                pass

        def compute() -> None:
            def one(ends: tuple[int, int]) -> None:
                alone.predict(held[np.arange(*ends) % HELD])

            with ThreadPoolExecutor(
                looked.workers
            ) as pool:  # each its batch, as the classifier does
                list(pool.map(one, pairwise([*range(0, COUNT, batch), COUNT])))

        def ours() -> None:
            (folder / "answers.csv").unlink(missing_ok=True)
            classify_to(folder / "answers.csv", classifier, files, batch=batch)

        def theirs() -> None:
            read()
            compute()

        ratio = compare(
            f"bulk: {COUNT} pictures to csv, batch {batch}", ours, theirs, limit=LIMIT, rounds=3
        )
        whole, busy = timed(ours)
        reading, computing = timed(read)[0], timed(compute)[0]
        told = {
            "pictures/s": round(COUNT / whole, 1),
            "reading alone": round(COUNT / reading, 1),
            "computing alone": round(COUNT / computing, 1),
            "of the slower": round(max(reading, computing) / whole, 3),
            "processors busy": round(busy, 3),
        }
        print(json.dumps(told))
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
