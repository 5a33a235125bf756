"""The net for inference that is derived from one for training."""

from __future__ import annotations

import pytest

from torrefy.errors import ExportError
from torrefy.graph import State
from torrefy.net.deploy import Deployed, deploy
from torrefy.net.net import compile_net
from torrefy.schema import parse_text, upgrade

DATA = """layer { name: "pictures" type: "Data" top: "data" top: "label"
  transform_param { crop_size: 8 } data_param { source: "none" batch_size: 64 } }
"""
IP = """layer { name: "%s" type: "InnerProduct" bottom: "data" top: "%s"
  inner_product_param { num_output: 4 } }
"""
LOSS = 'layer { name: "%s" type: "%s" bottom: "%s" bottom: "label" top: "%s" %s }\n'
SHAPES = {"data": (64, 3, 8, 8)}


def derived(text: str) -> Deployed:
    made = deploy(upgrade(parse_text(text)), State("test"), shapes=SHAPES)
    assert made is not None
    net = compile_net(upgrade(made.definition), State("test"))
    assert net.inputs == {"data": (1, 3, 8, 8)}
    assert set(net.outputs) == set(made.outputs)
    return made


def what(made: Deployed) -> list[str]:
    return [f"{one.layer}: {one.what}" for one in made.result.changes]


@pytest.mark.parametrize(
    ("loss", "output", "type_name", "told"),
    [
        ("SoftmaxWithLoss", "prob", "Softmax", 'became the Softmax "prob"'),
        ("SigmoidCrossEntropyLoss", "prob", "Sigmoid", 'became the Sigmoid "prob"'),
        ("EuclideanLoss", "ip", "InnerProduct", 'left out: "ip", which it reads, is the answer'),
        ("HingeLoss", "ip", "InnerProduct", 'left out: "ip", which it reads, is the answer'),
    ],
)
def test_a_loss_becomes_what_it_does_to_scores(
    loss: str, output: str, type_name: str, told: str
) -> None:
    text = DATA + IP % ("ip", "ip") + LOSS % ("loss", loss, "ip", "loss", "")
    if loss in ("SigmoidCrossEntropyLoss", "EuclideanLoss"):
        text = text.replace("num_output: 4", "num_output: 1")
    made = derived(text)
    assert made.outputs == (output,)
    assert made.definition.message.layer[-1].type == type_name
    assert what(made) == [f"loss: {told}", 'pictures: became the input "data"']


def test_what_needs_labels_goes_with_what_reads_it() -> None:
    text = DATA + IP % ("ip", "ip") + LOSS % ("loss", "SoftmaxWithLoss", "ip", "loss", "")
    text += LOSS % ("accuracy", "Accuracy", "ip", "accuracy", "")
    text += 'layer { name: "half" type: "Power" bottom: "accuracy" top: "half" }\n'
    text += 'layer { name: "l" type: "Power" bottom: "label" top: "l" }\n'
    text += 'layer { name: "hush" type: "Silence" bottom: "l" }\n'
    made = derived(text)
    assert [layer.name for layer in made.definition.message.layer] == ["data", "ip", "prob"]
    assert what(made) == [
        "accuracy: left out: inference has no use for it",
        "half: left out: it reads what is left out",
        "l: left out: only labels lead to it",
        "hush: left out: inference has no use for it",
        'loss: became the Softmax "prob"',
        'pictures: became the input "data"',
    ]


def test_losses_that_only_help_training_go_with_their_branches() -> None:
    text = DATA + IP % ("ip", "ip") + IP % ("aux", "aux")
    text += LOSS % ("loss", "SoftmaxWithLoss", "ip", "loss", "")
    text += LOSS % ("help", "SoftmaxWithLoss", "aux", "help", "loss_weight: 0.3")
    made = derived(text)
    assert made.outputs == ("prob",)
    assert [layer.name for layer in made.definition.message.layer] == ["data", "ip", "prob"]
    assert "help: left out: its loss_weight, 0.3, is not the largest" in what(made)


def test_two_answers_have_two_names_and_an_axis_is_kept() -> None:
    text = DATA + IP % ("a", "a") + IP % ("b", "b")
    text += 'layer { name: "m" type: "Reshape" bottom: "b" top: "m" reshape_param { shape { '
    text += "dim: 0 dim: 1 dim: 4 } } }\n"
    text += LOSS % ("one", "SoftmaxWithLoss", "a", "one", "")
    text += LOSS % ("two", "SoftmaxWithLoss", "m", "two", "softmax_param { axis: -1 }")
    made = derived(text)
    assert made.outputs == ("prob", "two/prob")
    assert made.definition.message.layer[-1].softmax_param.axis == 2


def test_a_net_for_inference_stays() -> None:
    text = 'layer { name: "d" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 } } }\n'
    assert deploy(upgrade(parse_text(text + IP % ("ip", "ip"))), State("test")) is None


def test_nothing_without_labels_is_told() -> None:
    with pytest.raises(ExportError, match="nothing is left of this net without labels"):
        deploy(upgrade(parse_text(DATA)), State("test"), shapes=SHAPES)
