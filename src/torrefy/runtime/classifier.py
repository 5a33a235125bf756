"""Pictures into answers, by a zoo model or an exported file, in the runtime that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from torrefy.data.ahead import BATCH, cores, made_ahead
from torrefy.data.examples import pixels_of
from torrefy.data.preprocess import Preprocessor
from torrefy.errors import ExportError, PictureError, Place, TorrefyError, ZooError
from torrefy.runtime.base import (
    DEFAULT,
    Session,
    check_precision,
    find_runtime,
    open_session,
)
from torrefy.runtime.batch import MOST, measured_batch
from torrefy.runtime.choose import AUTO, Choice, fastest
from torrefy.runtime.engine import Engine, engine_of
from torrefy.runtime.runnable import Runnable
from torrefy.runtime.session import device_here

if TYPE_CHECKING:
    from PIL.Image import Image

    from torrefy.data.augment.versions import Versions

Picture: TypeAlias = "str | Path | bytes | NDArray[np.uint8] | Image"
"""A picture: a file's name; what a file holds, as bytes; an array of bytes, HxWx3 in RGB, HxWx1 or
HxW in grey; or Pillow's."""
Given = TypeVar("Given", bound=Picture)
Item = TypeVar("Item")
Batch: TypeAlias = int | Literal["auto"]
"""Pictures that are computed at once; "auto": as many as measure best, where there are MANY files
or more, else data.ahead.BATCH."""
Scored: TypeAlias = "tuple[Path, NDArray[np.float32] | PictureError]"
"""A picture's name and the output for it, or why it can't be read."""
MANY = 256
"""Files from which on the batch is measured, and processors work side by side."""
MOST_WORKERS = 32
"""Processors that compute side by side, at most."""


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
    """Its file; of a picture in memory "pictures[3]", by its number from 0."""
    guesses: tuple[Guess, ...]
    """The likeliest classes, the best first."""
    error: PictureError | None = None
    """Why the picture can't be read; there are no guesses then."""


@dataclass(frozen=True)
class Pictures(Generic[Given]):
    """Pictures, and how they are computed."""

    given: Iterator[Given]
    batch: int
    """How many at once."""
    workers: int
    """How many processors compute a batch each; 0: all compute one."""


