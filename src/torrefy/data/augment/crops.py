"""Augmentations that choose a part of a picture, or a place for it: matrices, with a new size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torrefy.data.augment.affine import Affine, Matrix, Size, ordered
from torrefy.data.augment.augmentation import Drawn, augmentation
from torrefy.errors import TorrefyError
from torrefy.schema.fields import field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from torrefy.data.draws import Draws

TRIES = 10
"""How often RandomResizedCrop looks for a part that fits."""


@augmentation("RandomResizedCrop")
class RandomResizedCrop(Affine):
    """A part of uniform area and log-uniform aspect, from anywhere, brought to a size.

    Szegedy et al. 2014 (arXiv:1409.4842, section 6): 8 % to 100 % of the area, 3/4 to 4/3. A part
    that doesn't fit is drawn again, ten times at most; then it is the largest in the centre whose
    aspect is allowed.
    """

    height: int = field(doc="of what is made, pixels", at_least=1, at_most=1 << 14)
    width: int = field(doc="of what is made, pixels", at_least=1, at_most=1 << 14)
    min_area: float = field(0.08, doc="the least share of the picture's area", above=0, at_most=1)
    max_area: float = field(1.0, doc="the greatest share", above=0, at_most=1)
    min_aspect: float = field(3 / 4, doc="the least width / height", above=0)
    max_aspect: float = field(4 / 3, doc="the greatest width / height", above=0)
    example = "random_resized_crop_param { height: 24 width: 32 }"

    def setup(self) -> None:
        """From min to max."""
        ordered(self.min_area, self.max_area, "min_area", "max_area")
        ordered(self.min_aspect, self.max_aspect, "min_aspect", "max_aspect")

    def draw(self, draws: Draws, size: Size) -> Drawn:
        """The part, in pixels."""
        height, width = size
        for _ in range(TRIES):
            area = draws.uniform(self.min_area, self.max_area) * height * width
            aspect = draws.log_uniform(self.min_aspect, self.max_aspect)
            across, down = math.sqrt(area * aspect), math.sqrt(area / aspect)
            if across <= width and down <= height:
                left, top = draws.uniform(0, width - across), draws.uniform(0, height - down)
                break
        else:
            aspect = min(max(width / height, self.min_aspect), self.max_aspect)
            across, down = min(width, height * aspect), min(height, width / aspect)
            left, top = (width - across) / 2, (height - down) / 2
        return {"left": left, "top": top, "width": across, "height": down}

    def canvas(self, drawn: Drawn, size: Size) -> Size:
        """The size."""
        return self.height, self.width

    def matrix(self, drawn: Drawn, size: Size) -> Matrix:
        """The part's edges to the new picture's."""
        return part_to(drawn, (self.height, self.width))


@augmentation("MultiScale")
class MultiScale(Affine):
    """Brought to a shorter side that is drawn, its aspect kept; a crop_size then cuts.

    Simonyan and Zisserman 2014 (arXiv:1409.1556, section 3.1.1): 256 to 512 pixels.
    """

    size: list[int] = field(doc="shorter sides, pixels, each as often; else from min to max",
                            at_least=1, at_most=1 << 14)  # fmt: skip
    min: int = field(256, doc="the least shorter side, pixels", at_least=1, at_most=1 << 14)
    max: int = field(512, doc="the greatest shorter side, pixels", at_least=1, at_most=1 << 14)
    example = "multi_scale_param { min: 24 max: 40 }"

    def setup(self) -> None:
        """From min to max."""
        ordered(self.min, self.max)

    def draw(self, draws: Draws, size: Size) -> Drawn:
        """The shorter side."""
        if self.size:
            return {"side": float(self.size[draws.below(len(self.size))])}
        return {"side": float(self.min + draws.below(self.max - self.min + 1))}

    def canvas(self, drawn: Drawn, size: Size) -> Size:
        """The longer side in proportion, rounded."""
        height, width = (round(extent * drawn["side"] / min(size)) for extent in size)
        return height, width

    def matrix(self, drawn: Drawn, size: Size) -> Matrix:
        """The old edges to the new ones."""
        whole = {"left": 0.0, "top": 0.0, "width": float(size[1]), "height": float(size[0])}
        return part_to(whole, self.canvas(drawn, size))


@augmentation("Expand")
class Expand(Affine):
    """Put anywhere into a larger picture, up to so many times as wide and high, its aspect kept.

    What is around it is what the transform_param's `warp` says: for SSD `border: CONSTANT` and
    the mean as `fill` (Liu et al. 2016, arXiv:1512.02325, section 3.6: 4 times; with
    `probability: 0.5`). No pixel is resampled. Before a BatchSampler or a Resize only what these
    leave is made.
    """

    max: float = field(4.0, doc="the greatest factor, the least is 1", at_least=1, at_most=16)

    def draw(self, draws: Draws, size: Size) -> Drawn:
        """The factor, uniform, and the picture's place, in whole pixels."""
        factor = draws.uniform(1, self.max)
        height, width = (int(extent * factor) for extent in size)
        left = draws.below(width - size[1] + 1)
        return {
            "factor": factor,
            "left": float(left),
            "top": float(draws.below(height - size[0] + 1)),
        }

    def canvas(self, drawn: Drawn, size: Size) -> Size:
        """So many times the size, rounded down."""
        return int(size[0] * drawn["factor"]), int(size[1] * drawn["factor"])

    def matrix(self, drawn: Drawn, size: Size) -> Matrix:
        """Moved."""
        return (1.0, 0.0, drawn["left"], 0.0, 1.0, drawn["top"])


