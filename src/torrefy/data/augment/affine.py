"""Augmentations that move pixels by a matrix: those that stand together resample once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from torrefy.data.augment.augmentation import Augmentation, Drawn, Sample, augmentation
from torrefy.errors import TorrefyError
from torrefy.schema.fields import field

if TYPE_CHECKING:
    from torrefy.data.draws import Draws

Matrix = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): what was at (x, y) comes to (a x + b y + c, d x + e y + f). Places are those
of pixels' centres, the first pixel's is (0, 0)."""
Size = tuple[int, int]
"""Height and width, in pixels."""

IDENTITY: Matrix = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def after(second: Matrix, first: Matrix) -> Matrix:
    """One matrix for two: `first` is done first."""
    a, b, c, d, e, f = second
    g, h, i, j, k, m = first
    return (
        a * g + b * j, a * h + b * k, a * i + b * m + c,
        d * g + e * j, d * h + e * k, d * i + e * m + f,
    )  # fmt: skip


def inverse(matrix: Matrix) -> Matrix:
    """The matrix that leads back."""
    a, b, c, d, e, f = matrix
    area = a * e - b * d
    return (
        e / area, -b / area, (b * f - c * e) / area,
        -d / area, a / area, (c * d - a * f) / area,
    )  # fmt: skip


def centred(a: float, b: float, d: float, e: float, size: Size) -> Matrix:
    """A linear map around the picture's centre."""
    y, x = (size[0] - 1) / 2, (size[1] - 1) / 2
    return (a, b, x - a * x - b * y, d, e, y - d * x - e * y)


class Affine(Augmentation):
    """An augmentation that is a matrix; a subclass gives `matrix`, and `canvas` if that changes."""

    def matrix(self, drawn: Drawn, size: Size) -> Matrix:
        """Where pixels come to, in a picture of that size."""
        raise NotImplementedError

    def canvas(self, drawn: Drawn, size: Size) -> Size:
        """The size of the picture that is made."""
        return size

    def apply(self, sample: Sample, drawn: Drawn) -> None:
        """Warp a sample by this matrix alone, with the defaults of `warp`."""
        from torrefy.data.augment.warp import Warp

        size = sample.size
        Warp().sample(sample, self.matrix(drawn, size), self.canvas(drawn, size))


@augmentation("Rotation")
class Rotation(Affine):
    """Turned around its centre by a uniform angle, to the left."""

    min: float = field(0.0, doc="the least angle, degrees")
    max: float = field(360.0, doc="the greatest angle, degrees")

    def setup(self) -> None:
        """From min to max."""
        ordered(self.min, self.max)

    def draw(self, draws: Draws, size: Size) -> Drawn:
        """An angle."""
        return {"degrees": draws.uniform(self.min, self.max)}

    def matrix(self, drawn: Drawn, size: Size) -> Matrix:
        """X cos + y sin, y cos − x sin."""
        angle = math.radians(drawn["degrees"])
        cos, sin = math.cos(angle), math.sin(angle)
        return centred(cos, sin, -sin, cos, size)


@augmentation("Translation")
class Translation(Affine):
    """Moved by uniform distances, to the right and down, each on its own."""

    pixels: float = field(0.0, doc="the farthest, pixels", at_least=0)
    fraction: float = field(
        0.0, doc="the farthest, a fraction of width and height", at_least=0, at_most=1
    )
    example = "translation_param { pixels: 10 }"

    def setup(self) -> None:
        """One of both."""
        if bool(self.pixels) == bool(self.fraction):
            raise TorrefyError("give one of pixels and fraction")

    def draw(self, draws: Draws, size: Size) -> Drawn:
        """Distances, in pixels."""
        height, width = size
        farthest = [self.pixels or self.fraction * extent for extent in (width, height)]
        x, y = (draws.uniform(-far, far) for far in farthest)
        return {"x": x, "y": y}

    def matrix(self, drawn: Drawn, size: Size) -> Matrix:
        """X and y are added."""
        return (1.0, 0.0, drawn["x"], 0.0, 1.0, drawn["y"])


