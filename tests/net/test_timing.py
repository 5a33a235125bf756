"""What is measured of a net's time: every layer's part, and numbers that others have published."""

from __future__ import annotations

import math

import pytest
import torch
from benchmarks.nets import resnet_prototxt

from torrefy.data.noise import random_inputs, stir
from torrefy.errors import TorrefyError
from torrefy.graph import State
from torrefy.net.compile import diagnose
from torrefy.net.net import Net, compile_net
from torrefy.net.timing import LayerTime, Timing, time_net
from torrefy.schema import parse_text, upgrade

NET = """
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 4 dim: 3 dim: 8 dim: 8 } shape { dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 6 kernel_size: 3 group: 3 bias_term: false } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "a" type: "InnerProduct" bottom: "conv" top: "a" param { name: "w" } param { name: "b" }
  inner_product_param { num_output: 5 } }
layer { name: "b" type: "InnerProduct" bottom: "conv" top: "b" param { name: "w" } param { name: "b" }
  inner_product_param { num_output: 5 } }
layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "sum" bottom: "label" top: "loss" }
"""  # noqa: E501


def timed(phase: str, text: str = NET, **options: bool) -> tuple[Net, Timing, dict[str, LayerTime]]:
    net = compile_net(upgrade(parse_text(text)), State(phase), seed=0)
    stir(net)
    timing = time_net(net, random_inputs(net), iterations=2, **options)
    return net, timing, {layer.name: layer for layer in timing.layers}


def test_every_layer_that_is_run_has_its_times() -> None:
    _, timing, layers = timed("train")
    assert list(layers) == ["data", "conv", "bn", "scale", "relu", "a", "b", "sum", "loss"]
    for name, layer in layers.items():
        run = name not in {"data", "scale"}
        assert (layer.forward_ms is not None) == (layer.backward_ms is not None) == run, name
        assert not run or (layer.forward_ms or 0) > 0, name
    assert timing.slowest in timing.layers
    assert math.isclose(timing.layers_forward_ms, sum(x.forward_ms or 0 for x in timing.layers))
    assert timing.backward_ms is not None and timing.forward_backward_ms is not None
    assert timing.forward_backward_ms >= timing.backward_ms > 0 < timing.forward_ms
    assert (timing.iterations, timing.warm_up, timing.peak_bytes) == (2, 2, None)


def test_a_scale_that_a_batch_norm_takes_in_is_told_to_be_part_of_it() -> None:
    _, _, layers = timed("test")
    assert {name: layer.part_of for name, layer in layers.items() if layer.part_of} == {
        "scale": "bn"
    }
    read_twice = NET.replace('bottom: "data" top: "conv"', 'bottom: "data" top: "c"').replace(
        'layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }',
        'layer { name: "bn" type: "BatchNorm" bottom: "c" top: "n" }\n'
        'layer { name: "tanh" type: "TanH" bottom: "n" top: "tanh" }',
    ).replace('type: "Scale" bottom: "conv"', 'type: "Scale" bottom: "n"')  # fmt: skip
    layers = timed("test", read_twice)[2]
    assert (layers["scale"].part_of, layers["scale"].forward_ms is None) == ("", False)


def test_memory_counts_where_a_layer_takes_its_own() -> None:
    blob = 4 * 6 * 6 * 6 * 4
    _, timing, layers = timed("test")
    found = {name: layer.activation_bytes for name, layer in layers.items()}
    assert (found["data"], found["conv"], found["bn"], found["scale"], found["relu"]) == (
        4 * 3 * 8 * 8 * 4 + 4 * 4, blob, blob, 0, 0
    )  # fmt: skip
    assert timing.activation_bytes == sum(found.values())
    sigmoid = NET.replace('type: "ReLU"', 'type: "Sigmoid"')
    assert timed("train", sigmoid)[2]["relu"].activation_bytes == blob  # it works on the side


def test_a_shared_param_counts_once_and_multiply_adds_are_of_the_shapes_that_are_given() -> None:
    net, _, layers = timed("test")
    counts = {name: layer.parameters for name, layer in layers.items() if layer.parameters}
    assert counts == {"conv": 54, "scale": 12, "a": 1085}
    assert layers["conv"].multiply_adds == 4 * 6 * 36 * 9
    assert layers["a"].multiply_adds == layers["b"].multiply_adds == 4 * 5 * 216
    twice = {name: torch.cat([x, x]) for name, x in random_inputs(net).items()}
    layer = time_net(net, twice, iterations=1, backward=False).layers[1]
    assert (layer.multiply_adds, layer.shapes) == (8 * 6 * 36 * 9, ((8, 6, 6, 6),))


def test_nothing_goes_backward_where_nothing_is_learned_or_it_is_not_asked_for() -> None:
    frozen = NET.replace("convolution_param", "param { lr_mult: 0 } convolution_param")
    assert timed("train", frozen)[2]["conv"].backward_ms is None
    assert timed("train", frozen)[2]["relu"].backward_ms is not None  # the Scale learns
    _, timing, layers = timed("train", backward=False)
    assert timing.backward_ms is None and timing.forward_backward_ms is None
    assert {layer.backward_ms for layer in layers.values()} == {None}
    nothing = NET.split('layer { name: "conv"', maxsplit=1)[0]
    nothing += 'layer { name: "relu" type: "ReLU" bottom: "data" top: "relu" }'
    assert timed("test", nothing)[1].backward_ms is None


