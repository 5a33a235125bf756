"""Data layers: inputs of the net, with shapes as far as their definition tells them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import torrefy
from torrefy.errors import DefinitionError, TorrefyError
from torrefy.graph import State
from torrefy.net.compile import Built, diagnose
from torrefy.net.net import compile_net
from torrefy.schema import Definition, parse_text, upgrade

CONV = """layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


def data(kind: str, params: str, tops: tuple[str, ...] = ("data", "label")) -> str:
    named = " ".join(f'top: "{top}"' for top in tops)
    return f'layer {{ name: "data" type: "{kind}" {named} {params} }}\n'


def definition_of(text: str) -> Definition:
    return upgrade(parse_text(text, file="net.prototxt"))


def built(text: str, phase: str = "train", **given: Any) -> Built:
    return diagnose(definition_of(text), State(phase), **given)[1]


def test_how_many_components_there_are_only_the_statistics_tell() -> None:
    params = (
        "data_param { batch_size: 2 } transform_param { crop_size: 9 force_color: true "
        'statistics: "s" normalise: %s }'
    )
    found = built(data("Data", params % "PCA"))
    assert [str(problem) for problem in found.missing] == [
        'net.prototxt:1:1: layer "data": the shape of "data" is known only from the data (batch '
        '2, 1x1). Give it as --shape data=2xKx1x1, or shapes={"data": (2, K, 1, 1)}.'
    ]
    assert built(data("Data", params % "ZCA")).shapes["data"] == (2, 3, 9, 9)


@pytest.mark.parametrize(
    ("kind", "params", "shape"),
    [
        ("Data", 'data_param { batch_size: 64 } transform_param { crop_size: 9 force_color: true }',
         (64, 3, 9, 9)),
        ("Data", 'data_param { batch_size: 64 } transform_param { crop_size: 9 force_gray: true }',
         (64, 1, 9, 9)),
        ("Data", "data_param { batch_size: 2 force_encoded_color: true } "
         "transform_param { crop_size: 9 }", (2, 3, 9, 9)),
        ("Data", 'data_param { batch_size: 2 } transform_param { crop_size: 9 '
         "mean_value: 1 mean_value: 2 }", (2, 2, 9, 9)),
        ("ImageData", "image_data_param { new_height: 8 new_width: 9 }", (1, 3, 8, 9)),
        ("ImageData", "image_data_param { batch_size: 5 new_height: 8 new_width: 9 "
         "is_color: false } transform_param { crop_size: 7 }", (5, 1, 7, 7)),
        ("WindowData", "window_data_param { batch_size: 6 } transform_param { crop_size: 7 }",
         (6, 3, 7, 7)),
        ("MemoryData", "memory_data_param { batch_size: 1 channels: 2 height: 8 width: 9 }",
         (1, 2, 8, 9)),
    ],
)  # fmt: skip
def test_a_definition_that_tells_the_shape_is_enough(
    kind: str, params: str, shape: tuple[int, ...]
) -> None:
    found = built(data(kind, params) + CONV)
    assert (found.problems, found.missing) == ([], [])
    assert found.shapes["data"] == shape
    assert found.shapes["label"] == shape[:1]


def test_the_fields_of_older_days_are_read_where_caffe_reads_them() -> None:
    v1 = 'layers { name: "d" type: DATA top: "data" data_param { batch_size: 2 crop_size: 9 } }'
    v2 = data("Data", "data_param { batch_size: 2 crop_size: 9 }", ("data",))
    assert "batch 2, 9x9" in str(built(v1).missing[0])
    assert "(batch 2)" in str(built(v2).missing[0])  # and Caffe ignores crop_size


@pytest.mark.parametrize(
    ("kind", "params", "told", "hint"),
    [
        ("Data", "data_param { batch_size: 64 } transform_param { mean_value: 1 mean_value: 2 "
         "mean_value: 3 }", "batch 64, 3 channels",
         "64x3xHxW, or shapes={\"data\": (64, 3, H, W)}"),
        ("Data", "data_param { batch_size: 64 } transform_param { crop_size: 227 }",
         "batch 64, 227x227", "64xCx227x227, or shapes={\"data\": (64, C, 227, 227)}"),
        ("ImageData", "image_data_param { is_color: false }", "batch 1, 1 channel",
         "1x1xHxW, or shapes={\"data\": (1, 1, H, W)}"),
        ("HDF5Data", "hdf5_data_param { batch_size: 8 }", "batch 8",
         "8x..., or shapes={\"data\": (8, ...)}"),
    ],
)  # fmt: skip
def test_what_only_the_data_tell_is_noted_once(
    kind: str, params: str, told: str, hint: str
) -> None:
    text = data(kind, params, ("data",) if kind == "HDF5Data" else ("data", "label"))
    found = built("# a\n" + text + CONV.replace("label", "data"))
    assert found.problems == []
    assert [str(p) for p in found.missing] == [
        f'net.prototxt:2:1: layer "data": the shape of "data" is known only from the data '
        f"({told}). Give it as --shape data={hint}."
    ]
    assert found.shapes.keys() <= {"label"}


