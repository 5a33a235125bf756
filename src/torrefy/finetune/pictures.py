"""Examples as a training net sees them: a data layer's text, and the loader of its batches."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.augment.recipes import RECIPES
from torrefy.data.examples import Examples
from torrefy.data.loader import Loader
from torrefy.data.open import open_loader
from torrefy.data.preprocess import Preprocessor
from torrefy.data.sources.image_list import PictureSource
from torrefy.data.sources.source import Item
from torrefy.errors import DataError, Place, did_you_mean
from torrefy.schema import new_message
from torrefy.weights.files import replacing


class ExampleSource(PictureSource):
    """Examples by number, as ImageData reads and resizes pictures."""

    def __init__(self, examples: Examples, **options: Any) -> None:
        """Take examples, and options as `PictureSource`."""
        super().__init__(examples.names, [0.0] * len(examples), **options)
        self.examples = examples
        self.targets = examples.targets.astype(np.float32)

    def key(self, index: int) -> str:
        """The picture's name."""
        return str(self.examples.place(index))

    def place(self, index: int) -> Place:
        """Where it is named, or its file."""
        return self.examples.place(index)

    def read(self, index: int) -> NDArray[np.uint8]:
        """The picture in its own size."""
        return self.examples.picture(index, self.colour)

    def item(self, index: int) -> Item:
        """C×H×W bytes, and the target."""
        return super().item(index)[0], np.asarray(self.targets[index])


def data_layer(
    preprocessor: Preprocessor, table: str, batch: int, *, train: bool, augment: str = "none"
) -> Any:
    """An ImageData layer that shows a net what its card's preprocessing shows it.

    Pictures are cropped at the centre, in training anywhere, if the card resizes them to more than
    the net takes.

    Args:
        preprocessor: the card's.
        table: the file that lists pictures and labels.
        batch: pictures to a batch.
        train: whether it is for training; else for testing.
        augment: as in `Options`.

    Raises:
        DataError: there is no such recipe or augmentation.
    """
    layer = new_message("caffe.LayerParameter")
    layer.name, layer.type = "data" if train else "test_data", "ImageData"
    layer.top.extend([preprocessor.blob, "label"])
    layer.include.add().phase = 0 if train else 1
    data, transform = layer.image_data_param, layer.transform_param
    message = preprocessor.message
    width, height = message.width, message.height
    resized = message.resize_width or width, message.resize_height or height
    keeps_aspect = message.resize == message.SHORTER_SIDE
    crops = width == height and (resized != (width, height) or keeps_aspect)
    data.source, data.batch_size, data.shuffle = table, batch, train
    data.new_width, data.new_height = resized if crops else (width, height)
    kind = f"PILLOW_{message.Interpolation.Name(message.interpolation)}"
    data.resampling = data.Resampling.Value(kind)
    if crops:
        data.keep_aspect = keeps_aspect
        transform.crop_size = width
    if preprocessor.colour == "GRAY":
        data.is_color = False
    transform.rgb = preprocessor.colour == "RGB"
    transform.mean_value.extend(message.mean)
    transform.scale = message.scale
    if train and augment != "none":
        transform.mirror = True
        if augment in RECIPES:
            transform.recipe = augment
        elif augment != "flip":
            transform.augmentation.extend(_augmentations(augment))
    return layer


def check_augment(augment: str) -> None:
    """Refuse what names no augmentation.

    Raises:
        DataError: it doesn't.
    """
    if augment not in ("none", "flip", *RECIPES):
        _augmentations(augment)


def _augmentations(text: str) -> Sequence[Any]:
    """Augmentations as a command line names them, with ";" between them."""
    from torrefy.data.augment.augmentation import BatchAugmentation, augmentation_types
    from torrefy.data.augment.read import read_augmentations
    from torrefy.data.augment.versions import parse_augmentation

    messages = []
    known = augmentation_types()
    for one in text.split(";"):
        name = one.strip().partition(" ")[0]
        if name not in known:
            choices = ["none", "flip", *RECIPES, *known]
            hint = did_you_mean(name, choices) or f"There are {', '.join(choices)}."
            raise DataError(f'there is no augmentation "{name}"', hint=hint)
        if issubclass(known[name], BatchAugmentation):
            raise DataError(
                f"{name} mixes pictures and their labels, and a head learns class numbers",
                hint="It goes in a definition of your own.",
            )
        messages.append(parse_augmentation(one))
    read_augmentations(messages)
    return messages


def load(
    spec: Any, examples: Examples, phase: str, *, seed: int, bad: str, workers: int | None
) -> Loader:
    """The batches of a data layer, read from examples."""
    data = spec.image_data_param
    source = ExampleSource(
        examples,
        size=(data.new_height, data.new_width),
        colour="BGR" if data.is_color else "GRAY",
        shuffle=data.shuffle,
        resampling=data.Resampling.Name(data.resampling),
        keep_aspect=data.keep_aspect,
    )
    return open_loader(spec, phase, source=source, seed=seed, bad=bad, workers=workers)


def write_table(path: Path, examples: Examples) -> None:
    """Write which pictures there are and what is learned of each, as an ImageData layer reads it.

    The file of each picture, `label`: the class's number or all targets; and `name`, the class's.

    Raises:
        DataError: it can't be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    is_class = examples.kind == "classes"
    table.writerow(["image", "label", *(["name"] if is_class else [])])
    files = examples.files or examples.names
    for file, target in zip(files, examples.targets.tolist(), strict=True):
        if is_class:
            table.writerow([file, target, examples.classes[target]])
        else:
            table.writerow([file, " ".join(f"{value:g}" for value in target)])
    try:
        with replacing(path) as out:
            out.write(text.getvalue().encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise DataError(f"can't be written: {error.strerror}", place=Place(str(path))) from None