@augmentation("BatchSampler")
class BatchSampler(Affine):
    """A part that some box overlaps enough: SSD's way to small and large objects.

    Liu et al. 2016 (arXiv:1512.02325, section 2.2): by equal chance the whole picture, any part,
    or one whose Jaccard overlap (intersection over union) with a box is at least 0.1, 0.3, 0.5,
    0.7 or 0.9. Scale and aspect are uniform; what is not found in 50 trials is not among the
    choices. Which boxes are kept is said by the target's `visible` (SSD keeps those whose centre
    is in the part). Without boxes: the whole picture, or any part. Parts have whole pixels, so
    that none is resampled.
    """

    min_jaccard: list[float] = field(doc="overlaps; none given: 0.1, 0.3, 0.5, 0.7, 0.9",
                                     at_least=0, at_most=1)  # fmt: skip
    min_scale: float = field(0.3, doc="least size, a share of the picture's", above=0, at_most=1)
    max_scale: float = field(1.0, doc="greatest size, a share of it", above=0, at_most=1)
    min_aspect: float = field(0.5, doc="least width / height, the picture as 1", above=0)
    max_aspect: float = field(2.0, doc="greatest width / height, the picture as 1", above=0)
    trials: int = field(50, doc="how often a part is drawn for one overlap", at_least=1,
                        at_most=1000)  # fmt: skip

    def setup(self) -> None:
        """From min to max."""
        ordered(self.min_scale, self.max_scale, "min_scale", "max_scale")
        ordered(self.min_aspect, self.max_aspect, "min_aspect", "max_aspect")
        if self.min_aspect > 1 or self.max_aspect < 1:
            raise TorrefyError("min_aspect must be at most 1 and max_aspect at least 1")
        self.overlaps: tuple[float, ...] = tuple(self.min_jaccard) or (0.1, 0.3, 0.5, 0.7, 0.9)

    def draw(self, draws: Draws, size: Size) -> Drawn:
        """A part of a picture without boxes."""
        import numpy as np

        return self.draw_around(draws, size, lambda: np.empty((0, 4), np.float32))

    def draw_around(self, draws: Draws, size: Size, boxes: Callable[[], NDArray[Any]]) -> Drawn:
        """The part in pixels; the overlap that was asked for, −1 for the whole picture."""
        found = boxes()
        wanted = [-1.0, 0.0, *(self.overlaps if len(found) else ())]
        # The first of a shuffled list that is found is as likely as any that could be.
        for i in range(len(wanted) - 1):
            j = i + draws.below(len(wanted) - i)
            wanted[i], wanted[j] = wanted[j], wanted[i]
        for overlap in wanted:
            if overlap < 0:
                break
            for _ in range(self.trials if overlap else 1):
                part = self._part(draws, size)
                if not overlap or _jaccard(part, found) >= overlap:
                    left, top, right, bottom = part
                    return {"left": left, "top": top, "width": right - left,
                            "height": bottom - top, "overlap": overlap}  # fmt: skip
        height, width = map(float, size)
        return {"left": 0.0, "top": 0.0, "width": width, "height": height, "overlap": -1.0}

    def canvas(self, drawn: Drawn, size: Size) -> Size:
        """The part's."""
        return int(drawn["height"]), int(drawn["width"])

    def matrix(self, drawn: Drawn, size: Size) -> Matrix:
        """Moved."""
        return (1.0, 0.0, -drawn["left"], 0.0, 1.0, -drawn["top"])

    def _part(self, draws: Draws, size: Size) -> tuple[float, float, float, float]:
        """A part: left, top, right, bottom, in whole pixels."""
        height, width = size
        scale = draws.uniform(self.min_scale, self.max_scale)
        low, high = max(self.min_aspect, scale**2), min(self.max_aspect, 1 / scale**2)
        root = math.sqrt(draws.uniform(low, high))
        across = max(1, round(min(scale * root, 1.0) * width))
        down = max(1, round(min(scale / root, 1.0) * height))
        left, top = draws.below(width - across + 1), draws.below(height - down + 1)
        return float(left), float(top), float(left + across), float(top + down)


def _jaccard(part: tuple[float, float, float, float], boxes: NDArray[Any]) -> float:
    """The greatest overlap of a part with a box."""
    import numpy as np

    low = np.maximum(boxes[:, :2], part[:2])
    high = np.minimum(boxes[:, 2:], part[2:])
    inside = np.prod(np.maximum(high - low, 0), axis=1)
    own = (part[2] - part[0]) * (part[3] - part[1])
    whole = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + own - inside
    return float((inside / whole).max())


def part_to(part: Drawn, canvas: Size) -> Matrix:
    """A part's edges to those of a picture of that size."""
    x, y = canvas[1] / part["width"], canvas[0] / part["height"]
    # Edges lie half a pixel before the first pixel's centre.
    return (
        x, 0.0, (0.5 - part["left"]) * x - 0.5,
        0.0, y, (0.5 - part["top"]) * y - 0.5,
    )  # fmt: skip


BUILT_IN = (RandomResizedCrop, MultiScale, Expand, BatchSampler)
