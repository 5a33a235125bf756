"""Find faces, and in each the eyes, nose and mouth, with three small nets in a row.

    python docs/examples/mtcnn.py FOLDER_OF_NETS photo.jpg -o faces.png

MTCNN (Zhang et al. 2016, arXiv:1604.02878): P-Net looks at the whole picture in every size and
proposes boxes, R-Net refuses most of them, O-Net decides and places the landmarks. The folder holds
det1, det2 and det3, each .prototxt and .caffemodel, of the paper's authors
(github.com/kpzhang93/MTCNN_face_detection_alignment, code/codes/MTCNNv2/model).
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

import torrefy

THRESHOLDS = 0.6, 0.7, 0.7  # of the three nets; these and all other numbers are the authors'
CELL, STRIDE = 12, 2  # P-Net sees squares of 12 pixels, each 2 pixels from the next
LANDMARKS = "left eye", "right eye", "nose", "left of mouth", "right of mouth"


class Face(NamedTuple):
    """A face in pixels: left, top, right and bottom, and x and y of each landmark."""

    score: float
    box: list[float]
    landmarks: list[list[float]]


def load(folder: Path) -> list[torrefy.Net]:
    """P-Net, R-Net and O-Net. Weights go by the layers' names: det2's file has one layer more."""
    names = [folder / f"det{i}" for i in (1, 2, 3)]
    return [torrefy.load_net(f"{name}.prototxt", weights=f"{name}.caffemodel") for name in names]


@torch.no_grad()
def find_faces(nets: list[torrefy.Net], picture: Image.Image, smallest: int = 20) -> list[Face]:
    """The faces in an RGB picture, `smallest` pixels high or more, the surest first."""
    p_net, r_net, o_net = nets
    boxes = propose(p_net, picture, smallest)
    if len(boxes):
        boxes, scores, out = judge(r_net, picture, boxes, 24, THRESHOLDS[1])
        kept = suppress(boxes, scores, 0.7)
        boxes = square(move(boxes[kept], out["conv5-2"][kept]))
    if not len(boxes):
        return []
    boxes, scores, out = judge(o_net, picture, boxes, 48, THRESHOLDS[2])
    # Five x, then five y, in widths and heights of the square that O-Net saw.
    parts = out["conv6-3"].view(-1, 2, 5).mT
    points = boxes[:, None, :2] + parts * (boxes[:, 2:] - boxes[:, :2])[:, None]
    boxes = move(boxes, out["conv6-2"])
    kept = suppress(boxes, scores, 0.7, of_smaller=True)
    return [Face(float(scores[i]), boxes[i].tolist(), points[i].tolist()) for i in kept]


def propose(p_net: torrefy.Net, picture: Image.Image, smallest: int) -> Tensor:
    """Squares that may hold a face: P-Net over the picture, made smaller again and again."""
    found = [(torch.empty(0, 4), torch.empty(0), torch.empty(0, 4))]
    scale = CELL / smallest
    while min(picture.size) * scale >= CELL:
        width, height = (math.ceil(side * scale) for side in picture.size)
        out = p_net(data=as_input([picture.resize((width, height), Image.Resampling.BILINEAR)]))
        x, y = torch.where(out["prob1"][0, 1] >= THRESHOLDS[0])
        corners = STRIDE * torch.stack([x, y], 1)
        boxes = torch.cat([corners, corners + CELL], 1) / scale
        scores, moves = out["prob1"][0, 1, x, y], out["conv4-2"][0, :, x, y].T
        kept = suppress(boxes, scores, 0.5)
        found.append((boxes[kept], scores[kept], moves[kept]))
        scale *= 0.709  # about half the area
    boxes, scores, moves = map(torch.cat, zip(*found, strict=True))
    kept = suppress(boxes, scores, 0.7)
    return square(move(boxes[kept], moves[kept]))


def judge(
    net: torrefy.Net, picture: Image.Image, boxes: Tensor, side: int, threshold: float
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The boxes that a net passes, seen in `side` times `side` pixels; scores, and all it says."""
    cut = [picture.crop(box) for box in boxes.round().int().tolist()]  # black outside
    out = net(data=as_input([c.resize((side, side), Image.Resampling.BILINEAR) for c in cut]))
    scores = out["prob1"][:, 1]
    passed = scores >= threshold
    return boxes[passed], scores[passed], {name: blob[passed] for name, blob in out.items()}


def as_input(pictures: list[Image.Image]) -> Tensor:
    """Pictures of one size as the nets take them: N×3×W×H, RGB, from -1 to 1."""
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    # Width before height: Matlab, in which the nets were trained, keeps columns together.
    return (pixels.permute(0, 3, 2, 1) - 127.5) / 128


def move(boxes: Tensor, moves: Tensor) -> Tensor:
    """Boxes with each side moved as a net says, in widths and heights of the box."""
    return boxes + moves * (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)


def square(boxes: Tensor) -> Tensor:
    """Squares around the boxes' centres, with the boxes' longer sides."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    return torch.cat([centre - half, centre + half], 1)


def suppress(boxes: Tensor, scores: Tensor, most: float, *, of_smaller: bool = False) -> Tensor:
    """Which boxes share no more than a part of their union, or of the smaller, with better ones."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    left = scores.argsort(descending=True)
    kept = []
    while len(left):
        best, left = int(left[0]), left[1:]
        kept.append(best)
        low = torch.maximum(boxes[best, :2], boxes[left, :2])
        high = torch.minimum(boxes[best, 2:], boxes[left, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        smaller, union = areas[left].clamp(max=areas[best]), areas[left] + areas[best] - shared
        left = left[shared <= most * (smaller if of_smaller else union)]
    return torch.tensor(kept, dtype=torch.long)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Find faces and their landmarks with MTCNN.")
    parser.add_argument("nets", type=Path, help="folder of det1, det2 and det3")
    parser.add_argument("picture", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="the picture with what was found")
    options = parser.parse_args()
    picture = ImageOps.exif_transpose(Image.open(options.picture)).convert("RGB")
    pen = ImageDraw.Draw(picture)
    for face in find_faces(load(options.nets), picture):
        print("face {:.0f} {:.0f} {:.0f} {:.0f}".format(*face.box), f"score {face.score:.4f}")
        pen.rectangle(face.box, outline="lime", width=2)
        for name, (x, y) in zip(LANDMARKS, face.landmarks, strict=True):
            print(f"  {name} {x:.0f} {y:.0f}")
            pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill="red")
    if options.output:
        picture.save(options.output)
