"""Formats of weights, and copying them by name."""

from __future__ import annotations

from torrefy.net.stored import WeightFormat
from torrefy.plugins.hookspecs import hookimpl
from torrefy.weights.caffemodel import CAFFEMODEL
from torrefy.weights.hdf5 import HDF5
from torrefy.weights.safetensors import SAFETENSORS


@hookimpl
def torrefy_weight_formats() -> list[WeightFormat]:
    """The built-in formats."""
    return [CAFFEMODEL, HDF5, SAFETENSORS]
