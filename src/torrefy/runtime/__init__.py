"""What executes a net to answer: runtimes, and the Classifier."""

from __future__ import annotations

from torrefy.plugins import hookimpl
from torrefy.plugins.lazy import Lazy


@hookimpl
def torrefy_runtimes() -> list[Lazy]:
    """The built-in runtimes."""
    return [
        Lazy(
            "onnxruntime",
            "torrefy.runtime.onnx_runtime:OnnxRuntime",
            "ONNX files in ONNX Runtime; nets are exported first",
        ),
        Lazy("pytorch", "torrefy.runtime.pytorch:PyTorch", "nets in PyTorch, layer by layer"),
        Lazy(
            "torch.compile",
            "torrefy.runtime.pytorch:TorchCompile",
            "nets in PyTorch, compiled to kernels for each size of batch",
        ),
    ]
