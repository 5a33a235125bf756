"""An ONNX file, ready to run in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.recipe import Recipe
from torrefy.errors import Place, TorrefyError, did_you_mean

Shape = tuple[int | str, ...]
"""Extents; a text is the name of one that may vary ("batch")."""

_PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider"]}


class OnnxModel:
    """An ONNX file in ONNX Runtime, with the recipe that its metadata carries.

    Args:
        path: the file.
        device: "cpu" or "cuda"; "cuda:1" is the second GPU.
        threads: how many threads compute; 0: as ONNX Runtime decides.

    Raises:
        TorrefyError: the file is missing or no ONNX model, or the device is not to be had.
    """

    def __init__(self, path: str | Path, device: str = "cpu", threads: int = 0) -> None:
        """Open the file."""
        import onnxruntime

        self.path = Path(path)
        place = Place(str(path))
        kind, _, index = device.partition(":")
        if kind not in _PROVIDERS or (index and not index.isdigit()):
            raise TorrefyError(
                f'there is no device "{device}" for ONNX Runtime',
                hint='Take "cpu" or "cuda".',
            )
        if not self.path.is_file():
            raise TorrefyError("no such file", place=place)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        wanted = _PROVIDERS[kind][0]
        provider_options = [{"device_id": index}] if index else [{}]
        if wanted not in onnxruntime.get_available_providers():
            raise TorrefyError(f"this ONNX Runtime has no {wanted}", hint="Take device cpu.")
        try:
            self.session = onnxruntime.InferenceSession(
                str(self.path), options, [wanted], provider_options
            )
        except Exception as error:  # noqa: BLE001  ONNX Runtime has no one class of errors
            raise TorrefyError(
                f"ONNX Runtime can't take this file: {_reason(error)}", place=place
            ) from None
        if wanted not in self.session.get_providers():
            raise TorrefyError(
                f"ONNX Runtime could not start {wanted}",
                hint="Are CUDA and cuDNN of the versions that it asks for installed?",
            )
        self.inputs: dict[str, Shape] = {i.name: tuple(i.shape) for i in self.session.get_inputs()}
        """The inputs and their shapes."""
        self._kinds = {
            i.name: np.uint8 if i.type == "tensor(uint8)" else np.float32
            for i in self.session.get_inputs()
        }
        self.outputs: dict[str, Shape] = {
            o.name: tuple(o.shape) for o in self.session.get_outputs()
        }
        """The outputs and their shapes."""
        metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        self.recipe = Recipe.from_metadata(metadata, str(path))

    def run(
        self, inputs: Mapping[str, NDArray[Any]], blobs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Compute outputs by name.

        Args:
            inputs: an array for each input.
            blobs: the outputs wanted; None: all.

        Raises:
            TorrefyError: an input or output that the file doesn't have, or a wrong shape.
        """
        wanted = list(self.outputs) if blobs is None else list(blobs)
        for known, names in ((self.outputs, wanted), (self.inputs, list(inputs))):
            for name in names:
                if name not in known:
                    raise TorrefyError(
                        f'the model has no blob "{name}"',
                        place=Place(str(self.path)),
                        hint=did_you_mean(name, known) or f"It has {', '.join(known)}.",
                    )
        fed = {name: np.ascontiguousarray(a, self._kinds[name]) for name, a in inputs.items()}
        try:
            values = self.session.run(wanted, fed)
        except Exception as error:  # noqa: BLE001  ONNX Runtime has no one class of errors
            raise TorrefyError(
                f"ONNX Runtime failed: {_reason(error)}", place=Place(str(self.path))
            ) from None
        return dict(zip(wanted, values, strict=True))


def _reason(error: Exception) -> str:
    """What ONNX Runtime says, without its codes ("[ONNXRuntimeError] : 7 : … : ")."""
    return str(error).strip().splitlines()[0].rsplit(" : ", 1)[-1]
