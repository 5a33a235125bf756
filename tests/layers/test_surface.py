"""What authors of layers import: all in one place, and no torch before it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

import torrefy.layers
from torrefy.layers import base, fillers
from torrefy.schema import fields


def test_the_names_are_those_of_their_homes() -> None:
    homes = {"Layer": base, "Shape": base, "layer": base, "filler": fillers,
             "Fields": fields, "Filler": fields, "field": fields}  # fmt: skip
    assert sorted(homes) == sorted(torrefy.layers.__all__)
    for name, home in homes.items():
        assert getattr(torrefy.layers, name) is getattr(home, name)
    with pytest.raises(AttributeError, match="has no attribute 'Layr'"):
        _ = torrefy.layers.Layr


def test_fields_are_declared_without_torch() -> None:
    code = (
        "import sys; from torrefy.layers import Fields, Filler, field; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)
