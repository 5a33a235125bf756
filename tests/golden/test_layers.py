"""Every layer type that there is, against the numbers of real Caffe."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import SHARED
from tests.golden.replay import Case, replay

from torrefy.net.compile import layer_types
from torrefy.schema import read_text

CHOSEN = Path(__file__).parent / "cases"
"""A few cases of real Caffe that are always there; the rest is looked for beside the repository."""


def cases() -> list[Path]:
    """The reference cases whose layer types all exist."""
    known = layer_types()
    found = []
    everything = SHARED / "golden/layers"
    root = everything if everything.is_dir() else CHOSEN
    for meta in sorted(root.glob("*/*/meta.json")):
        definition = read_text(meta.parent / "net.prototxt")
        if all(layer.type in known for layer in definition.message.layer):
            found.append(meta.parent)
    return found


@pytest.mark.parametrize("folder", cases(), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_layer_computes_what_caffe_computes(folder: Path) -> None:
    replay(Case(folder))
