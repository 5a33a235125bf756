"""Caffe's data transformer: crop, mean, scale and mirror."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.draws import Draws
from torrefy.data.sources.source import Item
from torrefy.errors import DataError, Place, RecordError, TorrefyError
from torrefy.schema.blobs import read_blob
from torrefy.weights.files import read_whole

if TYPE_CHECKING:
    from torrefy.data.augment.augmentation import Sample
    from torrefy.data.augment.pipeline import Augmenter
    from torrefy.data.augment.versions import Versions


@dataclass(frozen=True)
class View:
    """What is seen of an item before the mean is subtracted: augmented, cropped and mirrored."""

    sample: Sample
    top: int = 0
    """The crop's place in the augmented picture, with `left`."""
    left: int = 0
    mirrored: bool = False


class Transformer:
    """Makes of a picture what a net sees: (x − mean)·scale of a crop, perhaps mirrored.

    As Caffe's DataTransformer, in float32:

    - The crop is of crop×crop, anywhere in phase train, and at ⌊(size − crop) / 2⌋ in phase test.
    - A mean image has the size of the uncropped picture; what is subtracted is its part at the
      crop.
    - Half of the pictures are mirrored, in phase test too.

    Before that an `Augmenter` may change the picture; it moves points, boxes and masks with all.

    Example:
        >>> transform = Transformer(crop=2, mean=[100.0], scale=0.5)
        >>> picture = np.full((1, 5, 7), 102, np.uint8)
        >>> transform((picture,), Draws(0, 0))[0]
        array([[[1., 1.],
                [1., 1.]]], dtype=float32)
    """

    def __init__(
        self,
        *,
        scale: float = 1.0,
        mean: NDArray[np.float32] | Sequence[float] = (),
        crop: int = 0,
        mirror: bool = False,
        train: bool = False,
        augmenter: Augmenter | None = None,
        versions: Versions | None = None,
        rgb: bool = False,
    ) -> None:
        """Say what is done.

        Args:
            scale: the factor after the mean.
            mean: an image of C×H×W, one value for each channel, one for all, or none.
            crop: height and width of the crop; 0: none.
            mirror: whether half of the pictures are mirrored.
            train: whether crops are drawn.
            augmenter: what is done before all that, and what moves with the picture; None:
                nothing.
            versions: those that are made of each picture, V×C×H×W; None: it alone.
            rgb: whether the channels are turned round: red comes first.
        """
        self.rgb = rgb
        self.augmenter = augmenter
        self.versions = versions
        self.scale = np.float32(scale)
        array = np.asarray(mean, np.float32)
        self.mean = None if array.ndim == 3 else array.reshape(-1, 1, 1)
        self.mean_image = array if array.ndim == 3 else None
        self.crop = crop
        self.mirror = mirror
        self.train = train

    @classmethod
    def from_layer(cls, spec: Any, phase: str, folder: Path | str = ".") -> Transformer:
        """What the `transform_param` of a LayerParameter says.

        Args:
            spec: the LayerParameter.
            phase: "train" or "test".
            folder: what `mean_file` is relative to.

        Raises:
            DataError: mean_file and mean_value are both given, or the file can't be read; what it
                says of augmentation is wrong.
        """
        from torrefy.data.augment.read import asks, read_augmenter

        given = spec.transform_param
        mean: NDArray[np.float32] | Sequence[float] = list(given.mean_value)
        if given.HasField("mean_file"):
            if mean:
                raise DataError(
                    "mean_file and mean_value are both given",
                    layer=spec.name,
                    hint="Give one of them.",
                )
            mean = read_mean(Path(folder, given.mean_file))
        return cls(
            scale=given.scale,
            mean=mean,
            crop=given.crop_size,
            mirror=given.mirror,
            train=phase == "train",
            augmenter=read_augmenter(spec, train=phase == "train") if asks(spec) else None,
            rgb=given.rgb,
        )

    def __call__(self, item: Item, draws: Draws) -> Item:
        """An item with its picture transformed; all else stays.

        Raises:
            RecordError: the picture is smaller than the crop, or of another size or other
                channels than the mean.
        """
        if self.versions is not None:
            return (self._versions(item[0], self.versions, draws), *item[1:])
        if self.augmenter is None:
            return (self.picture(item[0], draws), *item[1:])
        view = self.view(item, draws)
        seen = view.sample.picture
        turned_back = seen[..., ::-1] if view.mirrored else seen
        made = self._made(turned_back, view.top, view.left, view.mirrored)
        return (made, *self.augmenter.rest(item, view.sample))

    def _versions(
        self, picture: NDArray[Any], versions: Versions, draws: Draws
    ) -> NDArray[np.float32]:
        """Versions of C×H×W, V×C×H×W. `mirror`, which is chance, mirrors all or none."""
        mirrored = bool(self.mirror and draws.below(2))
        made = []
        for seen, version in versions.of(picture):
            *_, height, width = self._window(seen.shape, draws)  # or it is told what is wrong
            top, left = version.place(seen.shape[-2:], (height, width))
            cut = seen[:, top : top + height, left : left + width]
            made.append(self._made(cut, top, left, version.mirrored != mirrored))
        return np.stack(made)

    def picture(self, picture: NDArray[Any], draws: Draws) -> NDArray[np.float32]:
        """C×H×W bytes or floats to C×H×W float32, without augmentations."""
        top, left, height, width = self._window(picture.shape, draws)
        mirrored = self.mirror and bool(draws.below(2))
        cut = picture[:, top : top + height, left : left + width]
        return self._made(cut, top, left, mirrored)

    def view(self, item: Item, draws: Draws) -> View:
        """What is seen of an item before the mean is subtracted, and of its targets.

        The crop is cut by the last warp, so that no pixel is made twice, and none outside of it.

        Raises:
            RecordError: as `__call__`.
        """
        from torrefy.data.augment.pipeline import Augmenter
        from torrefy.data.augment.warp import Warp

        top = left = 0

        def window(shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
            nonlocal top, left
            top, left, height, width = self._window(shape, draws)
            return top, left, height, width

        sample = (self.augmenter or Augmenter([])).item(item, draws, window)
        mirrored = self.mirror and bool(draws.below(2))
        if mirrored:
            height, width = sample.size
            Warp().sample(sample, (-1.0, 0.0, width - 1.0, 0.0, 1.0, 0.0), (height, width))
        return View(sample, top, left, mirrored)

    def _window(self, shape: tuple[int, int, int], draws: Draws) -> tuple[int, int, int, int]:
        """The crop of a picture of C×H×W: its top, left, height and width."""
        channels, height, width = shape
        if self.mean_image is not None and self.mean_image.shape != shape:
            raise RecordError(
                f"the picture is {_text(shape)}, but the mean image {_text(self.mean_image.shape)}"
            )
        if self.mean is not None and len(self.mean) not in (0, 1, channels):
            raise RecordError(
                f"the picture has {channels} channel{'s' * (channels > 1)}, but mean_value is "
                f"given {len(self.mean)} times"
            )
        if not self.crop:
            return 0, 0, height, width
        down, right = height - self.crop, width - self.crop
        if down < 0 or right < 0:
            raise RecordError(
                f"the picture is {width}x{height}, smaller than crop_size {self.crop}"
            )
        if self.train:
            y, x = draws.below(down + 1), draws.below(right + 1)
        else:
            y, x = down // 2, right // 2
        return y, x, self.crop, self.crop

    def _made(
        self, picture: NDArray[Any], top: int, left: int, mirrored: bool
    ) -> NDArray[np.float32]:
        """A crop less its part of the mean, scaled, and mirrored."""
        mean = self.mean
        picture = picture[::-1] if self.rgb else picture
        if self.mean_image is not None:
            height, width = picture.shape[1:]
            mean = self.mean_image[:, top : top + height, left : left + width]
        made = np.empty(picture.shape, np.float32)
        # Written backwards rather than turned afterwards.
        seen = made[..., ::-1] if mirrored else made
        if mean is not None and mean.size:
            np.subtract(picture, mean, out=seen, dtype=np.float32, casting="same_kind")
        else:
            seen[...] = picture
        if self.scale != 1:
            made *= self.scale
        return made


def read_mean(path: Path | str) -> NDArray[np.float32]:
    """A mean image of C×H×W: Caffe's .binaryproto, or .npy, where values by channel go too.

    Raises:
        DataError: no such file, or it holds something else.
    """
    path = Path(path)
    place = Place(str(path))
    try:
        data = bytes(read_whole(path, "a mean image", ".binaryproto"))
    except TorrefyError as error:
        raise DataError(error.problems) from None
    if data[:6] == b"\x93NUMPY":
        array = _read_npy(data, place)
    else:
        array = read_blob(data, place)
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim not in (1, 3) or not array.size:
        raise DataError(f"the mean is {_text(array.shape)}, expected CxHxW", place=place)
    if not np.isfinite(array).all():
        raise DataError("the mean holds values that are not finite", place=place)
    return array


def _read_npy(data: bytes, place: Place) -> NDArray[np.float32]:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"this .npy can't be read: {error}", place=place) from None
    if array.dtype.kind not in "fiu":
        raise DataError(f"the mean is of {array.dtype}, expected numbers", place=place)
    numbers: NDArray[np.float32] = array.astype(np.float32)
    return numbers


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"
