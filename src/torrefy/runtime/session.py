"""An ONNX file, ready to run in ONNX Runtime."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.recipe import Recipe
from torrefy.errors import Place, TorrefyError
from torrefy.runtime.base import Shape, check_names
from torrefy.zoo.cache import cache_folder

PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider",),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
}
"""What each device is called by ONNX Runtime; what the first can't compute, the second does."""
LIBRARIES = {"tensorrt": "nvinfer", "cuda": "cuda"}
"""Devices beside the CPU, the fastest first, and the library without which one can't start."""
OPTIMISATIONS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
"""How much ONNX Runtime rewrites a graph before it computes it, and what it calls that."""


@functools.cache
def device_here() -> str:
    """The device that "auto" means: the first of tensorrt, cuda and cpu that starts here."""
    import ctypes.util

    for device, library in LIBRARIES.items():
        if missing_provider(device) or not ctypes.util.find_library(library):
            continue
        with contextlib.suppress(TorrefyError), tempfile.TemporaryDirectory() as folder:
            OnnxModel(_write_smallest(Path(folder) / "m.onnx"), device)
            return device
    return "cpu"


def _write_smallest(path: Path) -> Path:
    """A file that any device computes, to see if one starts."""
    import onnx
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "smallest", [x], [y])
    imported = [helper.make_opsetid("", 19)]
    onnx.save_model(helper.make_model(graph, opset_imports=imported, ir_version=9), path)
    return path


def missing_provider(device: str) -> str:
    """Why this ONNX Runtime can't compute on a device; empty: it has what that needs."""
    import onnxruntime

    if device == "auto":
        return ""
    kind, _, index = device.partition(":")
    if kind not in PROVIDERS or (index and not index.isdigit()):
        return f'there is no device "{device}" for ONNX Runtime'
    wanted = PROVIDERS[kind][0]
    if wanted not in onnxruntime.get_available_providers():
        return f"this ONNX Runtime has no {wanted}"
    return ""


class OnnxModel:
    """An ONNX file in ONNX Runtime, with the recipe that its metadata carries.

    Args:
        path: the file.
        device: "cpu", "cuda", "tensorrt" (which takes minutes at a file's first run; what it
            made is kept in the cache), or "auto": the first of those from the end that can start;
            "cuda:1" is the second GPU.
        threads: how many threads compute; 0: as ONNX Runtime decides.
        optimisation: one of OPTIMISATIONS.
        profile: the first part of the name of a file that ONNX Runtime writes times of all
            operators to, for chrome://tracing; None: it writes none.

    Raises:
        TorrefyError: the file is missing or no ONNX model, or the device is not to be had.
    """

    def __init__(
        self,
        path: str | Path,
        device: str = "cpu",
        threads: int = 0,
        *,
        optimisation: str = "all",
        profile: str | Path | None = None,
    ) -> None:
        """Open the file."""
        import onnxruntime

        self.path = Path(path)
        place = Place(str(path))
        if device == "auto":
            device = device_here()
        reason = missing_provider(device)
        if reason:
            raise TorrefyError(reason, hint="Take device cpu.")
        if not self.path.is_file():
            raise TorrefyError("no such file", place=place)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        level = OPTIMISATIONS[optimisation]
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        kind, _, index = device.partition(":")
        wanted = PROVIDERS[kind]
        if kind != "cpu":
            onnxruntime.set_default_logger_severity(4)  # what fails is told below, in a line
        try:
            self.session = onnxruntime.InferenceSession(
                str(self.path), options, list(wanted), [_options(name, index) for name in wanted]
            )
        except Exception as error:  # noqa: BLE001  ONNX Runtime has no one class of errors
            raise TorrefyError(
                f"ONNX Runtime can't take this file: {_reason(error)}", place=place
            ) from None
        if wanted[0] not in self.session.get_providers():
            raise TorrefyError(
                f"ONNX Runtime could not start {wanted[0]}",
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
        check_names(wanted, self.outputs, Place(str(self.path)))
        check_names(inputs, self.inputs, Place(str(self.path)))
        fed = {name: np.ascontiguousarray(a, self._kinds[name]) for name, a in inputs.items()}
        try:
            values = self.session.run(wanted, fed)
        except Exception as error:  # noqa: BLE001  ONNX Runtime has no one class of errors
            raise TorrefyError(
                f"ONNX Runtime failed: {_reason(error)}", place=Place(str(self.path))
            ) from None
        return dict(zip(wanted, values, strict=True))


def _options(provider: str, index: str) -> dict[str, str]:
    """What a provider is asked for; `index` is the GPU's number, or empty."""
    asked = {"device_id": index} if index else {}
    if provider == "TensorrtExecutionProvider":
        kept = cache_folder() / "tensorrt"
        kept.mkdir(parents=True, exist_ok=True)
        asked |= {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(kept)}
    return asked


def _reason(error: Exception) -> str:
    """What ONNX Runtime says, without its codes ("[ONNXRuntimeError] : 7 : … : ")."""
    return str(error).strip().splitlines()[0].rsplit(" : ", 1)[-1]
