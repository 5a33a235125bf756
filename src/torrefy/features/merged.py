"""A net and a classifier of its features as one ONNX file: picture in, class and scores out."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from torrefy import __version__
from torrefy.data.preprocess import Preprocessor
from torrefy.data.recipe import Recipe
from torrefy.errors import ExportError, Place, TorrefyError
from torrefy.export.lowering import as_exported
from torrefy.export.onnx import translate
from torrefy.export.opset import OPSET
from torrefy.export.whole import PICTURES, Whole
from torrefy.features.extract import Extractor, pooled_to, reopened
from torrefy.features.svm import ONNX, SVM, Classified
from torrefy.net.fold import fold
from torrefy.runtime.session import OnnxModel
from torrefy.weights.files import replacing

PICTURE, CLASS, SCORES = "picture", "class", "scores"
TOLERANCE = 1e-3
TRIED = 16
"""Pictures of noise on which the file is held against net and classifier."""


@dataclass(frozen=True)
class Merged:
    """A file that was written."""

    path: Path
    input: tuple[int | str, ...]
    """The shape of a batch of pictures: RGB of 0 to 255, or grey, resized and cropped; or whole
    ones."""
    classes: tuple[str, ...]
    difference: float
    """The largest difference of a score from net and classifier one after the other."""
    bytes: int
    given: str = PICTURE
    """The input's name."""


class _Whole(nn.Module):
    """From pixels to features."""

    mean: Tensor

    def __init__(self, program: nn.Module, preprocessor: Preprocessor, pool: str) -> None:
        super().__init__()
        self.program = program
        self.pool = pool
        self.turned = preprocessor.colour == "BGR"
        message = preprocessor.message
        mean = torch.tensor(list(message.mean) or [0.0], dtype=torch.float32)
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1))
        self.scale = float(message.scale)

    def forward(self, picture: Tensor) -> Tensor:
        """N×C×H×W of 0..255 to N×D."""
        x = picture.flip(1) if self.turned else picture
        x = (x - self.mean) * self.scale
        (blob,) = self.program(x)
        return pooled_to(blob, self.pool)


def export_merged(
    svm: SVM | str | Path,
    path: str | Path,
    *,
    model: str | Path | None = None,
    whole: bool = False,
    **opened: Any,
) -> Merged:
    """Write a net and a classifier as one file, and check it.

    The file takes `picture`, N×3×H×W in RGB of 0 to 255 (of a net that sees grey N×1×H×W), resized
    and cropped as the metadata say, which `torrefy classify` does by itself. It gives `scores`,
    N×classes, and `class`, the number of the likeliest. Mean, scale and the order of colours are
    done in it.

    Args:
        svm: what `torrefy svm fit` made, or its folder.
        path: the file; one there is replaced.
        model: the net; None: that which the features were made by.
        whole: let the file resize and crop, too: it takes `pictures`, N×H×W×3 bytes in RGB of any
            size.
        opened: weights and preprocessing of a .prototxt.

    Raises:
        ExportError: features of several versions of each picture, or a net that can't be
            expressed; or the file disagrees.
        TorrefyError: the net is not to be had, or another.
    """
    svm = svm if isinstance(svm, SVM) else SVM(svm)
    path = Path(path)
    place = Place(str(path))
    if not path.resolve().parent.is_dir():
        raise ExportError(f"there is no folder {path.parent}", place=place)
    extractor = extractor_of(svm, model, **opened)
    if extractor.versions is not None:
        raise ExportError(
            f"the features are means over versions of each picture ({extractor.versions.name}), "
            "which one file doesn't make",
            hint="Fit to features without --tta.",
        )
    seen = extractor.preprocessor
    (blob,) = extractor.blobs
    folded = fold(extractor.net, [blob]).cpu()
    net = _Whole(folded.program([blob]), seen, extractor.pool).eval()
    with as_exported(folded):
        model_ = translate(net, torch.zeros(2, *seen.shape), PICTURE, "features", OPSET)
    merged = _merge(model_, svm)
    inside = Whole(seen) if whole else None
    if inside is not None:
        Whole(_pixels(seen)).put_before(merged)
        inside.difference(OPSET)
    recipe = Recipe(
        svm.folder.name, _pixels(seen), SCORES, svm.classes, extractor.recipe.license, whole=whole
    )
    _finish(merged, recipe)
    data = merged.SerializeToString()
    with tempfile.TemporaryDirectory(prefix="torrefy-") as folder:
        trial = Path(folder) / "merged.onnx"
        trial.write_bytes(data)
        difference = _compare(OnnxModel(trial), extractor, svm, place, inside)
    with replacing(path) as file:
        file.write(data)
    if whole:
        shape: tuple[int | str, ...] = ("batch", "height", "width", 3)
        return Merged(path, shape, svm.classes, difference, len(data), PICTURES)
    return Merged(path, ("batch", *seen.shape), svm.classes, difference, len(data))


