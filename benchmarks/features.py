"""Pictures a second from a folder to an .npz: `torrefy features` against two loops written by hand.

600 JPEGs of 500x375; SqueezeNet v1.1 to fire9/concat, means over the map. By hand: a DataLoader of
as many workers that decodes by Pillow, and the net in PyTorch, or in ONNX Runtime from a file
that was exported before. Models are open on all sides before the clock runs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from harness import compare
from torrefy.export.onnx import export_onnx
from torrefy.features.extract import Extractor
from torrefy.features.formats import read
from torrefy.features.stream import extract_to
from torrefy.runtime.session import OnnxModel

MODEL, BLOB = "squeezenet_v1.1", "fire9/concat"
COUNT, BATCH, WORKERS = 600, 32, 2
LIMIT = 1.0


def make_pictures(folder: Path) -> None:
    """JPEGs of 500x375, smooth as photographs are."""
    random = np.random.default_rng(0)
    for i in range(COUNT):
        path = folder / str(i % 4) / f"{i:04d}.jpg"
        path.parent.mkdir(exist_ok=True)
        pixels = random.integers(0, 256, (24, 32, 3), np.uint8)
        large = Image.fromarray(pixels).resize((500, 375), Image.Resampling.BICUBIC)
        large.save(path, quality=90)


class Pictures(Dataset[torch.Tensor]):
    """What one writes for the same pictures."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.rglob("*.jpg"))
        self.mean = np.array([104, 117, 123], np.float32)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.files[index]) as image:
            resized = image.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR)
        pixels = np.asarray(resized)[14:241, 14:241, ::-1]
        return torch.from_numpy((pixels - self.mean).transpose(2, 0, 1))


def main() -> int:
    """Print both ratios; 1 where one is above the limit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = folder / "pictures"
        pictures.mkdir()
        make_pictures(pictures)
        extractor = Extractor(MODEL, [BLOB])
        net = extractor.net
        export_onnx(net, folder / "net.onnx", blobs=[BLOB])
        session = OnnxModel(folder / "net.onnx").session
        if not extractor.use_onnx():
            raise SystemExit("the net can't be exported")
        loader = DataLoader(Pictures(pictures), BATCH, num_workers=WORKERS)

        def ours() -> None:
            (folder / "ours.npz").unlink(missing_ok=True)
            extract_to(folder / "ours.npz", extractor, pictures, engine="torch", batch=BATCH)

        def by_torch() -> None:
            rows: list[NDArray[np.float32]] = []
            with torch.inference_mode():
                for batch in loader:
                    blob = net.run({"data": batch}, [BLOB])[BLOB]
                    rows.append(blob.mean((2, 3)).numpy())
            np.savez(folder / "theirs.npz", features=np.concatenate(rows))

        def by_onnx() -> None:
            rows = []
            for batch in loader:
                (blob,) = session.run([BLOB], {"data": batch.numpy()})
                rows.append(blob.mean((2, 3)))
            np.savez(folder / "theirs.npz", features=np.concatenate(rows))

        ratios = [
            compare(f"features: folder to npz, {what} by hand", ours, theirs, limit=LIMIT, rounds=5)
            for what, theirs in (("PyTorch", by_torch), ("ONNX Runtime", by_onnx))
        ]
        with np.load(folder / "theirs.npz") as theirs:
            difference = np.abs(theirs["features"] - read(folder / "ours.npz").matrix()).max()
        print(f"largest difference of a feature: {difference:.2g}")
    return int(max(ratios) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
