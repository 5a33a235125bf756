"""A graph written back compiles to the same net."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from tests.conftest import SHARED, THIRDS

from torrefy.errors import DefinitionError
from torrefy.graph import State, graph_text, resolve
from torrefy.net.compile import diagnose
from torrefy.net.net import compile_net
from torrefy.schema import format_text, parse_text, read_text, upgrade
from torrefy.schema.source import Source

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
    assert format_text(Source("n", text)) == text
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


@pytest.mark.parametrize("third", THIRDS)
def test_public_definitions_come_back_in_either_phase(shared: Path, third: int) -> None:
    corpus = shared / "corpus"
    done = 0
    with (corpus / "index.tsv").open(newline="") as table:
        for row in list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))[third::3]:
            path = corpus / row["file"]
            small = path.stat().st_size < 60_000
            if row["kind"] == "solver" or row["parse_bvlc"] != "ok" or not small:
                continue
            try:
                definition = upgrade(read_text(path))
                state = State("test" if row["kind"] == "net-deploy" else "train")
                graph = resolve(definition, state, losses=("SoftmaxWithLoss",))
            except DefinitionError:
                continue  # a type of nobody's, a fragment, or the net of some stage
            again = resolve(parse_text(graph_text(graph)), State("test"))
            assert [(n.key, n.type, n.bottoms, n.tops, n.param_names) for n in again.nodes] == [
                (n.key, n.type, n.bottoms, n.tops, n.param_names) for n in graph.nodes
            ], row["file"]
            done += 1
    assert done > 60
