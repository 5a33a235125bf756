"""A graph written back compiles to the same net."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.conftest import SHARED

from torrefy.graph import State, graph_text
from torrefy.net.compile import diagnose
from torrefy.net.net import compile_net
from torrefy.schema import parse_text, read_text, upgrade

OLD = """
input: "data" input_dim: 1 input_dim: 2 input_dim: 4 input_dim: 4
layers { name: "c" type: CONVOLUTION bottom: "data" top: "c" blobs_lr: 1 blobs_lr: 2
  convolution_param { num_output: 3 kernel_size: 3 weight_filler { type: "xavier" } } }
layers { name: "r" type: RELU bottom: "c" top: "c" }
layers { name: "train" type: POWER bottom: "c" top: "t" include { phase: TRAIN } }
layers { name: "s" type: SOFTMAX bottom: "c" top: "s" exclude { phase: TRAIN } }
"""


def test_an_old_definition_comes_back_upgraded_and_filtered() -> None:
    net = compile_net(upgrade(parse_text(OLD)), State("test"), seed=0)
    text = net.to_prototxt()
    for word in ("layers", "input:", "include", "exclude", "train"):
        assert word not in text
    again = compile_net(parse_text(text), State("test"), seed=0)
    x = torch.randn(1, 2, 4, 4)
    assert torch.equal(again(data=x)["s"], net(data=x)["s"])
    assert again.to_prototxt() == text
    assert [n.spec.top[0] for n in again.graph.nodes] == ["data", "c", "c", "s"]


@pytest.mark.parametrize("phase", ["train", "test"])
@pytest.mark.parametrize(
    "path", sorted((SHARED / "golden/nets").glob("*/net.prototxt")), ids=lambda p: p.parent.name
)
def test_whole_nets_come_back(path: Path, phase: str) -> None:
    graph, built = diagnose(upgrade(read_text(path)), State(phase))
    text = graph_text(graph)
    again, rebuilt = diagnose(parse_text(text), State(phase))
    assert [(n.key, n.bottoms, n.tops) for n in again.nodes] == [
        (n.key, n.bottoms, n.tops) for n in graph.nodes
    ]
    assert rebuilt.shapes == built.shapes
    assert graph_text(again) == text
