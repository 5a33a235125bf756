"""Small whole nets against the numbers of real Caffe, with weights from its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.conftest import SHARED
from tests.golden.replay import Case, close, compare

from torrefy.graph import State, resolve
from torrefy.net.compile import layer_types
from torrefy.net.stored import read_weights
from torrefy.schema import read_text, upgrade
from torrefy.weights.copy import copy_weights

NETS = SHARED / "golden/nets"
ATOL = 1e-5
"""What the reference advises for whole nets."""


def cases() -> list[Path]:
    """The nets whose layer types all exist."""
    known = layer_types()
    found = []
    for arrays in sorted(NETS.glob("*/case.npz")):
        definition = read_text(arrays.parent / "net.prototxt")
        if all(layer.type in known for layer in definition.message.layer):
            found.append(arrays.parent)
    return found


@pytest.mark.parametrize("folder", cases(), ids=lambda p: p.name)
def test_a_net_computes_what_caffe_computes(folder: Path) -> None:
    case = Case(folder)
    net = case.compile()
    report = copy_weights(net, read_weights(folder / "weights.caffemodel"), fresh=["new"])
    assert report.ignored == (("gone",) if folder.name == "transfer" else ())
    for key, value in case.group("param"):
        layer, index = key.rsplit(":", 1)
        close(net.params[layer][int(index)], value, f"param:{key}", 0)
    compare(case, net, ATOL)


def test_the_layers_of_each_state_are_those_that_caffe_keeps(shared: Path) -> None:
    definition = upgrade(read_text(shared / "golden/nets/states/net.prototxt"))
    for kept in json.loads((shared / "golden/nets/states/kept.json").read_text()):
        state = State(kept["phase"].lower(), kept["level"], tuple(kept["stages"]))
        assert [node.name for node in resolve(definition, state).nodes] == kept["layers"]
