"""Definition to Graph: what feeds what, in which state, and what is told when that fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from torrefy.errors import DefinitionError
from torrefy.graph import Graph, State, resolve
from torrefy.schema import parse_text, read_text, upgrade

RELU = 'layer { name: "%s" type: "ReLU" bottom: "%s" top: "%s" }\n'
INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 } } }\n'


def graph_of(text: str, **state: object) -> Graph:
    definition = upgrade(parse_text(text, file="net.prototxt"))
    return resolve(definition, State(**state))  # type: ignore[arg-type]


def problems(text: str) -> list[str]:
    with pytest.raises(DefinitionError) as error:
        graph_of(text)
    return [str(p) for p in error.value.problems]


def test_in_place_layers_make_values_of_their_own() -> None:
    graph = graph_of(
        INPUT + RELU % ("a", "data", "x") + RELU % ("b", "x", "x") + RELU % ("c", "x", "y")
    )
    assert [(n.bottoms, n.tops) for n in graph.nodes] == [
        ((), ("data",)),
        (("data",), ("x@a",)),
        (("x@a",), ("x",)),
        (("x",), ("y",)),
    ]
    assert graph.inputs == {"data": "data"}
    assert graph.outputs == ("y",)


def test_a_bottom_that_nobody_produces_is_told_with_its_neighbour() -> None:
    assert problems(INPUT + RELU % ("a", "data", "pool1") + RELU % ("b", "pol1", "y")) == [
        'net.prototxt:3:40: layer "b": bottom "pol1" is not produced by any layer above it. '
        'Did you mean "pool1"?'
    ]


def test_a_bottom_produced_further_down_says_so() -> None:
    assert problems(INPUT + RELU % ("a", "z", "y") + RELU % ("b", "data", "z")) == [
        'net.prototxt:2:40: layer "a": bottom "z" is not produced by any layer above it. '
        "A layer further down produces it; layers stand in the order they run in."
    ]


def test_a_bottom_from_a_layer_of_another_phase_says_so() -> None:
    train = INPUT.replace("layer {", "layer { include { phase: TRAIN }")
    assert problems(train + INPUT.replace('"data"', '"d"') + RELU % ("a", "data", "y")) == [
        'net.prototxt:3:40: layer "a": bottom "data" is not produced by any layer above it. '
        'Layer "data" produces it, but is not part of the net in phase test.'
    ]


def test_a_blob_produced_twice_names_both_layers() -> None:
    assert problems(INPUT + RELU % ("a", "data", "y") + RELU % ("b", "data", "y")) == [
        'net.prototxt:3:52: layer "b": top "y" is already produced by layer "a" in line 2. '
        "A layer may only overwrite its own bottom of the same index; choose another name."
    ]


def test_independent_mistakes_are_told_at_once() -> None:
    text = INPUT + RELU % ("a", "dta", "y") + RELU % ("b", "data", "y")
    assert problems(text) == [
        'net.prototxt:2:40: layer "a": bottom "dta" is not produced by any layer above it. '
        'Did you mean "data"?',
        'net.prototxt:3:52: layer "b": top "y" is already produced by layer "a" in line 2. '
        "A layer may only overwrite its own bottom of the same index; choose another name.",
    ]


def test_sharing_with_different_rates_is_refused() -> None:
    shared = RELU.replace(" }\n", ' param { name: "w" lr_mult: %d } }\n')
    text = INPUT + shared % ("a", "data", "x", 1) + shared % ("b", "x", "y", 2)
    assert problems(text) == [
        'net.prototxt:3:80: layer "b": shared param "w" has lr_mult 2 here and 1 in layer "a". '
        "Give it once, or the same."
    ]


def test_a_wrong_phase_name_lists_nothing_but_the_right_ones() -> None:
    with pytest.raises(DefinitionError, match='phase must be "train" or "test", found "tets"'):
        State("tets")


@pytest.mark.parametrize("syntax", ["input_dim: 1 input_dim: 3 input_dim: 4 input_dim: 5",
                                    "input_shape { dim: 1 dim: 3 dim: 4 dim: 5 }"])  # fmt: skip
def test_legacy_inputs_become_an_input_layer(syntax: str) -> None:
    graph = graph_of(f'input: "data" {syntax}\n' + RELU % ("a", "data", "y"))
    assert graph.nodes[0].type == "Input"
    assert list(graph.nodes[0].spec.input_param.shape[0].dim) == [1, 3, 4, 5]
    assert str(graph.nodes[1].place) == "net.prototxt:2:1"


def test_legacy_inputs_without_enough_numbers_are_refused() -> None:
    assert problems('input: "data" input_dim: 1 ' + RELU % ("a", "data", "y")) == [
        "net.prototxt:1:8: 1 inputs need 4 input_dim "
        "(num, channels, height, width of each), found 1"
    ]


def test_states_keep_the_layers_that_caffe_keeps(shared: Path) -> None:
    folder = shared / "golden/nets/states"
    definition = read_text(folder / "net.prototxt")
    for case in json.loads((folder / "kept.json").read_text()):
        phase = case["phase"].lower()
        state = State(phase, case.get("level", 0), tuple(case.get("stages", ())))
        kept = [n.name for n in resolve(definition, state).nodes]
        assert kept == [n for n in case["all_layers"] if not n.endswith("_split")], case


def test_a_legacy_input_without_a_shape_says_so() -> None:
    assert problems('input: "data"\n' + RELU % ("a", "data", "y")) == [
        'net.prototxt:2:40: layer "a": bottom "data" is not produced by any layer above it. '
        'input: "data" has no shape; give input_shape { dim: … } for it.'
    ]


def test_the_types_that_feed_make_the_inputs() -> None:
    text = 'layer { name: "d" type: "Data" top: "data" top: "label" }\n' + RELU % ("r", "data", "x")
    definition = parse_text(text)
    assert resolve(definition, State()).inputs == {}
    graph = resolve(definition, State(), feeding=("Data",))
    assert graph.inputs == {"data": "data", "label": "label"}
    assert [node.feeds for node in graph.nodes] == [True, False]


def test_a_loss_without_a_top_gets_one_of_its_name() -> None:
    loss = 'layer { name: "%s" type: "EuclideanLoss" bottom: "data" bottom: "data" }\n'
    text = INPUT + RELU % ("r", "data", "loss") + loss % "loss" + loss % "loss" + loss % "cost"
    graph = resolve(parse_text(text), State(), losses=("EuclideanLoss",))
    assert graph.outputs == ("loss", "loss'", "loss''", "cost")
    assert resolve(parse_text(text), State()).outputs == ("loss",)
