"""What counts in a net's loss, and where gradients go."""

from __future__ import annotations

import pytest
import torch

from torrefy.errors import DefinitionError, TorrefyError
from torrefy.graph import State
from torrefy.net.net import Net, compile_net
from torrefy.schema import parse_text

INPUTS = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 2 dim: 3 } } }
"""
IP = """layer { name: "%s" type: "InnerProduct" bottom: "%s" top: "%s" %s
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
"""
LOSS = """layer { name: "loss" type: "EuclideanLoss" bottom: "%s" bottom: "t" top: "loss" %s }
"""
X, T = torch.randn(2, 3), torch.randn(2, 3)


def net_of(text: str, phase: str = "train") -> Net:
    return compile_net(parse_text(text, file="net.prototxt"), State(phase), seed=0)


def test_the_loss_is_the_weighted_sum_of_all_that_counts() -> None:
    decay = 'layer { name: "r" type: "Power" bottom: "a" top: "r" loss_weight: 0.5 }'
    net = net_of(INPUTS + IP % ("a", "x", "a", "") + LOSS % ("a", "loss_weight: 2") + decay)
    assert net.loss_weights == {"loss": 2.0, "r": 0.5}
    tops = net(x=X, t=T)
    torch.testing.assert_close(net.loss(tops), 2 * tops["loss"] + 0.5 * tops["r"].sum())


def test_a_blob_that_counts_is_returned_in_train_although_a_layer_reads_it() -> None:
    text = INPUTS + LOSS % ("x", "")
    text += 'layer { name: "twice" type: "Power" bottom: "loss" top: "twice" }'
    net = net_of(text)
    assert list(net.outputs) == list(net(x=X, t=T)) == ["twice", "loss"]
    assert list(net.run({"x": X, "t": T})) == ["twice", "loss"]
    torch.testing.assert_close(net.loss(net(x=X, t=T)), net(x=X, t=T)["loss"])
    test = net_of(text, "test")
    assert list(test.outputs) == ["twice"]
    with pytest.raises(TorrefyError) as error:
        test.loss(test(x=X, t=T))
    assert str(error.value) == (
        'the blob "loss" counts in the loss, but is missing. A net compiled for phase train '
        "returns all that count."
    )


def test_a_net_in_which_nothing_counts_has_a_loss_of_0() -> None:
    net = net_of(INPUTS + LOSS % ("x", "loss_weight: 0"))
    assert net.loss_weights == {}
    assert net.loss(net(x=X, t=T)).item() == 0


def test_loss_weights_and_propagate_down_are_one_for_each_or_none() -> None:
    for field, of in (("loss_weight", "1 top"), ("propagate_down", "2 bottoms")):
        given = f"{field}: 1 {field}: 1 {field}: 0"
        with pytest.raises(DefinitionError) as error:
            net_of(INPUTS + LOSS % ("x", given))
        assert str(error.value).endswith(
            f'layer "loss": 3 {field} for {of}: give one for each, or none'
        )
        assert str(error.value).startswith(f"net.prototxt:4:{82 + len(field)}: ")


def two_layers(more: str = "", state: str = "train", before: str = "") -> Net:
    text = before + INPUTS + IP % ("a", "x", "a", "") + IP % ("b", "a", "b", more)
    net = net_of(text + LOSS % ("b", ""), state)
    net.loss(net(x=X, t=T)).backward()
    return net


def learns(net: Net) -> list[bool]:
    return [net.params[name][0].grad is not None for name in "ab"]


def test_propagate_down_false_stops_the_gradient() -> None:
    assert learns(two_layers()) == [True, True]
    assert learns(two_layers("propagate_down: false")) == [False, True]
    forced = two_layers("propagate_down: false", before="force_backward: true")
    assert learns(forced) == [True, True]


def test_propagate_down_false_stops_the_gradient_between_batch_norm_and_scale() -> None:
    norm = 'layer { name: "n" type: "BatchNorm" bottom: "a" top: "n" }\n'
    norm += 'layer { name: "s" type: "Scale" bottom: "n" top: "s" propagate_down: false }\n'
    net = net_of(INPUTS + IP % ("a", "x", "a", "") + norm + LOSS % ("s", ""))
    net.loss(net(x=X, t=T)).backward()
    assert net.params["a"][0].grad is None
    assert net.params["s"][0].grad is not None


def test_a_param_with_an_lr_mult_of_0_gets_no_gradient_unless_it_is_forced() -> None:
    frozen = "param { lr_mult: 0 }"
    assert learns(two_layers(frozen)) == [True, False]
    assert two_layers(frozen).params["b"][1].grad is not None
    assert learns(two_layers(frozen, before="force_backward: true")) == [True, True]


def test_a_layer_may_be_called_loss() -> None:
    net = net_of(INPUTS + LOSS % ("x", ""))
    assert net.layers["loss"].type_name == "EuclideanLoss"
    assert callable(net.loss)
