"""Augmentations of colour. Channels are blue, green, red, or one of grey; values 0 to 255.

Each computes in float32; bytes are rounded to the nearest and clipped once, at its end (Pillow and
torchvision cut the fraction off), floats are clipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torrefy.data.augment.affine import ordered
from torrefy.data.augment.augmentation import Augmentation, Drawn, Sample, augmentation
from torrefy.errors import RecordError
from torrefy.schema.fields import field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from torrefy.data.draws import Draws

LUMA = (0.114, 0.587, 0.299)
"""How bright blue, green and red are (ITU-R BT.601), as in Pillow and torchvision."""
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
"""Of the covariance of ImageNet's pixels in 0..1: the rows are red, green, blue, the columns the
vectors (fb.resnet.torch, datasets/imagenet.lua)."""


class _Factor(Augmentation):
    """What draws a factor, uniform from min to max."""

    min: float = field(0.6, doc="the least factor", at_least=0)
    max: float = field(1.4, doc="the greatest factor", at_least=0)

    def setup(self) -> None:
        """From min to max."""
        ordered(self.min, self.max)

    def draw(self, draws: Draws, size: tuple[int, int]) -> Drawn:
        """A factor."""
        return {"factor": draws.uniform(self.min, self.max)}


@augmentation("Brightness")
class Brightness(_Factor):
    """x · factor: darker below 1, lighter above (as Pillow's ImageEnhance.Brightness)."""

    def apply(self, sample: Sample, drawn: Drawn) -> None:
        """Multiply."""
        sample.picture = _mapped(sample.picture, lambda x: x * drawn["factor"])


@augmentation("Contrast")
class Contrast(_Factor):
    """m + (x − m) · factor, m the mean of the picture's luma (as ImageEnhance.Contrast)."""

    def apply(self, sample: Sample, drawn: Drawn) -> None:
        """Stretch around the mean."""
        means = sample.picture.mean(axis=(1, 2))
        mean = float(sum(w * m for w, m in zip(LUMA, means, strict=True))
                     if is_coloured(sample.picture, self) else means[0])  # fmt: skip
        sample.picture = _mapped(sample.picture, lambda x: mean + (x - mean) * drawn["factor"])


@augmentation("Saturation")
class Saturation(_Factor):
    """g + (x − g) · factor, where g is each pixel's luma (as ImageEnhance.Color): 0 is grey.

    A picture of one channel stays as it is.
    """

    def apply(self, sample: Sample, drawn: Drawn) -> None:
        """Away from grey, or towards it."""
        if is_coloured(sample.picture, self):
            grey = luma(sample.picture)
            made = grey + (sample.picture - grey) * _float(drawn["factor"])
            sample.picture = finished(made, sample.picture)


@augmentation("Hue")
class Hue(Augmentation):
    """Colours turned on the circle by a uniform angle: 120 degrees make red green.

    Saturation and value (of HSV) stay. As torchvision's adjust_hue, whose 0.1 is 36 degrees, but
    in float32, not with a hue of 8 bits. A picture of one channel stays as it is.
    """

    max: float = field(36.0, doc="the greatest angle either way, degrees", at_least=0, at_most=180)

    def draw(self, draws: Draws, size: tuple[int, int]) -> Drawn:
        """An angle."""
        return {"degrees": draws.uniform(-self.max, self.max)}

    def apply(self, sample: Sample, drawn: Drawn) -> None:
        """By way of HSV."""
        if is_coloured(sample.picture, self):
            made = _by_hsv(sample.picture, degrees=drawn["degrees"])
            sample.picture = finished(made, sample.picture)


@augmentation("Lighting")
class Lighting(Augmentation):
    """A colour added to all pixels, along the principal components of ImageNet's.

    Krizhevsky et al. 2012 (section 4.1): sum over i of p_i a_i l_i, where p and l are eigenvectors
    and eigenvalues of the covariance of pixels, and each a is normal. Only for pictures of three
    channels.
    """

    sigma: float = field(0.1, doc="the standard deviation of each a", at_least=0)

    def draw(self, draws: Draws, size: tuple[int, int]) -> Drawn:
        """The three a."""
        return {f"a{i}": draws.normal(0, self.sigma) for i in (1, 2, 3)}

    def apply(self, sample: Sample, drawn: Drawn) -> None:
        """Add the colour."""
        import numpy as np

        if not is_coloured(sample.picture, self):
            raise refused(self, sample.picture)
        weights = [drawn[f"a{i}"] * value for i, value in zip((1, 2, 3), EIGENVALUES, strict=True)]
        red_green_blue = 255 * (np.array(EIGENVECTORS) @ weights)
        made = sample.picture + red_green_blue[::-1].astype(np.float32).reshape(3, 1, 1)
        sample.picture = finished(made, sample.picture)


@augmentation("Grey")
class Grey(Augmentation):
    """Every channel its pixels' luma; with a `probability`, for some pictures.

    0.299 red + 0.587 green + 0.114 blue. A picture of one channel stays as it is.
    """

    def apply(self, sample: Sample, drawn: Drawn) -> None:
        """Take the colours out."""
        if is_coloured(sample.picture, self):
            grey = finished(luma(sample.picture), sample.picture)
            sample.picture = grey.repeat(3, axis=0)


@augmentation("Distort")
class Distort(Augmentation):
    """SSD's photometric distortion: brightness, contrast, saturation and hue, each by chance.

    Brightness is added, contrast multiplied, saturation and hue changed in HSV; contrast comes
    first of the last three or last, by equal chance (Liu et al. 2016, arXiv:1512.02325; parameters
    as in SSD's Caffe). There each step rounds to bytes, and the hue is cut off at red; here bytes
    are rounded once, and the hue goes round. To a picture of one channel brightness and contrast
    alone are done.
    """

    brightness_prob: float = field(0.5, doc="how often it is changed", at_least=0, at_most=1)
    brightness_delta: float = field(32.0, doc="by how much at most, of 255", at_least=0)
    contrast_prob: float = field(0.5, doc="how often it is changed", at_least=0, at_most=1)
    contrast_lower: float = field(0.5, doc="the least factor", at_least=0)
    contrast_upper: float = field(1.5, doc="the greatest factor", at_least=0)
    saturation_prob: float = field(0.5, doc="how often it is changed", at_least=0, at_most=1)
    saturation_lower: float = field(0.5, doc="the least factor", at_least=0)
    saturation_upper: float = field(1.5, doc="the greatest factor", at_least=0)
    hue_prob: float = field(0.5, doc="how often it is changed", at_least=0, at_most=1)
    hue_delta: float = field(18.0, doc="by how much at most, in OpenCV's units of 2 degrees",
                             at_least=0, at_most=90)  # fmt: skip

    def setup(self) -> None:
        """From lower to upper."""
        ordered(self.contrast_lower, self.contrast_upper, "contrast_lower", "contrast_upper")
        ordered(
            self.saturation_lower, self.saturation_upper, "saturation_lower", "saturation_upper"
        )

    def draw(self, draws: Draws, size: tuple[int, int]) -> Drawn:
        """What is changed, and by how much; what is not is not there."""
        drawn = {"contrast_first": float(draws.chance(0.5))}
        if draws.chance(self.brightness_prob):
            drawn["brightness"] = draws.uniform(-self.brightness_delta, self.brightness_delta)
        if draws.chance(self.contrast_prob):
            drawn["contrast"] = draws.uniform(self.contrast_lower, self.contrast_upper)
        if draws.chance(self.saturation_prob):
            drawn["saturation"] = draws.uniform(self.saturation_lower, self.saturation_upper)
        if draws.chance(self.hue_prob):
            drawn["hue"] = draws.uniform(-self.hue_delta, self.hue_delta)
        return drawn

    def apply(self, sample: Sample, drawn: Drawn) -> None:
        """One after another."""
        import numpy as np

        x = sample.picture.astype(np.float32)
        coloured = is_coloured(sample.picture, self)
        if "brightness" in drawn:
            x = np.clip(x + _float(drawn["brightness"]), 0, 255)
        contrast = _float(drawn.get("contrast", 1.0))
        if drawn["contrast_first"]:
            x = np.clip(x * contrast, 0, 255)
        if coloured and drawn.keys() & {"saturation", "hue"}:
            x = _by_hsv(x, 2 * drawn.get("hue", 0.0), drawn.get("saturation", 1.0))
        if not drawn["contrast_first"]:
            x = x * contrast
        sample.picture = finished(x, sample.picture)


def luma(picture: NDArray[Any]) -> NDArray[Any]:
    """How bright each pixel is, 1×H×W in float32."""
    import numpy as np

    blue, green, red = (np.float32(weight) for weight in LUMA)
    found: NDArray[Any] = picture[:1] * blue + picture[1:2] * green + picture[2:3] * red
    return found


def is_coloured(picture: NDArray[Any], one: Augmentation) -> bool:
    """Whether a picture has three channels; False: one.

    Raises:
        RecordError: it has other channels.
    """
    if len(picture) not in (1, 3):
        raise refused(one, picture, "1 or 3 channels")
    return len(picture) == 3


def refused(one: Augmentation, picture: NDArray[Any], takes: str = "3 channels") -> RecordError:
    """The error about a picture that an augmentation doesn't take."""
    return RecordError(f"{one.type_name} takes pictures of {takes}, found {len(picture)}")


def finished(made: NDArray[Any], picture: NDArray[Any]) -> NDArray[Any]:
    """Values as the picture has them: bytes rounded, all clipped to 0..255."""
    import numpy as np

    clipped = np.clip(made, 0, 255)
    if picture.dtype == np.uint8:
        clipped = np.rint(clipped, out=clipped)
    whole: NDArray[Any] = clipped.astype(picture.dtype, copy=False)
    return whole


def _mapped(picture: NDArray[Any], change: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
    """A picture each of whose values is changed by itself: of bytes by a table."""
    import numpy as np

    if picture.dtype != np.uint8:
        return finished(change(picture).astype(np.float32), picture)
    table = finished(change(np.arange(256, dtype=np.float32)), picture)
    made: NDArray[Any] = table[picture]
    return made


def _by_hsv(picture: NDArray[Any], degrees: float = 0.0, factor: float = 1.0) -> NDArray[Any]:
    """Hue turned and saturation multiplied, of three channels in 0..255, in float32."""
    import cv2
    import numpy as np

    rows = np.ascontiguousarray(picture.transpose(1, 2, 0), np.float32)
    hsv = cv2.cvtColor(rows, cv2.COLOR_BGR2HSV)
    if degrees:
        hsv[..., 0] = (hsv[..., 0] + _float(degrees)) % _float(360)
    if factor != 1:
        hsv[..., 1] = np.minimum(hsv[..., 1] * _float(factor), 1)
    made: NDArray[Any] = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR).transpose(2, 0, 1)
    return made


def _float(number: float) -> Any:
    """A number that doesn't make float32 float64."""
    import numpy as np

    return np.float32(number)


BUILT_IN = (Brightness, Contrast, Saturation, Hue, Lighting, Grey, Distort)
