"""SSD's layers for Torrefy: the dialect of the Single Shot MultiBox Detector's Caffe.

Liu et al. 2016, arXiv:1512.02325.
"""

from __future__ import annotations

from typing import Any

from torrefy.plugins import Lazy, hookimpl

TORREFY_API = 1

__version__ = "0.1.0"

LAYERS = {
    "AnnotatedData": "data",
    "ConvolutionDepthwise": "depthwise",
    "DepthwiseConvolution": "depthwise",
    "DetectionEvaluate": "evaluate",
    "DetectionOutput": "detection",
    "MultiBoxLoss": "multibox",
    "Normalize": "normalize",
    "Permute": "arrange",
    "PriorBox": "priors",
    "ReLU6": "activation",
    "ShuffleChannel": "arrange",
    "SmoothL1Loss": "smooth_l1",
}
"""Each layer type, and the module that holds its class."""


@hookimpl
def torrefy_layers() -> list[Any]:
    """Where the layer types are; their modules, and torch, are imported when they are used."""
    return [Lazy(name, f"{__name__}.{module}:{name}") for name, module in LAYERS.items()]


@hookimpl
def torrefy_schema_fields() -> list[Any]:
    """What the definition language gains."""
    from torrefy_ssd.schema import EXTENSIONS

    return list(EXTENSIONS)
