"""Features taken of pictures: blobs of a net, pooled, averaged over versions of each picture."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torrefy import __version__
from torrefy.data.ahead import BATCH, read_ahead
from torrefy.data.collect import read_examples
from torrefy.data.examples import Examples
from torrefy.data.preprocess import Preprocessor
from torrefy.errors import DataError, ExportError, Place, TorrefyError, did_you_mean
from torrefy.export.onnx import export_onnx
from torrefy.features.table import Features
from torrefy.net.backbone import default_blob
from torrefy.runtime.session import OnnxModel
from torrefy.train.execution import Execution
from torrefy.weights.load import load_net
from torrefy.zoo.cards import zoo_names
from torrefy.zoo.model import Model, find_model

if TYPE_CHECKING:
    from torrefy.data.augment.versions import Versions

POOLS = ("avg", "max", "spp", "flatten", "none")
"""What is done to maps: each channel's mean or largest value; largest values of a pyramid of 1, 4
and 16 parts; all numbers; nothing."""
SPP_LEVELS = (1, 2, 4)


class Extractor:
    """Makes features of pictures by a pretrained net, cut where the last blob is known.

    Example:
        extractor = Extractor("squeezenet_v1.1")
        extractor.blobs, extractor.dims        # ("fire9/concat",), {"fire9/concat": 512}
    """

    def __init__(
        self,
        model: str | Path | Model,
        blobs: Sequence[str] = (),
        *,
        pool: str = "avg",
        tta: Versions | str | Sequence[str] | None = None,
        device: str = "cpu",
        precision: str = "fp32",
        float16: bool = False,
        weights: str | Path | None = None,
        preprocessing: str | Path | Preprocessor | None = None,
    ) -> None:
        """Open the model.

        Args:
            model: as `torrefy.zoo.model.find_model` takes it, with weights and preprocessing.
            blobs: what features are; none: what the net's last learned layer reads.
            pool: one of POOLS: what is done to maps.
            tta: versions of each picture over which features are averaged, as for
                `torrefy.Classifier`: "flip", "oversample", ….
            device: "cpu", "cuda".
            precision: what the net computes in, as for `torrefy.Solver`.
            float16: whether features are given in half precision.
            weights: those of a .prototxt.
            preprocessing: what is done to a picture, where no card says it.

        Raises:
            TorrefyError: there is no such model, blob, pool or version.
        """
        self.settings: dict[str, Any] = {
            "model": model, "blobs": tuple(blobs), "pool": pool, "tta": tta, "device": device,
            "precision": precision, "float16": float16, "weights": weights,
            "preprocessing": preprocessing,
        }  # fmt: skip
        """What it was opened with, so that another process can open the same."""
        if pool not in POOLS:
            hint = did_you_mean(pool, POOLS) or f"There are {', '.join(POOLS)}."
            raise TorrefyError(f'there is no pool "{pool}"', hint=hint)
        self.named = model.name if isinstance(model, Model) else _called(model)
        self.model = (
            model if isinstance(model, Model) else find_model(model, weights, preprocessing)
        )
        self.preprocessor = self.model.preprocessor
        self.recipe = self.model.recipe
        self.pool = pool
        self.float16 = float16
        self.versions: Versions | None = None
        """What is made of each picture; None: it alone."""
        if tta is not None:
            from torrefy.data.augment.versions import read_versions

            self.versions = read_versions(tta)
            self.preprocessor.check_versions(self.versions)
        self.net = load_net(self.model.definition, self.model.weights, device=device)
        """The net in phase test."""
        self.execution = Execution(self.net.device, precision)
        self.blobs: tuple[str, ...] = tuple(blobs) or (default_blob(self.net, self.recipe.output),)
        """What features are."""
        for blob in self.blobs:
            self.net.check_blob(blob)
        if len(set(self.blobs)) < len(self.blobs):
            raise TorrefyError("a blob is named twice")
        self._onnx: OnnxModel | None = None
        self.dims: dict[str, int] = self._dims()
        """How many numbers each has for a picture."""

    def _dims(self) -> dict[str, int]:
        made = self(np.zeros((1, *self.preprocessor.shape), np.float32))
        return {blob: int(np.prod(array.shape[1:])) for blob, array in made.items()}

    def use_onnx(self) -> bool:
        """Let ONNX Runtime run the net from now on, exported and checked; whether it can."""
        if self.net.device.type != "cpu" or self.execution.precision != "fp32":
            return False
        with tempfile.TemporaryDirectory(prefix="torrefy-") as folder:
            try:
                report = export_onnx(
                    self.net, Path(folder) / "features.onnx", blobs=self.blobs, recipe=self.recipe
                )
            except ExportError:
                return False
            if not isinstance(report.inputs[self.preprocessor.blob][0], str):
                return False
            self._onnx = OnnxModel(report.path)
        return True

    def __call__(self, pictures: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Features of preprocessed pictures, N×C×H×W, by blob: N×D; with pool "none" as they are.

        Raises:
            TorrefyError: the net can't take them.
        """
        with torch.inference_mode(), self.execution.autocast():
            if self._onnx is None:
                given = torch.from_numpy(pictures).to(self.net.device)
                found = self.net.run({self.preprocessor.blob: given}, list(self.blobs))
            else:
                made = self._onnx.run({self.preprocessor.blob: pictures}, list(self.blobs))
                found = {blob: torch.from_numpy(array) for blob, array in made.items()}
            pooled = {blob: pooled_to(found[blob].float(), self.pool) for blob in self.blobs}
        kind = torch.float16 if self.float16 else torch.float32
        return {blob: value.to(kind).cpu().numpy() for blob, value in pooled.items()}

    def of_versions(self, pictures: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Features averaged over versions of each picture, N×V×C×H×W."""
        count, versions = pictures.shape[:2]
        made = self(pictures.reshape(count * versions, *pictures.shape[2:]))
        return {
            blob: values.reshape(count, versions, *values.shape[1:])
            .mean(1, dtype=np.float32)
            .astype(values.dtype)
            for blob, values in made.items()
        }

    def origin(self) -> dict[str, Any]:
        """Where its features come from: what must be the same to make more of them."""
        digest = hashlib.sha256(self.model.weights.read_bytes()).hexdigest()
        given = self.settings["weights"]
        file = {} if given is None else {"weights_file": str(Path(given).resolve())}
        return {
            **file,
            "torrefy": __version__,
            "model": self.named,
            "weights": digest,
            "blobs": list(self.blobs),
            "pool": self.pool,
            "versions": self.versions.name if self.versions else "",
            "preprocessing": self.preprocessor.to_text(),
        }


@dataclass(frozen=True)
class Part:
    """What was made of some pictures."""

    rows: list[int]
    """The numbers of all of them, in their order."""
    good: list[int]
    """Of those that could be read."""
    arrays: dict[str, NDArray[Any]]
    """By blob, a row for each of these."""
    bad: dict[int, TorrefyError]
    """Of the others why."""


def parts(extractor: Extractor, examples: Examples, left: range, size: int) -> Iterator[Part]:
    """Features of pictures, a batch at a time.

    Args:
        extractor: what makes them.
        examples: the pictures.
        left: their numbers.
        size: pictures that go through the net together, each version counted.
    """
    versions = extractor.versions
    size = max(1, size // (len(versions) if versions else 1))
    for read in read_ahead(examples, extractor.preprocessor, left, size, versions=versions):
        made: dict[str, NDArray[Any]] = {}
        if read.good:
            made = extractor.of_versions(read.pictures) if versions else extractor(read.pictures)
        yield Part(read.rows, read.good, made, read.bad)


def placed(examples: Examples) -> dict[str, str]:
    """Where examples are: what they were read from, and the folder that their names begin at."""
    where = {"data": examples.origin}
    if examples.files and examples.files[0].endswith(examples.names[0]):
        whole = str(Path(examples.files[0]).absolute())
        where["root"] = whole[: -len(examples.names[0])] or "/"
    return where


def _called(model: str | Path) -> str:
    """What a model is called wherever it is asked for: a folder or file by its whole path."""
    if str(model) in zoo_names() or not Path(model).exists():
        return str(model)
    return str(Path(model).resolve())


def reopened(
    origin: Mapping[str, Any], blob: str, model: str | Path | None = None, **opened: Any
) -> Extractor:
    """What makes more features of the kind that some are.

    Args:
        origin: where those come from, as `Extractor.origin` says it.
        blob: the blob.
        model: the net; None: the one that made them.
        opened: weights and preprocessing, where they aren't those that made them.

    Raises:
        TorrefyError: the net isn't known or to be had, or has other weights now.
    """
    name = model if model is not None else origin.get("model")
    if not name:
        raise DataError("nothing says which net made the features", hint="Give --model.")
    if model is None and origin.get("weights_file") is not None:
        opened.setdefault("weights", str(origin["weights_file"]))
    if origin.get("preprocessing") and opened.get("preprocessing") is None:
        opened["preprocessing"] = Preprocessor.from_text(str(origin["preprocessing"]))
    versions = str(origin.get("versions") or "")
    found = Extractor(
        str(name), [blob], pool=str(origin.get("pool", "avg")),
        tta=versions.split(", ") if versions else None, **opened,
    )  # fmt: skip
    if origin.get("weights") not in (None, found.origin()["weights"]):
        raise DataError(f"{name} has other weights now than those that made the features")
    return found


def pooled_to(blob: Tensor, pool: str) -> Tensor:
    """A blob as features: maps, N×C×H×W, pooled; N×D otherwise, as it is."""
    if pool == "none":
        return blob
    if blob.dim() != 4 or pool == "flatten":
        return blob.reshape(blob.shape[0], -1)
    if pool == "avg":
        return blob.mean((2, 3))
    if pool == "max":
        return blob.amax((2, 3))
    parts = [
        torch.nn.functional.adaptive_max_pool2d(blob, level).flatten(1) for level in SPP_LEVELS
    ]
    return torch.cat(parts, 1)


def extract(
    model: str | Path | Model | Extractor,
    data: str | Path | Sequence[str | Path] | Examples,
    blobs: Sequence[str] = (),
    *,
    batch: int = BATCH,
    bad: str = "fail",
    progress: Callable[[int, int], None] = lambda done, count: None,
    **options: Any,
) -> Features:
    """Features of pictures, in memory.

    Args:
        model: as `Extractor` takes it, or one.
        data: what `read_examples` takes: a folder with a folder for each class, a list, a table,
            an LMDB; or a folder of pictures, or pictures.
        blobs: what features are; none: what the net's last learned layer reads.
        batch: pictures that go through the net together, each version counted.
        bad: "fail": a picture that can't be read is an error; "skip": it is left out.
        progress: told how many pictures are done of how many.
        options: as `Extractor` takes them.

    Raises:
        TorrefyError: as `Extractor` and `read_examples`; or no picture can be read.

    Example:
        features = torrefy.extract("squeezenet_v1.1", "photos/")
        features.matrix(), features.labels
    """
    extractor = model if isinstance(model, Extractor) else Extractor(model, blobs, **options)
    examples = data if isinstance(data, Examples) else read_examples(data, targets=False)
    rows: list[int] = []
    found: dict[str, list[NDArray[Any]]] = {blob: [] for blob in extractor.blobs}
    done = 0
    for part in parts(extractor, examples, range(len(examples)), batch):
        for error in part.bad.values():
            if bad == "fail":
                raise error
        for blob, values in part.arrays.items():
            found[blob].append(values)
        rows += part.good
        done += len(part.rows)
        progress(done, len(examples))
    if not rows:
        raise DataError("no picture can be read", place=Place(examples.origin))
    kept = examples.take(rows)
    return Features(
        {blob: np.concatenate(values) for blob, values in found.items()},
        kept.names,
        kept.targets if kept.kind == "classes" else None,
        kept.classes if kept.kind == "classes" else (),
        kept.groups,
        kept.parts,
        {**extractor.origin(), **placed(examples)},
    )
