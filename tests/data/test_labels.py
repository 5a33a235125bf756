"""Which labels a net takes."""

from __future__ import annotations

from torrefy import load_net
from torrefy.data.labels import LabelLimit, label_limits
from torrefy.schema import parse_text

NET = """
layer { name: "d" type: "Data" top: "data" top: "label" data_param { batch_size: 2 } }
layer { name: "a" type: "InnerProduct" bottom: "data" top: "a"
  inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
layer { name: "b" type: "InnerProduct" bottom: "data" top: "b"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "a" bottom: "label" top: "loss" }
layer { name: "acc" type: "Accuracy" bottom: "b" bottom: "label" top: "acc"
  accuracy_param { ignore_label: 255 } }
"""


def test_the_fewest_classes_of_all_that_read_a_label_count() -> None:
    net = load_net(parse_text(NET), shapes={"data": (2, 3)}, phase="train")
    assert label_limits(net) == {"label": LabelLimit(5, 255)}


def test_a_net_without_labels_has_no_limits() -> None:
    net = load_net(parse_text(NET[: NET.index('layer { name: "loss"')]), shapes={"data": (2, 3)})
    assert label_limits(net) == {}
