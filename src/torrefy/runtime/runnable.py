"""A model as runtimes open it: a net, or an ONNX file, which of a net is made once and kept."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torrefy
from torrefy.data.recipe import PREFIX, Recipe
from torrefy.errors import Place, TorrefyError
from torrefy.plugins.manager import chosen_dialect, manager
from torrefy.runtime.metadata import read_metadata
from torrefy.zoo.cache import cache_folder, locked, read_hash
from torrefy.zoo.model import Model, find_model

if TYPE_CHECKING:
    from torrefy.net.net import Net

log = logging.getLogger("torrefy.runtime")

FOLDER = "exported"
"""Where in the cache the files of nets are kept."""


class Runnable:
    """A model that can be computed: an .onnx file, or a zoo model, run folder or definition.

    Args:
        model: as `torrefy.Classifier` takes it.
        weights: those of a .prototxt.

    Raises:
        TorrefyError: there is no such model, or it can't be fetched.
    """

    def __init__(self, model: str | Path, weights: str | Path | None = None) -> None:
        """Find the model."""
        self.name = str(model)
        self._onnx: Path | None = None
        self._model: Model | None = None
        if self.name.endswith(".onnx"):
            if weights is not None:
                raise TorrefyError(f"{model} has weights of its own", hint="Leave out the others.")
            self._onnx = Path(model)
            if not self._onnx.is_file():
                raise TorrefyError("no such file", place=Place(self.name))
        elif Path(model).is_file() and Path(model).suffix != ".prototxt":
            raise TorrefyError(
                f"{model}: expected a zoo model's name or an .onnx file",
                hint="`torrefy export` makes one of a prototxt and its weights.",
            )
        else:
            self._model = find_model(model, weights)

    @property
    def is_file(self) -> bool:
        """Whether it is an ONNX file, of which there is no net."""
        return self._onnx is not None

    @cached_property
    def recipe(self) -> Recipe:
        """What is done to a picture, and what the output means."""
        return self._model.recipe if self._model else Recipe.from_metadata(self.metadata, self.name)

    @cached_property
    def metadata(self) -> dict[str, str]:
        """What an ONNX file says of itself; of a net nothing."""
        return {} if self._onnx is None else read_metadata(self._onnx)

    @property
    def precision(self) -> str:
        """What it is written in: "fp32"; of a file made by `lower_precision` "int8" or "fp16"."""
        return self.metadata.get(PREFIX + "precision", "fp32")

    @property
    def weights(self) -> Path:
        """The file of its weights."""
        return self._onnx or self._net_model().weights

    def digest(self) -> str:
        """What tells it from any other: a SHA-256 of all that its numbers come from.

        Its files, its recipe, the dialect, and the code that reads, exports and computes it.
        """
        if self._onnx is None:
            files = [self._net_model().definition, self._net_model().weights]
        else:  # `external` of `export_onnx` puts weights beside it
            beside = self._onnx.with_name(f"{self._onnx.name}.data")
            files = [self._onnx, *([beside] if beside.is_file() else [])]
        told = [
            *(read_hash(file, "sha256") for file in files),
            str(sorted(self.recipe.to_metadata().items())),
            chosen_dialect(),
            *(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "onnx")),
            *_code(),
        ]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()

    def net(self, device: str = "cpu") -> Net:
        """The net in phase test, with weights.

        Raises:
            TorrefyError: it is an ONNX file; or the device is not to be had.
        """
        from torrefy.weights.load import load_net

        model = self._net_model()
        return load_net(model.definition, model.weights, device=device)

    def file(self) -> Path:
        """The ONNX file; a net is exported, checked, and kept in the cache for the next time.

        Raises:
            ExportError: the net can't be exported.
            ZooError: the cache can't be written to.
        """
        if self._onnx is not None:
            return self._onnx
        model = self._net_model()
        from torrefy.export.opset import OPSET

        folder = cache_folder() / FOLDER / f"{self.digest()[:32]}-{OPSET}"
        path = folder / f"{model.name}.onnx"
        if path.is_file():
            return path
        from torrefy.export.onnx import export_onnx

        output = model.recipe.output
        with locked(folder):
            if not path.is_file():
                log.info("exporting %s for ONNX runtimes; this is done once", model.name)
                blobs = [output] if output else None
                export_onnx(self.net(), path, blobs=blobs, recipe=model.recipe)
        return path

    def _net_model(self) -> Model:
        if self._model is None:
            raise TorrefyError(
                f"{self.name} is an ONNX file, which has no definition",
                hint="Give the model that it was exported from.",
            )
        return self._model


def _code() -> list[str]:
    """The state of our code and the plugins': of what is worked on a version says nothing."""
    roots = [Path(torrefy.__file__).parent]
    told = []
    for plugin in manager().used():
        if not plugin.built_in:
            told.append(plugin.title)
            file = getattr(plugin.module, "__file__", None)
            if file:
                roots.append(Path(file).parent if file.endswith("__init__.py") else Path(file))
    for root in roots:
        files = sorted(root.rglob("*.py")) if root.is_dir() else [root]
        told += [f"{file} {file.stat().st_mtime_ns}" for file in files]
    return told
