"""ONNX Runtime, as a runtime among others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrefy.runtime.base import Runtime
from torrefy.runtime.session import OnnxModel, missing_provider

if TYPE_CHECKING:
    from torrefy.runtime.runnable import Runnable


class OnnxRuntime(Runtime):
    """ONNX files in ONNX Runtime: on the CPU, on NVIDIA's GPUs by CUDA or TensorRT."""

    name = "onnxruntime"
    concurrent = True

    def missing(self, device: str, precision: str) -> str:
        """It computes in what a file is written in, on devices that it has a provider of."""
        if precision != "fp32":
            return f"it computes in what a file is written in, not in {precision} on demand"
        return missing_provider(device)

    def version(self) -> str:
        """ONNX Runtime's."""
        import onnxruntime

        return str(onnxruntime.__version__)

    def open(self, model: Runnable, device: str, precision: str, threads: int) -> OnnxModel:
        """Open the file; a net is exported first."""
        return OnnxModel(model.file(), device, threads)