@augmentation("Rescaling")
class Rescaling(Affine):
    """Made larger or smaller around its centre, by a log-uniform factor; its size stays."""

    min: float = field(1 / 1.6, doc="the least factor", above=0)
    max: float = field(1.6, doc="the greatest factor", above=0)

    def setup(self) -> None:
        """From min to max."""
        ordered(self.min, self.max)

    def draw(self, draws: Draws, size: Size) -> Drawn:
        """A factor."""
        return {"factor": draws.log_uniform(self.min, self.max)}

    def matrix(self, drawn: Drawn, size: Size) -> Matrix:
        """Both axes by the factor."""
        return centred(drawn["factor"], 0.0, 0.0, drawn["factor"], size)


@augmentation("Stretch")
class Stretch(Affine):
    """Made wider and lower, or narrower and higher, by a log-uniform factor; its area stays."""

    min: float = field(1 / 1.3, doc="the least factor of the width", above=0)
    max: float = field(1.3, doc="the greatest factor of the width", above=0)

    def setup(self) -> None:
        """From min to max."""
        ordered(self.min, self.max)

    def draw(self, draws: Draws, size: Size) -> Drawn:
        """A factor."""
        return {"factor": draws.log_uniform(self.min, self.max)}

    def matrix(self, drawn: Drawn, size: Size) -> Matrix:
        """X times the factor, y divided by it."""
        return centred(drawn["factor"], 0.0, 0.0, 1 / drawn["factor"], size)


@augmentation("Shear")
class Shear(Affine):
    """Slanted by a uniform angle: what is upright leans by it."""

    min: float = field(-20.0, doc="the least angle, degrees", above=-90, below=90)
    max: float = field(20.0, doc="the greatest angle, degrees", above=-90, below=90)

    def setup(self) -> None:
        """From min to max."""
        ordered(self.min, self.max)

    def draw(self, draws: Draws, size: Size) -> Drawn:
        """An angle."""
        return {"degrees": draws.uniform(self.min, self.max)}

    def matrix(self, drawn: Drawn, size: Size) -> Matrix:
        """X + y tan."""
        return centred(1.0, math.tan(math.radians(drawn["degrees"])), 0.0, 1.0, size)


@augmentation("Flip")
class Flip(Affine):
    """Mirrored, left and right or top and bottom, each by a chance of its own."""

    horizontal: float = field(0.5, doc="how often left and right change", at_least=0, at_most=1)
    vertical: float = field(0.0, doc="how often top and bottom change", at_least=0, at_most=1)

    def draw(self, draws: Draws, size: Size) -> Drawn:
        """1 where it is done."""
        return {
            "horizontal": float(draws.chance(self.horizontal)),
            "vertical": float(draws.chance(self.vertical)),
        }

    def matrix(self, drawn: Drawn, size: Size) -> Matrix:
        """An axis with its sign changed."""
        return centred(1 - 2 * drawn["horizontal"], 0.0, 0.0, 1 - 2 * drawn["vertical"], size)


@augmentation("Resize")
class Resize(Affine):
    """Brought to a size; nothing is drawn."""

    height: int = field(doc="pixels", at_least=1, at_most=1 << 14)
    width: int = field(doc="pixels", at_least=1, at_most=1 << 14)
    example = "resize_param { height: 24 width: 32 }"
    fit: Literal["STRETCH", "COVER", "CONTAIN"] = field(
        "STRETCH",
        doc="whatever the aspect; or with the aspect kept, cut to the size, or with a border",
    )

    def canvas(self, drawn: Drawn, size: Size) -> Size:
        """The size."""
        return self.height, self.width

    def matrix(self, drawn: Drawn, size: Size) -> Matrix:
        """The old corners to the new ones, or the centre to the centre."""
        y, x = self.height / size[0], self.width / size[1]
        if self.fit != "STRETCH":
            x = y = max(x, y) if self.fit == "COVER" else min(x, y)
        return placed(x, y, size, (self.height, self.width))


def placed(x: float, y: float, size: Size, canvas: Size) -> Matrix:
    """The axes by factors, and the centre to the centre of another size."""
    return (
        x, 0.0, (canvas[1] - 1 - x * (size[1] - 1)) / 2,
        0.0, y, (canvas[0] - 1 - y * (size[0] - 1)) / 2,
    )  # fmt: skip


def ordered(low: float, high: float, lower: str = "min", upper: str = "max") -> None:
    """Refuse a range that has no numbers; `lower` and `upper` are what its ends are called.

    Raises:
        TorrefyError: it is the wrong way round.
    """
    if low > high:
        raise TorrefyError(f"{lower} is above {upper}: {low:g} and {high:g}")


BUILT_IN = (Rotation, Translation, Rescaling, Stretch, Shear, Flip, Resize)