def test_a_net_is_after_it_what_it_was_before() -> None:
    net = compile_net(upgrade(parse_text(NET)), State("train"), seed=0)
    stir(net)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    time_net(net, random_inputs(net), iterations=1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(param.grad is None for param in net.parameters())


def test_layers_that_carry_a_state_are_measured_each_time_from_its_beginning() -> None:
    text = """
    layer { name: "data" type: "Input" top: "x" top: "cont"
      input_param { shape { dim: 3 dim: 2 dim: 4 } shape { dim: 3 dim: 2 } } }
    layer { name: "lstm" type: "LSTM" bottom: "x" bottom: "cont" top: "h"
      recurrent_param { num_output: 5 } }
    """
    _, timing, layers = timed("train", text)
    assert (layers["lstm"].backward_ms or 0) > 0 < (timing.backward_ms or 0)


def test_labels_that_are_made_up_are_right_ones() -> None:
    net = compile_net(upgrade(parse_text(NET)), State("train"), seed=0)
    label = random_inputs(net)["label"]
    assert label.shape == (4,) and set(label.tolist()) <= {0, 1, 2, 3, 4}


def test_weights_that_no_filler_makes_are_stirred_and_others_are_kept() -> None:
    text = NET.replace("bias_term: false", 'bias_term: false weight_filler { type: "xavier" }')
    net = compile_net(upgrade(parse_text(text)), State("test"), seed=0)
    conv, inner = net.params["conv"][0].clone(), net.params["a"][0]
    assert not inner.any()
    stir(net)
    assert torch.equal(net.params["conv"][0], conv)
    assert inner.all() and 0.5 < inner.std() * math.sqrt(216) < 2
    assert [blob.unique().tolist() for blob in net.params["bn"]] == [[1], [1], [1]]


def test_no_iterations_are_refused() -> None:
    net = compile_net(upgrade(parse_text(NET)), State("test"), seed=0)
    with pytest.raises(TorrefyError) as error:
        time_net(net, random_inputs(net), iterations=0)
    assert str(error.value) == "iterations must be 1 or more, found 0"


def multiply_adds(text: str) -> int:
    graph, built = diagnose(upgrade(parse_text(text)), State())
    assert not built.problems
    return sum(
        built.layers[node.key].multiply_adds(
            [built.shapes[b] for b in node.bottoms], [built.shapes[t] for t in node.tops]
        )
        for node in graph.nodes
    )


def convolutions(size: int, *rows: tuple[int, ...] | str | int) -> str:
    """A net of convolutions (outputs, kernel, stride, pad, group), pools "p" and inner products."""
    text = f'layer {{ name: "0" type: "Input" top: "0" input_param {{ shape {{ dim: 1 dim: 3 dim: {size} dim: {size} }} }} }}'  # noqa: E501
    for i, row in enumerate(rows):
        if isinstance(row, tuple):
            out, kernel, stride, pad, group = row
            kind = "Convolution"
            params = (
                f"convolution_param {{ num_output: {out} kernel_size: {kernel} stride: {stride} "
                f"pad: {pad} group: {group} }}"
            )
        elif isinstance(row, int):
            kind, params = "InnerProduct", f"inner_product_param {{ num_output: {row} }}"
        else:
            size = int(row[1:])
            kind, params = "Pooling", f"pooling_param {{ kernel_size: {size} stride: 2 }}"
        text += (
            f'\nlayer {{ name: "{i + 1}" type: "{kind}" bottom: "{i}" top: "{i + 1}" {params} }}'
        )
    return text


@pytest.mark.parametrize(
    ("text", "giga"),
    [
        (  # AlexNet with its groups (Krizhevsky et al. 2012), CaffeNet's size of picture
            convolutions(
                227, (96, 11, 4, 0, 1), "p3", (256, 5, 1, 2, 2), "p3", (384, 3, 1, 1, 1),
                (384, 3, 1, 1, 2), (256, 3, 1, 1, 2), "p3", 4096, 4096, 1000,
            ),
            0.72,
        ),
        (  # VGG's net D (Simonyan and Zisserman 2014, table 1)
            convolutions(
                224,
                *(
                    row
                    for out, times in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
                    for row in (*[(out, 3, 1, 1, 1)] * times, "p2")
                ),
                4096, 4096, 1000,
            ),
            15.5,
        ),
        (resnet_prototxt(50), 3.86),  # "3.8 · 10⁹" (He et al. 2015, table 1)
    ],
    ids=["alexnet", "vgg16", "resnet50"],
)  # fmt: skip
def test_multiply_adds_are_those_that_are_published(text: str, giga: float) -> None:
    assert multiply_adds(text) / 1e9 == pytest.approx(giga, rel=0.01)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu_times_are_the_devices_own_and_memory_is_told() -> None:
    net = compile_net(upgrade(parse_text(NET)), State("train"), "cuda", seed=0)
    timing = time_net(net, random_inputs(net), iterations=3)
    assert timing.forward_ms > 0 < (timing.backward_ms or 0)
    assert (timing.peak_bytes or 0) >= timing.activation_bytes
