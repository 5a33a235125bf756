"""What statistics do to pictures: the last step on the way to the net, a batch at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from torrefy.data.draws import Draws
from torrefy.data.normalise.statistics import Statistics
from torrefy.data.sources.source import Item
from torrefy.errors import DataError, DefinitionError, Place, RecordError
from torrefy.layers.base import shape_text
from torrefy.schema import new_message, parse_text, write_text

CHANNELS = ("CHANNEL_MEAN", "STANDARDISE")
"""What asks for channels alone, whatever height and width are."""
NORMALISING = ("statistics", "normalise")
"""The fields of a transform_param that ask for it."""


class Normaliser:
    """Does to pictures what `normalise` in a transform_param names.

    - MEAN: less the mean picture. CHANNEL_MEAN: less the mean of each channel.
    - STANDARDISE: that, divided by the deviation of the channel. STANDARDISE_PIXELS: less the
      mean picture, each pixel divided by its own deviation. What is the same in all pictures
      becomes 0.
    - PCA: x of D = C·H·W values becomes (S + epsilon)^(-1/2) Uᵀ (x − mean), k×1×1: U's columns are
      the k components, S their eigenvalues.
    - ZCA: that turned back, U (S + epsilon)^(-1/2) Uᵀ (x − mean), C×H×W (Bell and Sejnowski 1997).
      With fewer components than values it is their part of the picture alone.

    Whitening is computed in float64 and rounded to float32 at the end: what stands beside a picture
    in its batch then changes at most a last bit, and that hardly ever.
    """

    def __init__(self, statistics: Statistics, kind: str) -> None:
        """Make ready what a kind needs.

        Args:
            statistics: of the training data.
            kind: MEAN, CHANNEL_MEAN, STANDARDISE, STANDARDISE_PIXELS, PCA or ZCA.

        Raises:
            DataError: PCA or ZCA, and the statistics have no components.
        """
        self.kind = kind
        self.shape = statistics.shape
        """CxHxW of the pictures that the statistics are of."""
        by_channel = kind in CHANNELS
        mean = statistics.channel_mean if by_channel else statistics.mean
        std = statistics.channel_std if by_channel else statistics.std
        self.mean = mean.reshape((-1, 1, 1) if by_channel else self.shape).astype(np.float32)
        """What is subtracted: Cx1x1 or CxHxW."""
        self.std: NDArray[np.float32] | None = None
        """What is divided by, of the same shape."""
        self.matrices: tuple[NDArray[np.float64], ...] = ()
        """What rows of D values are multiplied by, one after the other: DxD, Dxk, or Dxk and kxD
        where that is less to do."""
        if kind.startswith("STANDARDISE"):
            # What varies by less than a float32 of its size can tell is constant.
            still = std <= np.finfo(np.float32).eps * np.abs(mean)
            self.std = np.where(still, 1, std).reshape(self.mean.shape).astype(np.float32)
        elif kind == "PCA":
            self.matrices = (statistics.pca(),)
        elif kind == "ZCA":
            components = statistics.components
            if components is None or 2 * len(components) >= mean.size:
                self.matrices = (statistics.zca(),)
            else:
                back = components.reshape(len(components), -1).astype(np.float64)
                self.matrices = (statistics.pca(), back)

    @classmethod
    def from_layer(cls, spec: Any, folder: Path | str = ".") -> Normaliser | None:
        """What a data layer's `transform_param` says; None: nothing is normalised.

        Args:
            spec: the LayerParameter.
            folder: what `statistics` is relative to.

        Raises:
            DataError: the file is missing, damaged, or of pictures with another scale or mean;
                or `normalise` is given without it, or asks for components that it hasn't.
        """
        given = spec.transform_param
        if not given.statistics:
            if given.HasField("normalise"):
                raise DataError(
                    "normalise is given without statistics",
                    layer=spec.name,
                    hint="Give the file that `torrefy data stats` wrote.",
                )
            return None
        place = Place(str(Path(folder, given.statistics)))
        try:
            statistics = Statistics.read(place.file)
            said = what_changes_values(spec)
            if not _same(said, statistics.transform):
                first, second = (
                    f'"{text}"' if text else "no scale or mean"
                    for text in (statistics.transform, said)
                )
                raise DataError(
                    f"the statistics are of pictures with {first}, but the layer has {second}",
                    hint="Make them from the layer: torrefy data stats train_val.prototxt.",
                )
            return cls(statistics, given.Normalise.Name(given.normalise))
        except DataError as error:
            raise error.within(place=place, layer=spec.name) from None

    @property
    def made(self) -> tuple[int, int, int]:
        """The shape that pictures of `shape` come to."""
        return (self.matrices[0].shape[1], 1, 1) if self.kind == "PCA" else self.shape

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse a picture that the statistics are not of.

        Raises:
            RecordError: it has another shape, or where that is enough, other channels.
        """
        if self.kind in CHANNELS:
            if len(shape) != 3 or shape[0] != self.shape[0]:
                raise RecordError(
                    f"the picture is {shape_text(shape)}, but the statistics are of "
                    f"{self.shape[0]} channel{'s' * (self.shape[0] > 1)}"
                )
        elif shape != self.shape:
            raise RecordError(
                f"the picture is {shape_text(shape)}, but the statistics are of "
                f"{shape_text(self.shape)}"
            )

    def __call__(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """N×C×H×W to the same, or with PCA to N×k×1×1; shapes were checked."""
        centred = pictures - self.mean
        if self.std is not None:
            centred /= self.std
        if not self.matrices:
            return centred
        rows = torch.from_numpy(centred.reshape(len(centred), -1)).double()
        for matrix in self.matrices:
            rows = rows @ torch.from_numpy(matrix)
        made: NDArray[np.float32] = rows.float().numpy().reshape(-1, *self.made)
        return made


class Normalised:
    """A layer's transform, and a normaliser after it: a `torrefy.data.loader.BatchTransform`."""

    def __init__(
        self, transform: Callable[[Item, Draws], Item] | None, normaliser: Normaliser
    ) -> None:
        """Take both; without a transform pictures are normalised as they are."""
        self.transform = transform
        self.normaliser = normaliser

    def __call__(self, item: Item, draws: Draws) -> Item:
        """An item with its picture transformed and normalised."""
        picture, *rest = self.each(item, draws)
        return (self.whole(picture[np.newaxis])[0], *rest)

    def each(self, item: Item, draws: Draws) -> Item:
        """An item transformed, but not normalised.

        Raises:
            RecordError: as the transform; or the statistics are not of such pictures.
        """
        if self.transform is not None:
            item = self.transform(item, draws)
        picture, *rest = item
        self.normaliser.check(picture.shape)
        return (np.asarray(picture, np.float32), *rest)

    def whole(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """A batch of what `each` made, normalised."""
        return self.normaliser(pictures)


def scale_of(spec: Any) -> float:
    """A data layer's scale; WindowData has it in a message of its own."""
    given = spec.window_data_param if spec.type == "WindowData" else spec.transform_param
    return float(given.scale)


def what_changes_values(spec: Any) -> str:
    """The fields of a layer's transform_param that change values, on one line; of files the name.

    Statistics are of pictures as the layer gives them, and good for no others.
    """
    given = spec.transform_param
    kept: Any = new_message("caffe.TransformationParameter")
    scale = scale_of(spec)
    if scale != 1:
        kept.scale = scale
    if given.HasField("mean_file"):
        kept.mean_file = Path(given.mean_file).name
    kept.mean_value.extend(given.mean_value)
    return " ".join(write_text(kept).split())


def _same(one: str, other: str) -> bool:
    """Whether two texts of what changes values mean the same."""
    if one == other:
        return True
    try:
        first, second = (
            parse_text(text, "caffe.TransformationParameter").message for text in (one, other)
        )
    except DefinitionError:
        return False
    return bool(first == second)


def without_chance(spec: Any) -> Any:
    """A data layer that statistics can be made of: not augmented, mirrored or normalised."""
    made: Any = new_message("caffe.LayerParameter")
    made.CopyFrom(spec)
    if made.HasField("transform_param"):
        for name in ("mirror", "recipe", "augmentation", "warp", "target", *NORMALISING):
            made.transform_param.ClearField(name)
    return made
