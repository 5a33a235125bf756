"""Pictures into answers, by a zoo model in PyTorch or an exported file in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from torrefy.data.preprocess import Preprocessor, read_batches
from torrefy.data.recipe import Recipe
from torrefy.errors import PictureError, TorrefyError
from torrefy.runtime.session import OnnxModel
from torrefy.zoo.model import Model, find_model

if TYPE_CHECKING:
    from torrefy.data.augment.versions import Versions


@dataclass(frozen=True)
class Guess:
    """One class and how sure the model is of it."""

    index: int
    """The class's place in the output."""
    label: str
    """Its name, or its number where no labels are known."""
    score: float
    """The output's value for it: a probability where the net ends in Softmax."""


@dataclass(frozen=True)
class Answer:
    """What a model says of one picture."""

    path: Path
    guesses: tuple[Guess, ...]
    """The likeliest classes, the best first."""


class Engine(Protocol):
    """What runs a model: N×C×H×W pictures to N×classes."""

    def __call__(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the output."""


class Classifier:
    """Says what is in pictures.

    Args:
        model: a zoo model's name, a folder with a card, as a finetuning's run folder, or an .onnx
            file that Torrefy exported with preprocessing.
        device: "cpu" or "cuda".
        tta: test-time augmentation: versions of each picture, whose outputs are averaged. "flip",
            "oversample" (pycaffe's ten crops), a recipe, augmentations ("Rotation min: -10 max:
            10"), or what `torrefy.data.augment.versions.read_versions` made. None: the picture
            alone.

    Raises:
        TorrefyError: there is no such model, it can't be fetched, or its file doesn't say what
            is done to a picture; or there are no such versions.

    Example:
        classifier = torrefy.Classifier("squeezenet_v1.1")
        for answer in classifier.classify(["cat.png"]):
            print(answer.path, answer.guesses[0].label)
    """

    def __init__(
        self,
        model: str | Path,
        device: str = "cpu",
        *,
        tta: Versions | str | Sequence[str] | None = None,
    ) -> None:
        """Load the model."""
        self.model = str(model)
        self.versions: Versions | None = None
        """What is made of each picture; None: it alone."""
        if tta is not None:
            from torrefy.data.augment.versions import read_versions  # here: it needs OpenCV

            self.versions = read_versions(tta)
        engine, recipe = _open(model, device)
        if recipe.preprocessor is None:
            raise TorrefyError(
                f"{model}: the file doesn't say what is done to a picture",
                hint="Export it with --preprocessing and --labels.",
            )
        self._engine = engine
        self.recipe = recipe
        self.preprocessor: Preprocessor = recipe.preprocessor
        if self.versions is not None:
            self.preprocessor.check_versions(self.versions)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in the order of the output."""
        return self.recipe.labels

    def predict(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """The output for preprocessed pictures, N×C×H×W to N×classes.

        Raises:
            TorrefyError: the output has not one number for each picture and label.
        """
        scores = self._engine(pictures)
        flat = scores.reshape(len(pictures), -1) if scores.size else scores
        if len(scores) != len(pictures) or (self.labels and flat.shape[1] != len(self.labels)):
            raise TorrefyError(
                f"{self.model}: {len(self.labels)} labels, but the output for "
                f"{len(pictures)} pictures is {'x'.join(map(str, scores.shape))}"
            )
        return flat

    def classify(
        self,
        paths: Iterable[str | Path],
        top: int = 5,
        *,
        batch: int = 32,
        broken: Callable[[PictureError], None] | None = None,
    ) -> Iterator[Answer]:
        """Classify picture files, batch by batch, in their order.

        Args:
            paths: the files.
            top: how many classes to name.
            batch: pictures to a batch, each version of one counted.
            broken: called with the error of each picture that can't be read, and the rest go
                on; without it the first such error is raised.
        """
        count = len(self.versions) if self.versions else 1
        read = read_batches(
            paths,
            self.preprocessor,
            max(1, batch // count),
            broken=broken,
            versions=self.versions,
        )
        for pictures in read:
            given = pictures.pictures.reshape(-1, *self.preprocessor.shape)
            parts = [self.predict(given[i : i + batch]) for i in range(0, len(given), batch)]
            each = np.concatenate(parts).reshape(len(pictures.paths), count, -1)
            scores = each.mean(axis=1)
            for path, row in zip(pictures.paths, scores, strict=True):
                yield Answer(path, self._best(row, top))

    def _best(self, row: NDArray[np.float32], top: int) -> tuple[Guess, ...]:
        order = np.argsort(-row, kind="stable")[:top]
        return tuple(
            Guess(int(i), self.labels[i] if self.labels else str(i), float(row[i])) for i in order
        )


def _open(model: str | Path, device: str) -> tuple[Engine, Recipe]:
    """An engine for a file or a zoo model, and its recipe."""
    if str(model).endswith(".onnx"):
        return _onnx_engine(OnnxModel(model, device))
    if Path(model).is_file():
        raise TorrefyError(
            f"{model}: expected a zoo model's name or an .onnx file",
            hint="`torrefy export` makes one of a prototxt and its weights.",
        )
    found = find_model(model)
    return _net_engine(found, device), found.recipe


def _onnx_engine(model: OnnxModel) -> tuple[Engine, Recipe]:
    recipe = model.recipe
    (blob, *others) = model.inputs
    if recipe.preprocessor:
        blob = recipe.preprocessor.blob
    if others or blob not in model.inputs:
        raise TorrefyError(
            f"{model.path}: pictures go to the input {blob}, the file takes "
            f"{', '.join(model.inputs)}"
        )
    output = recipe.output or next(iter(model.outputs))
    fixed = model.inputs[blob][0]

    def run(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        if not isinstance(fixed, int):
            return model.run({blob: pictures}, [output])[output]
        # The definition fixed the batch: whole batches, the last one filled up.
        rows = []
        for i in range(0, len(pictures), fixed):
            part = pictures[i : i + fixed]
            filled = np.concatenate([part, np.repeat(part[:1], fixed - len(part), axis=0)])
            rows.append(model.run({blob: filled}, [output])[output][: len(part)])
        return np.concatenate(rows)

    return run, recipe


def _net_engine(model: Model, device: str) -> Engine:
    import torch

    from torrefy.weights.load import load_net

    net = load_net(model.definition, model.weights, device=device)
    blob, output = model.preprocessor.blob, model.recipe.output

    def run(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            blobs = net.run({blob: pictures}, [output])
        scores: NDArray[np.float32] = blobs[output].cpu().numpy()
        return scores

    return run
