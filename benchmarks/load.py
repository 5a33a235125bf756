"""Loading a caffemodel of 240 MB against reading the same bytes with numpy.

Both end with every value copied into arrays that are already there, as a net's params are.
Exit code 1 when loading takes more than twice as long.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from harness import compare
from torrefy.net.stored import StoredLayer, StoredNet, read_weights, write_weights

LIMIT = 2.0

SHAPES = {  # AlexNet's, the best known net of this size
    "conv1": (96, 3, 11, 11),
    "conv2": (256, 48, 5, 5),
    "conv3": (384, 256, 3, 3),
    "conv4": (384, 192, 3, 3),
    "conv5": (256, 192, 3, 3),
    "fc6": (4096, 9216),
    "fc7": (4096, 4096),
    "fc8": (1000, 4096),
}


def main() -> int:
    """Make the file, time both, and give the exit code."""
    random = np.random.default_rng(0)
    net = StoredNet(
        "alexnet",
        tuple(
            StoredLayer(
                name,
                "Convolution" if name.startswith("conv") else "InnerProduct",
                (random.random(shape, np.float32), random.random(shape[0], np.float32)),
            )
            for name, shape in SHAPES.items()
        ),
    )
    params = [np.zeros_like(blob) for layer in net.layers for blob in layer.blobs]
    flat = np.zeros(sum(param.size for param in params), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "alexnet.caffemodel"
        write_weights(path, net)
        print(f"{path.name}: {path.stat().st_size / 1e6:.0f} MB", file=sys.stderr)

        def ours() -> None:
            blobs = [blob for layer in read_weights(path).layers for blob in layer.blobs]
            for param, blob in zip(params, blobs, strict=True):
                np.copyto(param, blob)

        def theirs() -> None:
            np.copyto(flat, np.fromfile(path, np.float32)[: flat.size])

        ratio = compare("load", ours, theirs, limit=LIMIT, rounds=9)
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
