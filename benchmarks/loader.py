"""Pictures a second: our loader against a hand-written dataset on Pillow and PyTorch's DataLoader.

A folder of JPEGs is read, cropped to 224x224 at random, half mirrored, the mean subtracted, and
made into batches of 32, by as many worker processes on both sides, one thread each.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from harness import compare
from torrefy.data.loader import Loader
from torrefy.data.sources.image_list import list_source
from torrefy.data.transform import Transformer

MEAN = [104.0, 117.0, 123.0]
BATCH, CROP, BATCHES, WORKERS = 32, 224, 12, 2
LIMIT = 1.1


def make_pictures(folder: Path, count: int = 200) -> None:
    """JPEGs of 341x256, smooth as photographs are."""
    random = np.random.default_rng(0)
    for i in range(count):
        path = folder / str(i % 4) / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        pixels = random.integers(0, 256, (12, 16, 3), np.uint8)
        large = Image.fromarray(pixels).resize((341, 256), Image.Resampling.BICUBIC)
        large.save(path, quality=90)


class ByHand(Dataset[tuple[torch.Tensor, int]]):
    """What one writes for the same pictures."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(str(path) for path in folder.rglob("*.jpg"))
        self.mean = np.array(MEAN, np.float32).reshape(3, 1, 1)

    def __len__(self) -> int:
        return 1 << 30

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        file = self.files[index % len(self.files)]
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
        y = int(np.random.randint(pixels.shape[0] - CROP + 1))  # noqa: NPY002  as one writes it
        x = int(np.random.randint(pixels.shape[1] - CROP + 1))  # noqa: NPY002
        pixels = pixels[y : y + CROP, x : x + CROP, ::-1]
        if np.random.randint(2):  # noqa: NPY002
            pixels = pixels[:, ::-1]
        return torch.from_numpy(pixels.transpose(2, 0, 1) - self.mean), int(Path(file).parent.name)


def main() -> int:
    """Print the ratio; 1 where it is above the limit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_pictures(folder)
        loader = Loader(
            list_source(folder),
            batch_size=BATCH,
            tops=["data", "label"],
            transform=Transformer(crop=CROP, mirror=True, mean=MEAN, train=True),
            workers=WORKERS,
        )
        by_hand: Iterator[Any] = iter(DataLoader(ByHand(folder), BATCH, num_workers=WORKERS))

        def ours() -> None:
            for _ in range(BATCHES):
                next(loader)

        def theirs() -> None:
            for _ in range(BATCHES):
                next(by_hand)

        ratio = compare("loader: JPEG, crop, mirror, mean", ours, theirs, limit=LIMIT)
        loader.close()
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
