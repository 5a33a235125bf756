"""Augmentations that spoil pixels: blurred, noisy, compressed, cut out."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from torrefy.data.augment.affine import ordered
from torrefy.data.augment.augmentation import Augmentation, Drawn, Sample, augmentation
from torrefy.data.augment.colour import finished, is_coloured
from torrefy.errors import RecordError, TorrefyError
from torrefy.schema.fields import field

if TYPE_CHECKING:
    from torrefy.data.draws import Draws


@augmentation("Blur")
class Blur(Augmentation):
    """Convolved with a Gaussian of uniform width (Chen et al. 2020, arXiv:2002.05709: 0.1 to 2).

    Out to three standard deviations; at the edges the picture is reflected.
    """

    min: float = field(0.1, doc="the least standard deviation, pixels", above=0, at_most=100)
    max: float = field(2.0, doc="the greatest standard deviation, pixels", above=0, at_most=100)

    def setup(self) -> None:
        """From min to max."""
        ordered(self.min, self.max)

    def draw(self, draws: Draws, size: tuple[int, int]) -> Drawn:
        """A standard deviation."""
        return {"sigma": draws.uniform(self.min, self.max)}

    def apply(self, sample: Sample, drawn: Drawn) -> None:
        """Blur, of floats or bytes."""
        import cv2
        import numpy as np

        side = 2 * max(1, round(3 * drawn["sigma"])) + 1
        sample.picture = np.stack([
            cv2.GaussianBlur(np.ascontiguousarray(channel), (side, side), drawn["sigma"])
            for channel in sample.picture
        ])  # fmt: skip


@augmentation("Noise")
class Noise(Augmentation):
    """Normal noise added, independent for each pixel and channel, of uniform strength."""

    min: float = field(0.0, doc="the least standard deviation, of 255", at_least=0)
    max: float = field(10.0, doc="the greatest standard deviation, of 255", at_least=0)

    def setup(self) -> None:
        """From min to max."""
        ordered(self.min, self.max)

    def draw(self, draws: Draws, size: tuple[int, int]) -> Drawn:
        """A standard deviation, and a seed for the pixels."""
        return {"sigma": draws.uniform(self.min, self.max), "seed": float(draws.below(1 << 32))}

    def apply(self, sample: Sample, drawn: Drawn) -> None:
        """Add the noise; bytes are rounded and clipped."""
        import numpy as np

        # The old generator, whose stream numpy promises to keep (NEP 19): a resumed run sees the
        # same noise after an update.
        random = np.random.RandomState(int(drawn["seed"]))
        noise = random.standard_normal(sample.picture.shape).astype(np.float32)
        made = sample.picture + noise * np.float32(drawn["sigma"])
        sample.picture = finished(made, sample.picture)


@augmentation("JPEG")
class JPEG(Augmentation):
    """Written as a JPEG of uniform quality and read again, by Pillow, colours at half the size.

    Floats are rounded to bytes for it.
    """

    min: int = field(30, doc="the least quality", at_least=1, at_most=100)
    max: int = field(95, doc="the greatest quality", at_least=1, at_most=100)

    def setup(self) -> None:
        """From min to max."""
        ordered(self.min, self.max)

    def draw(self, draws: Draws, size: tuple[int, int]) -> Drawn:
        """A quality, a whole number."""
        return {"quality": float(self.min + draws.below(self.max - self.min + 1))}

    def apply(self, sample: Sample, drawn: Drawn) -> None:
        """Write and read."""
        import numpy as np
        from PIL import Image

        given = sample.picture
        coloured = is_coloured(given, self)
        pixels = finished(given.astype(np.float32), np.empty(0, np.uint8))
        rows = np.ascontiguousarray(pixels[::-1].transpose(1, 2, 0) if coloured else pixels[0])
        with io.BytesIO() as file:
            try:
                Image.fromarray(rows).save(file, "JPEG", quality=int(drawn["quality"]))
            except OSError as error:  # JPEG's sides have 16 bits
                height, width = sample.size
                raise RecordError(f"a picture of {width}x{height} can't be a JPEG") from error
            with Image.open(file) as image:
                read = np.asarray(image)
        made = read.transpose(2, 0, 1)[::-1] if coloured else read[None]
        sample.picture = made.astype(given.dtype, copy=False)


@augmentation("Cutout")
class Cutout(Augmentation):
    """A square around a uniform place covered, which may reach beyond the edge.

    DeVries and Taylor 2017 (arXiv:1708.04552): a side of 16 of 32 pixels for CIFAR-10, filled with
    the mean. Points, boxes and masks stay as they are.
    """

    fraction: float = field(0.0, doc="the side, a share of the shorter side; 0.5 where neither is "
                            "given", at_least=0, at_most=1)  # fmt: skip
    pixels: int = field(0, doc="the side, pixels", at_least=0)
    fill: list[float] = field(doc="one for all channels or one for each; none: the picture's mean")

    def setup(self) -> None:
        """One of both."""
        if self.pixels and self.fraction:
            raise TorrefyError("give one of pixels and fraction")

    def draw(self, draws: Draws, size: tuple[int, int]) -> Drawn:
        """The centre and the side, in whole pixels."""
        side = self.pixels or max(1, round((self.fraction or 0.5) * min(size)))
        x, y = draws.below(size[1]), draws.below(size[0])
        return {"x": float(x), "y": float(y), "side": float(side)}

    def apply(self, sample: Sample, drawn: Drawn) -> None:
        """Cover it."""
        import numpy as np

        channels = len(sample.picture)
        if len(self.fill) not in (0, 1, channels):
            raise RecordError(
                f"the picture has {channels} channel{'s' * (channels > 1)}, but Cutout's fill is "
                f"given {len(self.fill)} times"
            )
        fill = np.asarray(self.fill or sample.picture.mean(axis=(1, 2)), np.float32)
        left, top = (int(drawn[name] - drawn["side"] // 2) for name in ("x", "y"))
        right, bottom = left + int(drawn["side"]), top + int(drawn["side"])
        made = sample.picture.copy()
        made[:, max(top, 0) : bottom, max(left, 0) : right] = finished(fill.reshape(-1, 1, 1), made)
        sample.picture = made


BUILT_IN = (Blur, Noise, JPEG, Cutout)
