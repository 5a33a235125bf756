"""Formats of weights, and copying them by name."""

from __future__ import annotations

from torrefy.net.stored import WeightFormat
from torrefy.plugins.hookspecs import hookimpl
from torrefy.weights.caffemodel import CAFFEMODEL


@hookimpl
def torrefy_weight_formats() -> list[WeightFormat]:
    """The built-in formats."""
    return [CAFFEMODEL]
