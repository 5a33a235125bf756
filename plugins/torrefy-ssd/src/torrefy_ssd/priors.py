"""PriorBox: the boxes that detections are told relative to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torrefy.layers.base import Layer, Shape, layer, shape_text

from torrefy_ssd.schema import PriorBoxParameter

SAME = 1e-6
"""Aspect ratios that differ by less are one."""


@dataclass(frozen=True)
class Grid:
    """Boxes of some sizes around each place of a plane."""

    sizes: tuple[tuple[float, float], ...]
    """Width and height in pixels of the boxes at one place."""
    variances: tuple[float, ...]
    offset: float
    clip: bool

    def priors(
        self, plane: tuple[int, int], picture: tuple[int, int], step: tuple[float, float] | None
    ) -> NDArray[np.float32]:
        """Boxes and variances as 1×2×4P.

        Args:
            plane: height and width in places.
            picture: height and width in pixels.
            step: pixels from row to row and from column to column; None: picture by plane.
        """
        # Caffe's mixture of precisions: centres and sizes are floats, the rest is done in double.
        single, double = np.float32, np.float64
        centers = []
        for axis in (0, 1):
            pixels = single(step[axis] if step else single(picture[axis]) / single(plane[axis]))
            places = np.arange(plane[axis], dtype=single)
            centers.append(((places + single(self.offset)) * pixels).astype(double))
        half = np.array(self.sizes, dtype=single).astype(double) / 2
        y = centers[0][:, None, None]
        x = centers[1][None, :, None]
        corners = np.empty((*plane, len(half), 4), dtype=double)
        corners[..., 0] = (x - half[:, 0]) / picture[1]
        corners[..., 1] = (y - half[:, 1]) / picture[0]
        corners[..., 2] = (x + half[:, 0]) / picture[1]
        corners[..., 3] = (y + half[:, 1]) / picture[0]
        boxes = corners.astype(single).reshape(-1, 4)
        if self.clip:
            boxes = boxes.clip(0, 1)
        variances = np.broadcast_to(np.array(self.variances, dtype=single), boxes.shape)
        return np.stack([boxes, variances]).reshape(1, 2, -1)


@layer("PriorBox")
class PriorBox(Layer):
    """Boxes of fixed sizes around each place of a plane (Liu et al. 2016, arXiv:1512.02325).

    Bottoms: the plane, N×C×H×W, and the picture, N×C×H×W; only their sizes matter. Top:
    1×2×(H·W·P·4), first the boxes as xmin, ymin, xmax, ymax in shares of the picture, row by row
    and P at each place, then their variances. P boxes: for each `min_size` m a square of side m;
    with `max_size` M one of side sqrt(m · M); and for each `aspect_ratio` a other than 1 one of
    m · sqrt(a) × m / sqrt(a), with `flip` followed by that of 1 / a. Ratios that were there
    already are passed over. The centres are at (i + offset) · step pixels.

    As in SSD's Caffe sizes are cut to whole pixels: min_size 35.84 is 35. (OpenCV doesn't cut.)
    """

    param = "prior_box_param"
    fields = PriorBoxParameter
    example = (
        "prior_box_param {\n"
        "  min_size: 60 max_size: 111 aspect_ratio: 2 aspect_ratio: 3 step: 16\n"
        "  variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2\n"
        "}"
    )
    bottoms = (2, 2)
    in_place = False
    fresh = True

    min_size: tuple[float, ...]
    max_size: tuple[float, ...]
    aspect_ratio: tuple[float, ...]
    flip: bool
    clip: bool
    variance: tuple[float, ...]
    img_size: int | None
    img_h: int | None
    img_w: int | None
    step: float | None
    step_h: float | None
    step_w: float | None
    offset: float

    def setup(self, *bottoms: Shape) -> None:
        """Find the sizes of the boxes."""
        if not self.min_size:
            raise self.error(
                "min_size is missing", field="min_size",
                hint="Give prior_box_param { min_size: … }.",
            )  # fmt: skip
        if self.max_size and len(self.max_size) != len(self.min_size):
            raise self.error(
                f"{len(self.max_size)} max_size for {len(self.min_size)} min_size: give one for "
                "each, or none",
                field="max_size",
            )
        for small, large in zip(self.min_size, self.max_size, strict=False):
            if large <= small:
                raise self.error(
                    f"max_size {large:g} must be above its min_size {small:g}", field="max_size"
                )
        if len(self.variance) not in (0, 1, 4):
            raise self.error(
                f"{len(self.variance)} variance: give 1, or 4 for x, y, width and height",
                field="variance",
            )
        for i, shape in enumerate(bottoms):
            if len(shape) != 4:
                raise self.error(
                    f"PriorBox takes bottoms of 4 axes (N, C, H, W), bottom {i} is "
                    f"{shape_text(shape)}",
                    field="bottom",
                )
        self.picture = self.pair("img", "img_size", (self.img_size, self.img_h, self.img_w))
        self.steps = self.pair("step", "step", (self.step, self.step_h, self.step_w))
        self.grid = Grid(self.sizes(), self.variance or (0.1,), float(self.offset), bool(self.clip))

    def pair(
        self, prefix: str, single: str, given: tuple[float | None, float | None, float | None]
    ) -> tuple[float, float] | None:
        """Height and width, from one field or from two; None where none is given."""
        both, height, width = given
        if height is None and width is None:
            return None if both is None else (both, both)
        if both is not None:
            raise self.error(
                f"both {single} and {prefix}_h/{prefix}_w are given; use one of them",
                field=single,
            )
        if height is None or width is None:
            lacking = f"{prefix}_h" if height is None else f"{prefix}_w"
            raise self.error(
                f"{prefix}_h and {prefix}_w go together; {lacking} is missing",
                field=f"{prefix}_w" if height is None else f"{prefix}_h",
            )
        return height, width

    def ratios(self) -> list[float]:
        """The aspect ratios other than 1, in order."""
        found = [1.0]
        for ratio in self.aspect_ratio:
            if all(abs(ratio - other) >= SAME for other in found):
                found += [ratio, 1 / ratio] if self.flip else [ratio]
        return [ratio for ratio in found if abs(ratio - 1) >= SAME]

    def sizes(self) -> tuple[tuple[float, float], ...]:
        """Width and height of the boxes at one place."""
        found: list[tuple[float, float]] = []
        for i, size in enumerate(self.min_size):
            small = int(size)
            found.append((small, small))
            if self.max_size:
                middle = math.sqrt(small * int(self.max_size[i]))
                found.append((middle, middle))
            found += [
                (small * math.sqrt(ratio), small / math.sqrt(ratio)) for ratio in self.ratios()
            ]
        return tuple(found)

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Lay the boxes; of the bottoms only the sizes count."""
        plane, picture = bottoms[0], self.picture or tuple(bottoms[1].shape[2:])
        priors: Tensor = _laid(
            self.grid,
            (int(plane.shape[2]), int(plane.shape[3])),
            (int(picture[0]), int(picture[1])),
            self.steps,
        )
        return priors.to(plane.device, plane.dtype)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _laid(
    grid: Grid,
    plane: tuple[int, int],
    picture: tuple[int, int],
    step: tuple[float, float] | None,
) -> Tensor:
    """The priors as a tensor, which is a constant of a program whose sizes are fixed."""
    return torch.tensor(grid.priors(plane, picture, step))
