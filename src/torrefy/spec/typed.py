"""`L` and `P`; what an editor knows of them stands in typed.pyi, made by `make docs`."""

from __future__ import annotations

from torrefy.spec.build import Enums, LayerFunctions

L = LayerFunctions()
P = Enums()
