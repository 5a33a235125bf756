"""The layers and the plugin, held to what Torrefy's own are held to."""

import math

import acme_layers
import pytest
import torch
from acme_layers.layers import Snake

import torrefy
from torrefy.schema import parse_text
from torrefy.testing import check_layer, check_plugin, isolated_plugin

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "snake" type: "Snake" bottom: "data" top: "snake" snake_param { a: %s } }
"""


@pytest.fixture(autouse=True)
def plugin():
    """The plugin without any other, installed or not."""
    with isolated_plugin(acme_layers, "acme-layers") as plugin:
        yield plugin


def test_snake_is_sound():
    check_layer(Snake, bottoms=[(2, 3, 4)], params="snake_param { a: 2 }")


def test_snake_computes_what_the_paper_says():
    net = torrefy.load_net(parse_text(NET % "2"))
    x = torch.tensor([[0, math.pi / 4, math.pi / 2]])
    expected = torch.tensor([[0, math.pi / 4 + 0.5, math.pi / 2]])
    torch.testing.assert_close(net(data=x)["snake"], expected)


def test_a_frequency_of_0_is_refused():
    with pytest.raises(torrefy.TorrefyError, match="a must be above 0, found 0"):
        torrefy.load_net(parse_text(NET % "0"))


def test_the_plugin_keeps_the_rules(plugin):
    assert check_plugin(plugin.name) == []
