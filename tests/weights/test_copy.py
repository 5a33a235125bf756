"""Weights into a net by layer name: what fits, what doesn't, and what is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.conftest import LENET

from torrefy.errors import WeightsError
from torrefy.graph import State
from torrefy.net.net import Net, compile_net
from torrefy.net.stored import StoredLayer, StoredNet
from torrefy.schema import parse_text
from torrefy.weights.copy import copy_weights


@pytest.fixture
def net() -> Net:
    return compile_net(parse_text(LENET), State(), seed=0)


def stored(**layers: tuple[tuple[int, ...], ...]) -> StoredNet:
    """A file with blobs of these shapes, filled with ones."""
    return StoredNet(
        "net",
        tuple(
            StoredLayer(name, "", tuple(np.ones(shape, np.float32) for shape in shapes))
            for name, shapes in layers.items()
        ),
        "w.caffemodel",
    )


CONV, IP = ((4, 1, 5, 5), (4,)), ((10, 576), (10,))


def told(net: Net, file: StoredNet, *fresh: str) -> list[str]:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(WeightsError) as error:
        copy_weights(net, file, fresh)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    return [str(problem) for problem in error.value.problems]


def test_what_matched_and_what_did_not_is_reported(net: Net) -> None:
    report = copy_weights(net, stored(conv1=CONV, aux=((3,),), ip1=IP, relu1=()))
    assert report.copied == ("conv1", "ip1")
    assert report.fresh == ()
    assert report.ignored == ("aux",)
    assert str(report) == "2 layers got their weights, 1 in the file are not in the net (aux)"
    assert all(bool((p == 1).all()) for p in net.parameters())


def test_shapes_of_old_files_fit(net: Net) -> None:
    old = stored(conv1=((4, 1, 5, 5), (1, 1, 1, 4)), ip1=((1, 1, 10, 576), (1, 1, 1, 10)))
    assert copy_weights(net, old).copied == ("conv1", "ip1")


def test_half_and_double_precision_are_taken(net: Net) -> None:
    layers = [
        StoredLayer("conv1", "", tuple(np.full(s, 0.5, np.float64) for s in CONV)),
        StoredLayer("ip1", "", tuple(np.full(s, 0.5, np.float16) for s in IP)),
    ]
    copy_weights(net, StoredNet("n", tuple(layers)))
    assert all(bool((p == 0.5).all()) for p in net.parameters())


def test_another_shape_is_refused_with_both(net: Net) -> None:
    assert told(net, stored(conv1=CONV, ip1=((20, 576), (20,)))) == [
        'w.caffemodel: layer "ip1": blob 0 is 20x576 in the file, 10x576 in the net. '
        "To learn the layer anew, give it another name."
    ]


def test_another_number_of_blobs_is_refused(net: Net) -> None:
    assert told(net, stored(conv1=((4, 1, 5, 5),), ip1=IP)) == [
        'w.caffemodel: layer "conv1": the file has 1 blobs (4x1x5x5), the layer takes 2 '
        "(4x1x5x5, 4). Is bias_term, or the layer's type, another one?"
    ]


def test_a_layer_that_gets_nothing_is_refused_unless_it_is_named(net: Net) -> None:
    file = stored(conv1=CONV, ip_1=IP)
    assert told(net, file) == [
        'w.caffemodel: the file has nothing for 1 of the net\'s layers: ip1. Did you mean "ip_1"?'
    ]
    assert copy_weights(net, file, fresh=["ip*"]).fresh == ("ip1",)


def test_a_file_of_another_net_is_told(net: Net) -> None:
    assert told(net, stored(fc6=IP, fc7=IP)) == [
        "w.caffemodel: the file has nothing for 2 of the net's layers: conv1, ip1. "
        "The file has fc6, fc7. Do definition and weights belong together?"
    ]


def test_a_file_without_weights_is_told(net: Net) -> None:
    assert told(net, stored(conv1=())) == [
        "w.caffemodel: the file has nothing for 2 of the net's layers: conv1, ip1. "
        "The file has no weights at all. Do definition and weights belong together?"
    ]