class Classifier:
    """Says what is in pictures.

    Args:
        model: a zoo model's name, a folder with a card, as a finetuning's run folder, or an .onnx
            file that Torrefy exported with preprocessing.
        device: "cpu" or "cuda"; with ONNX Runtime "tensorrt" and "auto", too.
        runtime: what computes: "onnxruntime", "pytorch", "torch.compile", one of a plugin's; or
            "auto", the fastest here, which is measured once for a model and a machine. None:
            ONNX Runtime, for which a zoo model is exported once and kept; on a GPU, in another
            precision, and where a model can't be exported, PyTorch.
        precision: what the runtime computes in: "fp32", "bf16" or "fp16".
        threads: how many threads compute; 0: as the runtime decides.
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
        runtime: str | None = None,
        precision: str = "fp32",
        threads: int = 0,
        tta: Versions | str | Sequence[str] | None = None,
    ) -> None:
        """Load the model."""
        self.model = str(model)
        device = device_here() if device == "auto" else device
        self.device = device
        """What it computes on; "auto" is resolved."""
        self.precision = precision
        self.threads = threads
        self.versions: Versions | None = None
        """What is made of each picture; None: it alone."""
        if tta is not None:
            from torrefy.data.augment.versions import read_versions  # here: it needs OpenCV

            self.versions = read_versions(tta)
        runnable = Runnable(model)
        self.weights: Path = runnable.weights
        """The file of the model's weights."""
        self.choice: Choice | None = None
        """What "auto" took, and the times of all that it tried; None: a runtime was named."""
        if runtime == AUTO:
            check_precision(precision)
            self.choice = fastest(runnable, device, precision, threads)
            runtime = self.choice.runtime
        self.runtime, session = _opened(runnable, runtime, device, precision, threads)
        engine, recipe = engine_of(session, runnable.recipe, self.model)
        if recipe.preprocessor is None:
            raise TorrefyError(
                f"{model}: the file doesn't say what is done to a picture",
                hint="Export it with --preprocessing and --labels.",
            )
        self._engine = engine
        self._runnable = runnable
        self._by_one_thread: Engine | None = None
        self._best_batch: int | None = None
        self.recipe = recipe
        self.preprocessor: Preprocessor = recipe.preprocessor
        if self.versions is not None:
            self.preprocessor.check_versions(self.versions)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in the order of the output."""
        return self.recipe.labels

    @overload
    def predict(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]: ...

    @overload
    def predict(
        self, pictures: Iterable[Picture], *, batch: Batch = "auto"
    ) -> Iterator[NDArray[np.float32]]: ...

    def predict(
        self, pictures: NDArray[np.float32] | Iterable[Picture], *, batch: Batch = "auto"
    ) -> NDArray[np.float32] | Iterator[NDArray[np.float32]]:
        """The output for pictures: of an array at once, of anything else picture by picture.

        An array of float32 holds preprocessed pictures, N×C×H×W, and N×classes come back. Of an
        iterable of pictures (see `Picture`) an iterator comes back, which gives each one's output
        in their order, the mean over its versions. They are read by threads while the net
        computes, and none is kept: a generator may give millions. One array of bytes, N×H×W×3,
        is an iterable of N pictures.

        Args:
            pictures: the array, or the pictures.
            batch: see `Batch`; an array is one batch.

        Raises:
            TorrefyError: the output has not one number for each picture and label; PictureError:
                a picture can't be read (`classify` can go on).

        Example:
            for scores in classifier.predict(Path("photos").rglob("*.jpg")):
                print(scores.argmax())
        """
        if isinstance(pictures, np.ndarray) and pictures.dtype != np.uint8:
            return self._computed(pictures)
        return self._each_row(pictures, batch)

    def _computed(
        self, pictures: NDArray[np.float32], engine: Engine | None = None
    ) -> NDArray[np.float32]:
        scores = (engine or self._engine)(pictures)
        flat = scores.reshape(len(pictures), -1) if scores.size else scores
        if len(scores) != len(pictures) or (self.labels and flat.shape[1] != len(self.labels)):
            raise TorrefyError(
                f"{self.model}: {len(self.labels)} labels, but the output for "
                f"{len(pictures)} pictures is {'x'.join(map(str, scores.shape))}"
            )
        return flat

    def _each_row(self, pictures: Iterable[Picture], batch: Batch) -> Iterator[NDArray[np.float32]]:
        for _, scores in self._scored(self.looked_over(pictures, batch)):
            if isinstance(scores, PictureError):
                raise scores
            yield scores

    def classify(
        self,
        paths: Iterable[Picture],
        top: int = 5,
        *,
        batch: Batch = "auto",
        broken: Callable[[PictureError], None] | None = None,
    ) -> Iterator[Answer]:
        """Classify pictures, in their order, as `predict` takes them.

        Args:
            paths: the files, or other pictures.
            top: how many classes to name.
            batch: see `Batch`; each version of a picture is counted.
            broken: called with the error of each picture that can't be read, in its turn, and the
                rest go on; without it the first such error is raised.
        """
        for answer in self.answers(paths, top, batch=batch):
            if answer.error is None:
                yield answer
            elif broken is None:
                raise answer.error
            else:
                broken(answer.error)

    def answers(
        self, pictures: Iterable[Picture], top: int = 5, *, batch: Batch = "auto"
    ) -> Iterator[Answer]:
        """As `classify`, with an answer for each picture, also for those that can't be read."""
        return self.answers_of(self.looked_over(pictures, batch), top)

    def answers_of(self, pictures: Pictures[Any], top: int = 5) -> Iterator[Answer]:
        """As `answers`, of pictures that were looked over."""
        for path, scores in self._scored(pictures):
            if isinstance(scores, PictureError):
                yield Answer(path, (), scores)
            else:
                yield Answer(path, self._best(scores, top))

    def looked_over(
        self, pictures: Iterable[Given], batch: Batch = "auto", *, many: bool = False
    ) -> Pictures[Given]:
        """Decide how pictures are computed: how many at once, and by whom.

        Where there are MANY files each processor reads a batch and computes it by itself, in place
        of all computing one, so that none waits for another.

        Args:
            pictures: they. With batch "auto" MANY are asked for before any is computed.
            batch: see `Batch`.
            many: whether MANY are asked for also with another batch.
        """
        given = iter(pictures)
        workers = 0
        if batch == "auto" or many:
            first = list(_files(given, MANY))
            if len(first) == MANY:
                workers = self._prepare_workers()
                batch = self._measured_batch(workers) if batch == "auto" else batch
            given = chain(first, given)
        size = BATCH if batch == "auto" else batch
        if size < 1:
            raise ValueError(f"batch must be 1 or more, found {size}")
        workers = min(workers, MOST // size)
        return Pictures(given, size, workers if workers > 1 else 0)

    def _prepare_workers(self) -> int:
        """How many processors can each compute a batch; they are made ready to. 0: they can't."""
        workers = self.threads or cores()
        if self.device != "cpu" or workers < 2 or not find_runtime(self.runtime).concurrent:
            return 0
        if self._by_one_thread is None:
            session = open_session(self._runnable, self.runtime, "cpu", self.precision, 1)
            self._by_one_thread, _ = engine_of(session, self._runnable.recipe, self.model)
        return min(workers, MOST_WORKERS)

    def _measured_batch(self, workers: int) -> int:
        """How many pictures at once are best, where there are MANY."""
        if self.device.startswith("tensorrt") or find_runtime(self.runtime).slow_to_open:
            return BATCH  # each size would be prepared for anew
        if self._best_batch is None:
            run = partial(self._computed, engine=self._by_one_thread) if workers else self._computed
            self._best_batch = measured_batch(run, self.preprocessor.shape, max(workers, 1))
        return self._best_batch

    def _scored(self, pictures: Pictures[Any]) -> Iterator[Scored]:
        """Each picture's name and output, or why it can't be read."""
        group = self.pictures_of(pictures.batch)
        items = enumerate(pictures.given)
        if pictures.workers:
            compute = partial(self._read_and_scored, batch=pictures.batch)
            for ((_, rows),) in made_ahead(_grouped(items, group), compute, 1, pictures.workers):
                yield from rows
            return
        for read in made_ahead(items, self._seen, group):
            yield from self._with_scores([seen for _, seen in read], pictures.batch, self._engine)

    def _read_and_scored(self, items: Iterable[tuple[int, Picture]], batch: int) -> list[Scored]:
        engine = self._by_one_thread or self._engine
        return list(self._with_scores([self._seen(item) for item in items], batch, engine))

    def _with_scores(
        self,
        read: Sequence[tuple[Path, NDArray[np.float32] | PictureError]],
        batch: int,
        engine: Engine,
    ) -> Iterator[Scored]:
        good = [values for _, values in read if not isinstance(values, PictureError)]
        rows = iter(self._averaged(np.stack(good), batch, engine) if good else ())
        for path, values in read:
            yield path, values if isinstance(values, PictureError) else next(rows)

    def pictures_of(self, batch: int) -> int:
        """How many pictures a batch is of, where each version of one is counted."""
        return max(1, batch // len(self.versions)) if self.versions else batch

    def _seen(self, item: tuple[int, Picture]) -> Scored:
        """A picture's name, and it or its versions as the net sees them."""
        number, picture = item
        path = Path(picture if isinstance(picture, (str, Path)) else f"pictures[{number}]")
        try:
            if isinstance(picture, (str, Path)):
                return path, self.preprocessor.read(path, self.versions)
            pixels = pixels_of(picture, number, self.preprocessor.colour)
            if self.versions is None:
                return path, self.preprocessor(pixels)
            return path, self.preprocessor.versions(pixels, self.versions)
        except PictureError as error:
            return path, error.within(place=Place(str(path)))

    def _averaged(
        self, seen: NDArray[np.float32], batch: int, engine: Engine
    ) -> NDArray[np.float32]:
        """The output for pictures, N×C×H×W; for N×V×C×H×W the mean over V versions."""
        if self.versions is None:
            return self._computed(seen, engine)
        flat = seen.reshape(-1, *self.preprocessor.shape)
        parts = [self._computed(flat[i : i + batch], engine) for i in range(0, len(flat), batch)]
        mean: NDArray[np.float32] = np.concatenate(parts).reshape(*seen.shape[:2], -1).mean(axis=1)
        return mean

    def _best(self, row: NDArray[np.float32], top: int) -> tuple[Guess, ...]:
        order = np.argsort(-row, kind="stable")[:top]
        return tuple(
            Guess(int(i), self.labels[i] if self.labels else str(i), float(row[i])) for i in order
        )


def _grouped(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Items, `size` at a time."""
    left = iter(items)
    while some := list(islice(left, size)):
        yield some


def _files(pictures: Iterator[Given], most: int) -> Iterator[Given]:
    """The first pictures, up to one that is no file: what is in memory may be large."""
    for picture in islice(pictures, most):
        yield picture
        if not isinstance(picture, (str, Path)):
            return


def _opened(
    model: Runnable, runtime: str | None, device: str, precision: str, threads: int
) -> tuple[str, Session]:
    """A session of the runtime that is asked for, or of the usual one; and which that is."""
    if runtime is not None:
        return runtime, open_session(model, runtime, device, precision, threads)
    if model.is_file:
        return DEFAULT, open_session(model, DEFAULT, device, precision, threads)
    if device.startswith(("cpu", "tensorrt")) and precision == "fp32":
        try:
            return DEFAULT, open_session(model, DEFAULT, device, precision, threads)
        except (ExportError, ZooError):  # no words for it in ONNX, or no cache to keep it in
            device = device.replace("tensorrt", "cuda")
    return "pytorch", open_session(model, "pytorch", device, precision, threads)
