"""OpenVINO as a runtime of Torrefy."""

from __future__ import annotations

from torrefy.plugins import Lazy, hookimpl

TORREFY_API = 1

__version__ = "0.1.0"


@hookimpl
def torrefy_runtimes() -> list[Lazy]:
    """OpenVINO; it is imported when it is used."""
    return [
        Lazy(
            "openvino",
            f"{__name__}.runtime:OpenVino",
            "ONNX files in OpenVINO; nets are exported first",
        )
    ]
