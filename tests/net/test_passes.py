"""The passes that make a net smaller for inference: what each does, and that values stay."""

from __future__ import annotations

import pytest
import torch

from torrefy.graph import State
from torrefy.net.fold import PASSES, fold_and_tell
from torrefy.net.net import Net, compile_net
from torrefy.schema import parse_text

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { %s } } }\n'
MAPS = INPUT % "dim: 2 dim: 4 dim: 6 dim: 5"


def layer(kind: str, name: str, bottoms: str, top: str, params: str = "") -> str:
    ends = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
    return f'layer {{ name: "{name}" type: "{kind}" {ends} top: "{top}" {params} }}\n'


def conv(name: str, bottom: str, top: str, params: str = "kernel_size: 3") -> str:
    return layer(
        "Convolution", name, bottom, top, f"convolution_param {{ num_output: 4 {params} }}"
    )


def constant(name: str, value: float, shape: str) -> str:
    filler = f"dummy_data_param {{ data_filler {{ value: {value} }} shape {{ {shape} }} }}"
    return f'layer {{ name: "{name}" type: "DummyData" top: "{name}" {filler} }}\n'


def told(text: str, blobs: list[str] | None = None) -> dict[str, list[str]]:
    """What each pass says, after it is seen that the net's outputs are the same."""
    net = compile_net(parse_text(text), State("test"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            tensor.uniform_(0.5, 1.5, generator=generator)
    folded, results = fold_and_tell(net, blobs)
    agree(net, folded, blobs or list(net.outputs))
    return {
        each.name: [f"{one.layer}: {one.what}" for one in each.changes]
        for each in results if each.changes
    }  # fmt: skip


def agree(net: Net, folded: Net, blobs: list[str]) -> None:
    generator = torch.Generator().manual_seed(1)
    x = {n: torch.randn(*shape, generator=generator) for n, shape in net.inputs.items()}
    with torch.no_grad():
        expected = net.run(x, blobs)
        found = folded.run({n: v for n, v in x.items() if n in folded.inputs}, blobs)
    for blob in blobs:
        torch.testing.assert_close(found[blob], expected[blob], rtol=1e-4, atol=1e-4)


def test_a_run_behind_a_convolution_becomes_part_of_it_across_in_place_names() -> None:
    text = MAPS + conv("c", "data", "c") + layer("BatchNorm", "b", "c", "c")
    text += layer("Scale", "s", "c", "c", "scale_param { bias_term: true }")
    text += layer("Power", "p", "c", "p", "power_param { scale: 0.5 shift: 2 }")
    text += layer("ReLU", "r", "p", "r")
    assert told(text) == {
        "fold-behind": ["b: folded into c", "s: folded into c", "p: folded into c"]
    }


@pytest.mark.parametrize(
    "params", ["operation: SUM coeff: 0.5 coeff: 2", "operation: PROD", "operation: SUM"]
)
def test_an_eltwise_with_a_constant_is_folded(params: str) -> None:
    text = MAPS + conv("c", "data", "c") + constant("k", 3, "dim: 2 dim: 4 dim: 4 dim: 3")
    text += layer("Eltwise", "e", "c k", "e", f"eltwise_param {{ {params} }}")
    assert told(text) == {"fold-behind": ["e: folded into c"]}


def test_an_affine_layer_in_front_is_folded_only_where_no_margin_of_zeros_sees_it() -> None:
    shift = layer("Power", "p", "data", "p", "power_param { scale: 0.5 shift: -3 }")
    assert told(MAPS + shift + conv("c", "p", "c")) == {"fold-in-front": ["p: folded into c"]}
    assert told(MAPS + shift + conv("c", "p", "c", "kernel_size: 3 pad: 1")) == {}
    scale = layer("Power", "p", "data", "p", "power_param { scale: 0.5 }")
    padded = conv("c", "p", "c", "kernel_size: 3 pad: 1 group: 2")
    assert told(MAPS + scale + padded) == {"fold-in-front": ["p: folded into c"]}
    flat = "inner_product_param { num_output: 3 %s }"
    for params in ("", "transpose: true", "bias_term: false"):
        text = MAPS + shift + layer("InnerProduct", "i", "p", "i", flat % params)
        assert told(text) == {"fold-in-front": ["p: folded into i"]}


def test_layers_that_hand_on_what_they_read_go() -> None:
    text = MAPS + layer("Split", "s", "data", "a").replace('top: "a"', 'top: "a" top: "b"')
    text += layer("Dropout", "d", "a", "d") + layer("Concat", "one", "b", "one")
    text += layer("Eltwise", "e", "d one", "e", "eltwise_param { operation: MAX }")
    assert told(text) == {
        "identities": [
            "s: left out: it hands on what it reads",
            "d: left out: it hands on what it reads",
            "one: left out: it hands on what it reads",
        ]
    }


def test_what_no_output_depends_on_goes() -> None:
    text = MAPS + conv("c", "data", "c") + conv("unused", "data", "u")
    assert told(text, ["c"]) == {"dead-branches": ["unused: left out: no output depends on it"]}


def test_a_run_that_nothing_takes_becomes_one_scale() -> None:
    text = MAPS + layer("ReLU", "r", "data", "r") + layer("BatchNorm", "b", "r", "b")
    text += layer("Scale", "s", "b", "s") + layer("ReLU", "r2", "s", "r2")
    assert told(text) == {"merge-affine": ["b: became a Scale", "s: folded into b"]}


def test_each_pass_has_a_name_and_says_what_it_does() -> None:
    assert len({each.name for each in PASSES}) == len(PASSES) == 7
    assert all(each.summary for each in PASSES)


HALF = "kernel_size: 1 stride: 2"


def test_a_stride_goes_up_to_the_convolutions_that_make_what_is_read() -> None:
    text = (
        INPUT % "dim: 2 dim: 4 dim: 9 dim: 10"
        + conv("c", "data", "c", "kernel_size: 3 pad: 1 stride_h: 2")
        + conv("a", "c", "a", "kernel_size: 3 pad: 2 dilation: 2")
        + layer("ReLU", "q", "a", "a")
        + conv("b", "a", "b", "kernel_size: 1")
        + layer("Eltwise", "e", "b c", "e")
        + layer("ReLU", "r", "e", "e")
        + conv("d", "e", "d", HALF)
        + conv("f", "e", "f", HALF)
    )
    assert told(text) == {
        "move-strides": ["b: has the stride of what reads e", "a: has the stride of what reads a"]
    }
    net = compile_net(parse_text(text), State("test"), seed=0)
    folded = fold_and_tell(net)[0]
    strides = {n: la.stride for n, la in folded.layers.items() if la.type_name == "Convolution"}
    assert strides == {"c": (2, 1), "a": (2, 2), "b": (1, 1), "d": (1, 1), "f": (1, 1)}
    (thinned,) = (la for la in folded.layers.values() if la.type_name == "Pooling")
    assert thinned.windows.stride == (2, 2)


@pytest.mark.parametrize(
    "readers",
    [
        conv("d", "e", "d", HALF) + conv("f", "e", "f", "kernel_size: 1"),
        conv("d", "e", "d", HALF) + layer("TanH", "f", "e", "f"),
        conv("d", "e", "d", "kernel_size: 3 stride: 2"),
        conv("d", "e", "d", "kernel_size: 1 stride: 2 pad: 1"),
    ],
)
def test_a_stride_stays_where_other_places_are_read_too(readers: str) -> None:
    text = MAPS + conv("c", "data", "c") + layer("ReLU", "r", "c", "e") + readers
    assert told(text) == {}


def test_a_stride_stays_where_the_blob_is_asked_for() -> None:
    text = MAPS + conv("c", "data", "c") + layer("ReLU", "r", "c", "e") + conv("d", "e", "d", HALF)
    assert told(text) == {"move-strides": ["c: has the stride of what reads e"]}
    assert told(text, ["d", "e"]) == {}
    assert told(text, ["d", "c"]) == {}


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_a_layer_that_joins_no_channels_has_a_group_for_each(kind: str) -> None:
    params = "convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 stride: 2 }"
    net = compile_net(parse_text(MAPS + layer(kind, "c", "data", "c", params)), State("test"))
    weight, bias = net.params["c"]
    with torch.no_grad():
        bias.copy_(torch.arange(4.0))
        weight.zero_()
        weight[range(4), range(4)] = torch.rand(4, 3, 2)
        weight[2, 2] = 0
    folded, results = fold_and_tell(net)
    agree(net, folded, ["c"])
    (change,) = (change for each in results for change in each.changes)
    assert change.what == "each channel by itself: the other weights are 0"
    assert folded.layers["c"].group == 4
    with torch.no_grad():
        weight[3, 1, 0, 0] = 1e-30
    assert not any(each.changes for each in fold_and_tell(net)[1])
