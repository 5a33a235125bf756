"""Heads in definitions: what they become, and what is said where one is wrong."""

from __future__ import annotations

import pytest

from torrefy.errors import TorrefyError
from torrefy.schema import parse_text, upgrade
from torrefy.schema.head import parse_head

NET = """layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "fc7" type: "InnerProduct" bottom: "data" top: "fc7"
  inner_product_param { num_output: 6 } }
"""
LABEL = 'layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 } } }\n'


def layers(text: str) -> list[tuple[str, str]]:
    return [(one.name, one.type) for one in upgrade(parse_text(text, file="net")).message.layer]


def refusal(text: str) -> str:
    with pytest.raises(TorrefyError) as caught:
        upgrade(parse_text(text, file="net"))
    return str(caught.value)


def test_a_head_answers_where_the_net_has_no_targets() -> None:
    found = layers(NET + 'head { type: "Linear" bottom: "fc7" num_output: 4 }')
    assert found[2:] == [("head/score", "InnerProduct"), ("head/prob", "Softmax")]


def test_a_head_learns_where_a_layer_makes_its_label() -> None:
    found = layers(NET + LABEL + 'head { type: "Linear" name: "kind" bottom: "fc7" num_output: 4 }')
    assert found[3:] == [
        ("kind/score", "InnerProduct"),
        ("kind/loss", "SoftmaxWithLoss"),
        ("kind/accuracy", "Accuracy"),
    ]


def test_a_heads_rates_and_loss_weight_reach_its_layers() -> None:
    text = 'head { type: "Linear" bottom: "fc7" num_output: 4 lr_mult: 10 loss_weight: 0.5 }'
    *_, score, loss, _ = upgrade(parse_text(NET + LABEL + text)).message.layer
    assert [param.lr_mult for param in score.param] == [10, 20]
    assert list(loss.loss_weight) == [0.5]


def test_one_head_reads_what_another_wrote() -> None:
    first = 'head { type: "Linear" name: "a" bottom: "fc7" num_output: 4 }'
    second = 'head { type: "Linear" name: "b" bottom: "a/score" num_output: 3 }'
    assert ("b/score", "InnerProduct") in layers(NET + first + second)


def test_what_a_head_wrote_is_told_at_the_head() -> None:
    two = 'head { type: "Linear" bottom: "fc7" num_output: 4 }\n' * 2
    from torrefy.weights.load import load_net

    with pytest.raises(TorrefyError, match=r'net:6:1: .*"head/score" is already produced by layer'):
        load_net(parse_text(NET + two, file="net"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            'head { type: "Linea" bottom: "fc7" }',
            'net:5:14: there is no head "Linea". Did you mean "Linear"?',
        ),
        (
            'head { type: "Linear" bottom: "fc8" }',
            'net:5:31: head "head": bottom "fc8" is not produced by any layer above it. '
            'Did you mean "fc7"?',
        ),
        (
            'head { type: "Linear" }',
            'net:5:1: head "head" has no bottom, the blob that it reads',
        ),
        (
            'head { type: "Linear" bottom: "fc7" linear_param { dropout: 1 } }',
            'net:5:61: head "head": dropout must be at least 0 and below 1, found 1',
        ),
    ],
)
def test_a_wrong_head_is_told_where_it_stands(text: str, told: str) -> None:
    assert refusal(NET + text) == told


def test_a_command_line_names_a_head_with_its_fields() -> None:
    made = parse_head("linear dropout: 0.5 pool: MAX")
    assert (made.type_name, made.dropout, made.pool) == ("Linear", 0.5, "MAX")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Liner", 'there is no head "Liner". Did you mean "Linear"?'),
        (
            "Linear drop: 1",
            'head "Linear drop: 1": LinearParameter has no field "drop". Did you mean "dropout"?',
        ),
    ],
)
def test_a_wrong_head_of_a_command_line_is_told(text: str, told: str) -> None:
    with pytest.raises(TorrefyError) as caught:
        parse_head(text)
    assert str(caught.value) == told
