"""Augmented pictures: the recipe "deepsea" against the same warps by albumentations; the loader.

Batches of 64 bytes' pictures of 96x96 and 227x227 become float32 of NxCxHxW, by one thread on both
sides. Then the loader, with the recipe at 227x227, against the training step that it has to stay
ahead of: CaffeNet's, batches of 16, on the CPU. Exit code 1 where ours takes longer.

albumentations is looked for where Python finds modules, and in the folder that AUGMENT_SITE names
(`pip install --target FOLDER albumentations`); without it the first comparison is left out.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from harness import compare
from loader import make_pictures
from nets import caffenet_prototxt
from torrefy.data.draws import Draws
from torrefy.data.loader import Loader
from torrefy.data.sources.image_list import list_source
from torrefy.data.transform import Transformer
from torrefy.schema import parse_text
from torrefy.train.definition import MESSAGE
from torrefy.train.feed import Arrays
from torrefy.train.solver import Solver

SIZES, BATCH = (96, 227), 64
TRAINED = 16
"""Pictures of a training step."""
LIMIT = 1.0
LAYER = 'layer { name: "data" type: "Data" top: "data" transform_param { recipe: "deepsea" } }'
SOLVER = """net: "{net}" base_lr: 0.0001 lr_policy: "fixed" momentum: 0.9 max_iter: 1000
  random_seed: 1 snapshot_after_train: false"""


def deepsea() -> Transformer:
    """The recipe, as a data layer has it."""
    return Transformer.from_layer(parse_text(LAYER).message.layer[0], "train")


def ours(size: int) -> Callable[[], None]:
    """A batch by the recipe."""
    pictures = np.random.default_rng(0).integers(0, 256, (BATCH, 3, size, size), np.uint8)
    batch = np.empty(pictures.shape, np.float32)
    transform, position = deepsea(), 0

    def run() -> None:
        nonlocal position
        for place, picture in enumerate(pictures):
            batch[place] = transform((picture,), Draws(1, position))[0]
            position += 1

    return run


def theirs(size: int, albumentations: Any) -> Callable[[], None]:
    """A batch by albumentations: turned, moved, scaled by axis and sheared as one; mirrored."""
    pictures = np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3), np.uint8)
    batch = np.empty((BATCH, 3, size, size), np.float32)
    transform = albumentations.Compose([
        albumentations.Affine(
            rotate=(0, 360), translate_px=(-10, 10), shear=(-20, 20), p=1,
            scale={"x": (0.625, 1.6), "y": (0.625, 1.6)}, fill=255,
            border_mode=cv2.BORDER_CONSTANT,
        ),
        albumentations.HorizontalFlip(p=0.5),
    ], seed=1)  # fmt: skip

    def run() -> None:
        for place, picture in enumerate(pictures):
            batch[place] = transform(image=picture)["image"].transpose(2, 0, 1)

    return run


def warps() -> list[float]:
    """The ratios to albumentations; none where it isn't there."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would look for a newer version
    if "AUGMENT_SITE" in os.environ:
        sys.path.append(os.environ["AUGMENT_SITE"])
    try:
        import albumentations
    except ImportError:
        print("augment: albumentations is not installed: its comparison is left out")
        return []
    cv2.setNumThreads(0)
    print(f"augment: albumentations {albumentations.__version__}, OpenCV {cv2.__version__}")
    ratios = []
    for size in SIZES:
        ratio = compare(
            f"augment: deepsea, {BATCH} of {size}x{size}",
            ours(size),
            theirs(size, albumentations),
            limit=LIMIT,
            rounds=15,
        )
        print(f"augment: {size}x{size}: {1 / ratio:.2f} times as many pictures a second")
        ratios.append(ratio)
    return ratios


def loading() -> float:
    """A batch from JPEGs through the recipe, by one process, against CaffeNet's training step."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pictures").mkdir()
        make_pictures(folder / "pictures")
        transform = deepsea()
        transform.crop, transform.mirror, transform.train = 227, True, True
        loader = Loader(
            list_source(folder / "pictures"),
            batch_size=TRAINED,
            tops=["data", "label"],
            transform=transform,
            workers=0,  # else batches would be ready that the step left time for
        )
        (folder / "net.prototxt").write_text(caffenet_prototxt(TRAINED))
        data = torch.randn(TRAINED, 3, 227, 227)
        text = SOLVER.format(net=folder / "net.prototxt")
        solver = Solver(
            parse_text(text, MESSAGE),
            feeds=Arrays({"data": data, "label": torch.arange(TRAINED)}, TRAINED),
        )
        ratio = compare(
            f"augment: loader with deepsea at 227, CaffeNet's step, batch {TRAINED}",
            lambda: next(loader),
            lambda: solver.step(1),
            limit=LIMIT,
        )
        loader.close()
    return ratio


def main() -> int:
    """Print the ratios; 1 where one is above the limit."""
    return int(max([*warps(), loading()]) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
