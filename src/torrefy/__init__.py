"""Torrefy: Caffe's models, roasted by Torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torrefy.data.recipe import Recipe
    from torrefy.errors import TorrefyError
    from torrefy.export.onnx import ExportReport, export_onnx
    from torrefy.export.precision.lower import lower_precision
    from torrefy.features.estimator import FeatureExtractor
    from torrefy.features.extract import extract
    from torrefy.finetune.estimator import FineTuner
    from torrefy.finetune.finetune import fine_tune
    from torrefy.net.net import Net
    from torrefy.runtime.classifier import Classifier
    from torrefy.spec.build import NetSpec
    from torrefy.train.solver import Solver
    from torrefy.weights.load import load_net

__version__ = "0.1.0.dev0"

_HOMES = {
    "Classifier": "torrefy.runtime.classifier",
    "ExportReport": "torrefy.export.onnx",
    "FeatureExtractor": "torrefy.features.estimator",
    "FineTuner": "torrefy.finetune.estimator",
    "Net": "torrefy.net.net",
    "NetSpec": "torrefy.spec.build",
    "Recipe": "torrefy.data.recipe",
    "Solver": "torrefy.train.solver",
    "TorrefyError": "torrefy.errors",
    "export_onnx": "torrefy.export.onnx",
    "lower_precision": "torrefy.export.precision.lower",
    "extract": "torrefy.features.extract",
    "fine_tune": "torrefy.finetune.finetune",
    "load_net": "torrefy.weights.load",
}
"""Where each public name lives. It is imported on first use: `import torrefy` is cheap."""

__all__ = [
    "Classifier",
    "ExportReport",
    "FeatureExtractor",
    "FineTuner",
    "Net",
    "NetSpec",
    "Recipe",
    "Solver",
    "TorrefyError",
    "__version__",
    "export_onnx",
    "extract",
    "fine_tune",
    "load_net",
    "lower_precision",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