def extractor_of(svm: SVM, model: str | Path | None = None, **opened: Any) -> Extractor:
    """What makes features of the kind that a classifier was fitted to.

    Raises:
        TorrefyError: it isn't known or to be had, or has other weights.
    """
    try:
        return reopened(svm.origin, svm.blob, model, **opened)
    except TorrefyError as error:
        raise error.within(place=Place(str(svm.folder))) from None


def _merge(net: Any, svm: SVM) -> Any:
    """The classifier's graph behind the net's."""
    import onnx
    from onnx import compose

    other = onnx.load(svm.folder / ONNX)
    other.ir_version = net.ir_version
    for one in other.opset_import:
        if one.domain == "":
            one.version = OPSET
    other = compose.add_prefix(other, "classifier/", rename_inputs=False, rename_outputs=False)
    for node in other.graph.node:
        node.name = ""
    other.graph.input[0].name = "svm_features"
    for node in other.graph.node:
        node.input[:] = ["svm_features" if n == "features" else n for n in node.input]
    return compose.merge_models(net, other, io_map=[("features", "svm_features")])


def _pixels(preprocessor: Preprocessor) -> Preprocessor:
    """What is left to be done to a picture outside of the file: resizing and cropping."""
    message = type(preprocessor.message)()
    message.CopyFrom(preprocessor.message)
    message.blob = PICTURE
    message.ClearField("mean")
    message.ClearField("scale")
    if preprocessor.colour != "GRAY":
        message.colour = message.RGB
    return Preprocessor(message)


def _finish(model: Any, recipe: Recipe) -> None:
    import onnx

    model.producer_name, model.producer_version = "torrefy", __version__
    model.graph.name = recipe.name
    del model.metadata_props[:]
    for key, value in recipe.to_metadata().items():
        model.metadata_props.add(key=key, value=value)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].Clear()
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)


def _compare(
    model: OnnxModel, extractor: Extractor, svm: SVM, place: Place, inside: Whole | None
) -> float:
    """The largest difference of a score.

    Raises:
        ExportError: it is above TOLERANCE, or a class is another.
    """
    random = np.random.default_rng(0)
    made: dict[str, NDArray[Any]]
    if inside is not None:
        pictures = inside.samples(random, TRIED)
        made, ready = model.run({PICTURES: pictures}), inside.expected(pictures)
    else:
        pixels, ready = _tried(random, extractor.preprocessor)
        made = model.run({PICTURE: pixels})
    features = extractor(ready)[svm.blob].reshape(TRIED, -1)
    wanted = Classified.of(svm.model, features)
    difference = float(np.abs(made[SCORES] - wanted.scores).max())
    if not difference <= TOLERANCE or (made[CLASS] != made[SCORES].argmax(1)).any():
        raise ExportError(
            f"the file differs from net and classifier by {difference:.2g} in a score; allowed is "
            f"{TOLERANCE:g}",
            place=place,
            hint="Nothing was written.",
        )
    return difference


def _tried(
    random: np.random.Generator, seen: Preprocessor
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pictures of noise, and what the net sees of them."""
    coarse = random.integers(0, 256, (TRIED, seen.channels, 8, 8)).astype(np.float32)
    blocks = -(-seen.height // 8), -(-seen.width // 8)
    pixels = np.kron(coarse, np.ones((1, 1, *blocks), np.float32))
    pixels = np.ascontiguousarray(pixels[..., : seen.height, : seen.width])
    given = pixels[:, ::-1] if seen.colour == "BGR" else pixels
    mean = np.asarray(list(seen.message.mean) or [0.0], np.float32).reshape(1, -1, 1, 1)
    scaled: NDArray[np.float32] = (given - mean) * np.float32(seen.message.scale)
    return pixels, np.ascontiguousarray(scaled)
