"""Definitions from Python: `from torrefy.spec import L, NetSpec, P`."""

from __future__ import annotations

from torrefy.spec.build import NetSpec, Top, to_proto
from torrefy.spec.typed import L, P

__all__ = ["L", "NetSpec", "P", "Top", "to_proto"]
