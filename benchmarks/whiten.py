"""ZCA whitening of 64 pictures of 3x32x32: one product for the batch, against one for each.

Both in float64 on one thread, as a loader's worker has it. A second line is float64 against
float32 for the batch: what it costs that what stands beside a picture changes next to nothing.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from harness import compare
from torrefy.data.normalise.normaliser import Normaliser
from torrefy.data.normalise.statistics import Statistics

SHAPE, BATCH = (3, 32, 32), 64
LIMIT, LIMIT_FLOAT32 = 0.5, 3.0


def main() -> int:
    """Print the ratios; 1 where one is above its limit."""
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    size = int(np.prod(SHAPE))
    turned = np.linalg.qr(random.normal(size=(size, size)))[0]
    statistics = Statistics(
        count=10 * size,
        mean=random.uniform(0, 255, SHAPE),
        std=np.ones(SHAPE),
        channel_mean=np.zeros(3),
        channel_std=np.ones(3),
        eigenvalues=np.geomspace(1e6, 1, size),
        components=turned.reshape(-1, *SHAPE),
    )
    normaliser = Normaliser(statistics, "ZCA")
    pictures = random.integers(0, 256, (BATCH, *SHAPE)).astype(np.float32)
    matrix = torch.from_numpy(statistics.zca()).float()
    rows = torch.from_numpy((pictures - normaliser.mean).reshape(BATCH, -1))
    ratio = compare(
        "whiten: a batch at once, or picture by picture",
        lambda: normaliser(pictures),
        lambda: [normaliser(one[np.newaxis]) for one in pictures],
        limit=LIMIT,
    )
    slower = compare(
        "whiten: float64, or float32", lambda: normaliser(pictures), lambda: rows @ matrix,
        limit=LIMIT_FLOAT32,
    )  # fmt: skip
    return int(ratio > LIMIT or slower > LIMIT_FLOAT32)


if __name__ == "__main__":
    sys.exit(main())
