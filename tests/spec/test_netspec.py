"""Definitions from Python, as pycaffe's users write them."""

from __future__ import annotations

import inspect
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import torrefy
from torrefy.errors import TorrefyError
from torrefy.schema import parse_text
from torrefy.spec import L, NetSpec, P, to_proto


def lenet() -> NetSpec:
    n = NetSpec("LeNet")
    n.data = L.Input(shape={"dim": [2, 1, 28, 28]})
    n.conv1 = L.Convolution(
        n.data, kernel_size=5, num_output=np.int64(4), weight_filler={"type": "xavier"},
        param=[{"lr_mult": 1}, {"lr_mult": 2}],
    )  # fmt: skip
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.pool1 = L.Pooling(n.relu1, kernel_size=2, stride=2, pool=P.Pooling.AVE)
    n.prob = L.Softmax(L.InnerProduct(n.pool1, num_output=10))
    return n


TEXT = """name: "LeNet"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 1 dim: 28 dim: 28 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param { lr_mult: 1 }
  param { lr_mult: 2 } convolution_param { num_output: 4 kernel_size: 5
    weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "InnerProduct1" type: "InnerProduct" bottom: "pool1" top: "InnerProduct1"
  inner_product_param { num_output: 10 } }
layer { name: "prob" type: "Softmax" bottom: "InnerProduct1" top: "prob" }
"""


def test_a_spec_is_the_definition_that_one_would_write() -> None:
    assert lenet().to_proto() == parse_text(TEXT).message


def test_a_spec_compiles() -> None:
    net = torrefy.load_net(lenet().to_proto())
    assert net(data=torch.zeros(3, 1, 28, 28))["prob"].shape == (3, 10)


def test_a_spec_is_no_definition_yet() -> None:
    with pytest.raises(TorrefyError) as error:
        torrefy.load_net(lenet())  # type: ignore[arg-type]
    assert str(error.value) == (
        "a definition is a path or a NetParameter, found NetSpec. Give its to_proto()."
    )


def test_several_tops_no_tops_and_layer_fields() -> None:
    n = NetSpec()
    n.data, n.label = L.Input(ntop=2, shape=[{"dim": [2, 4]}, {"dim": 2}])
    n.a, n.b = L.Slice(n.data, ntop=2, slice_point=1)
    n.quiet = L.Silence(n.a, n.label, ntop=0, include={"phase": P.Phase.TRAIN, "stage": "s"})
    n["c"] = L.Eltwise(n.b, n.b, operation="MAX", name="most")
    assert (
        n.to_proto()
        == parse_text("""
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 2 dim: 4 } shape { dim: 2 } } }
layer { name: "a" type: "Slice" bottom: "data" top: "a" top: "b" slice_param { slice_point: 1 } }
layer { name: "quiet" type: "Silence" bottom: "a" bottom: "label"
  include { phase: TRAIN stage: "s" } }
layer { name: "most" type: "Eltwise" bottom: "b" bottom: "b" top: "c"
  eltwise_param { operation: MAX } }
""").message
    )


def test_numpy_gives_numbers_lists_and_messages() -> None:
    n = NetSpec()
    n.data = L.Input(shape={"dim": np.array([2, 3])})
    n.out = L.Eltwise(n.data, n.data, coeff=np.array([0.5, 2]), loss_weight=np.float32(3))
    data, out = n.to_proto().layer
    assert list(data.input_param.shape[0].dim) == [2, 3]
    assert (list(out.eltwise_param.coeff), list(out.loss_weight)) == ([0.5, 2], [3])


def test_what_was_never_named_gets_numbers_that_are_free() -> None:
    n = NetSpec()
    n["ReLU1"] = data = L.Input(shape={"dim": 1})
    n.out = L.ReLU(L.ReLU(L.ReLU(data)))
    assert [layer.name for layer in n.to_proto().layer] == ["ReLU1", "ReLU2", "ReLU3", "out"]
    message = to_proto(L.Silence(*L.Slice(data, ntop=2), ntop=0))
    assert [(layer.name, list(layer.top)) for layer in message.layer] == [
        ("Input1", ["Input1"]), ("Slice1", ["Slice1_0", "Slice1_1"]), ("Silence1", []),
    ]  # fmt: skip