def test_a_batch_that_is_not_told_is_to_be_given_too() -> None:
    found = built(data("Data", ""))
    assert [p.hint.split(",")[0] for p in found.missing] == [
        "Give it as --shape data=NxCxHxW", "Give it as --shape label=N",
    ]  # fmt: skip
    assert found.missing[1].message == 'the shape of "label" is known only from the data'
    assert found.missing[1].hint.endswith('shapes={"label": (N,)}.')


@pytest.mark.parametrize(
    ("kind", "params", "message"),
    [
        ("ImageData", "image_data_param { new_width: 8 }",
         'net.prototxt:1:95: layer "data": new_width is given without new_height. '
         "Give both or neither."),
        ("WindowData", "window_data_param { batch_size: 8 crop_size: 9 }",
         'net.prototxt:1:1: layer "data": crop_size is missing. '
         "Give transform_param { crop_size: … }."),
        ("MemoryData", "memory_data_param { batch_size: 8 channels: 3 height: 9 }",
         'net.prototxt:1:66: layer "data": width is missing. Give memory_data_param { width: … }.'),
        ("Data", "data_param { batch_size: 0 }",
         'net.prototxt:1:85: layer "data": batch_size must be above 0, found 0'),
        ("Data", "data_param { batch_size: 4000000 } transform_param { crop_size: 227 "
         "force_color: true }",
         'net.prototxt:1:1: layer "data": "data" would have 618,348,000,000 elements; a blob holds '
         "fewer than 2,147,483,648"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_data_layer_is_told(kind: str, params: str, message: str) -> None:
    assert [str(p) for p in built(data(kind, params)).problems] == [message]


TRAIN = data("Data", "data_param { batch_size: 4 }") + CONV


def test_a_net_with_data_layers_is_fed_by_their_tops() -> None:
    net = compile_net(definition_of(TRAIN), State("train"), shapes={"data": (4, 3, 8, 8)}, seed=0)
    assert net.inputs == {"data": (4, 3, 8, 8), "label": (4,)}
    loss = net(data=torch.randn(6, 3, 8, 8), label=torch.ones(6))["loss"]
    loss.backward()
    assert net.params["conv"][0].grad is not None
    with pytest.raises(TorrefyError, match=r'the input "label" \(4\) is missing'):
        net(data=torch.randn(6, 3, 8, 8))
    assert net.run({"data": torch.zeros(1, 3, 8, 8)}, ["ip"])["ip"].shape == (1, 2)


def test_a_net_does_not_compile_until_its_shapes_are_given() -> None:
    with pytest.raises(DefinitionError) as error:
        torrefy.load_net(definition_of(TRAIN), phase="train")
    assert str(error.value) == (
        'net.prototxt:1:1: layer "data": the shape of "data" is known only from the data '
        '(batch 4). Give it as --shape data=4xCxHxW, or shapes={"data": (4, C, H, W)}.'
    )
    net = torrefy.load_net(definition_of(TRAIN), phase="train", shapes={"data": [4, 1, 5, 5]})
    assert net.shapes["conv"] == (4, 4, 3, 3)


INPUT = """layer { name: "in" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } shape { dim: 1 } } }
"""


def test_a_shape_that_is_given_goes_over_an_inputs_own() -> None:
    net = torrefy.load_net(definition_of(INPUT + CONV), shapes={"data": (1, 3, 20, 10)})
    assert net.inputs == {"data": (1, 3, 20, 10), "label": (1,)}
    assert net.shapes["conv"] == (1, 4, 18, 8)
    again = torrefy.load_net(parse_text(net.to_prototxt()))
    assert again.inputs == net.inputs


def test_an_input_without_shapes_takes_those_that_are_given() -> None:
    bare = definition_of('layer { name: "in" type: "Input" top: "data" top: "label" }\n' + CONV)
    net = torrefy.load_net(bare, shapes={"data": (1, 3, 5, 5), "label": (1,)})
    assert net.inputs == {"data": (1, 3, 5, 5), "label": (1,)}
    with pytest.raises(DefinitionError, match="the input has no shape"):
        torrefy.load_net(bare, shapes={"data": (1, 3, 5, 5)})


def test_a_shape_for_what_is_no_input_is_refused() -> None:
    with pytest.raises(DefinitionError) as error:
        torrefy.load_net(definition_of(INPUT + CONV), shapes={"dta": (1, 3, 5, 5), "conv": (1,)})
    assert [str(p) for p in error.value.problems] == [
        'net.prototxt: a shape is given for "dta", which is no input of the net. '
        'Did you mean "data"?',
        'net.prototxt: a shape is given for "conv", which is no input of the net. '
        "Its inputs are data, label.",
    ]
    with pytest.raises(TorrefyError, match="must be whole numbers, 0 or more; found "):
        torrefy.load_net(definition_of(INPUT + CONV), shapes={"data": (1, -3)})


def test_a_layer_that_writes_data_takes_two_bottoms_and_does_nothing() -> None:
    out = 'layer { name: "out" type: "HDF5Output" bottom: "data" bottom: "label" }\n'
    net = torrefy.load_net(definition_of(INPUT + out))
    assert net.layers["out"](torch.zeros(1), torch.zeros(1)) == ()
    assert list(net(data=torch.zeros(1, 3, 8, 8), label=torch.zeros(1))) == []
    wrong = INPUT.replace("shape { dim: 1 }", "shape { dim: 2 }")
    assert "differ in their first axis" in str(built(wrong + out).problems[0])