def test_a_layer_in_place_hands_on_its_bottoms_blob() -> None:
    n = NetSpec()
    n.data = L.Input(shape={"dim": 1})
    n.relu = L.ReLU(L.Dropout(n.data, in_place=True), in_place=True)
    n.out = L.Power(n.relu)
    assert [(x.name, list(x.bottom), list(x.top)) for x in n.to_proto().layer] == [
        ("data", [], ["data"]), ("Dropout1", ["data"], ["data"]), ("relu", ["data"], ["data"]),
        ("out", ["data"], ["out"]),
    ]  # fmt: skip


def test_a_deep_net_and_a_wide_one_are_written() -> None:
    top = L.Input(shape={"dim": 1})
    for _ in range(2000):
        top = L.ReLU(top)
    message = to_proto(L.Concat(*[top] * 500))
    assert len(message.layer) == 2002
    assert len(message.layer[-1].bottom) == 500


def test_a_spec_is_begun_without_torch() -> None:
    code = "import sys, torrefy; torrefy.NetSpec(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_layers_stand_after_what_they_need() -> None:
    n = NetSpec()
    data = L.Input(shape={"dim": 1})
    n.out = L.ReLU(L.Power(data, power=2))
    n.data = data
    assert [layer.name for layer in n.to_proto().layer] == ["data", "Power1", "out"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: L.Poolin(d, pad=1),
         'there is no layer type "Poolin". Did you mean "Pooling"?'),
        (lambda d: L.Convolution(d, num_outputs=3),
         'L.Convolution has no parameter num_outputs. Did you mean "num_output"?'),
        (lambda d: L.Convolution(d, weight_filler={"typ": "xavier"}),
         'L.Convolution.weight_filler has no field typ. Did you mean "type"?'),
        (lambda d: L.Pooling(d, pool="AVG"),
         'L.Pooling.pool takes one of MAX, AVE, STOCHASTIC; found AVG. Did you mean "AVE"?'),
        (lambda d: L.ReLU("data"),
         "L.ReLU: a bottom must be one top of a layer, found str"),
        (lambda d: L.ReLU(L.Slice(d, ntop=2)),
         "L.ReLU: a bottom must be one top of a layer, found several tops"),
        (lambda d: L.Eltwise(d, d, in_place=True),
         "L.Eltwise: in_place takes one bottom and one top"),
        (lambda d: L.Convolution(d, weight_filler="xavier"),
         "L.Convolution.weight_filler takes a dict of its fields, found 'xavier'"),
        (lambda d: setattr(NetSpec(), "x", 3), "x must be a top of a layer, found 3"),
        (lambda d: P.Poolin, 'P has no Poolin. Did you mean "Pooling"?'),
    ],
)  # fmt: skip
def test_slips_are_told_in_words(make: object, message: str) -> None:
    with pytest.raises(TorrefyError) as error:
        make(L.Input(shape={"dim": 1}))  # type: ignore[operator]
    assert str(error.value) == message


def test_a_wrong_type_is_told() -> None:
    with pytest.raises(TorrefyError, match=r"L\.Dropout\.dropout_ratio can't be 'half': "):
        L.Dropout(L.Input(shape={"dim": 1}), dropout_ratio="half")


def test_help_shows_formula_and_parameters() -> None:
    assert (L.Pooling.__doc__ or "").startswith("One number for each window")
    parameters = inspect.signature(L.Pooling).parameters
    assert parameters["stride"].default == 1
    assert "Convolution" in dir(L)
    assert {"MAX", "AVE", "STOCHASTIC"} <= set(dir(P.Pooling))
    assert {"Phase", "Pooling", "Filler", "ParamSpec"} <= set(dir(P))
    assert not hasattr(L, "_repr_html_")


def test_names_that_are_not_there_are_told_with_their_neighbours() -> None:
    n = NetSpec()
    n.conv1 = L.Input(shape={"dim": 1})
    with pytest.raises(AttributeError, match=r'^the spec has no top conv. Did you mean "conv1"\?$'):
        _ = n.conv
    with pytest.raises(AttributeError, match=r'^P.Pooling has no AVG. Did you mean "AVE"\?$'):
        _ = P.Pooling.AVG
    assert "conv1" in dir(n)


@pytest.mark.usefixtures("bare")
def test_what_editors_know_is_in_step() -> None:
    root = Path(__file__).parents[2]
    made = runpy.run_path(str(root / "docs/make_stubs.py"))
    assert made["TARGET"].read_text() == made["stub"]()
