"""Folding for inference: the same numbers from fewer layers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torrefy.graph import State
from torrefy.net.fold import fold
from torrefy.net.net import Net, compile_net
from torrefy.schema import parse_text

HEAD = 'layer { name: "data" type: "Input" top: "data" input_param { shape { %s } } }\n'
PRODUCERS = {
    "Convolution": "convolution_param { num_output: 8 kernel_size: 3 %s }",
    "Convolution group": "convolution_param { num_output: 8 kernel_size: 3 group: 2 pad: 1 %s }",
    "Deconvolution": "convolution_param { num_output: 8 kernel_size: 2 stride: 2 %s }",
    "Deconvolution group": "convolution_param { num_output: 8 kernel_size: 2 group: 4 %s }",
    "InnerProduct": "inner_product_param { num_output: 8 %s }",
    "InnerProduct transpose": "inner_product_param { num_output: 8 transpose: true %s }",
    "ReLU": "",
}
AFFINE = {
    "BatchNorm": "",
    "Scale": "",
    "Scale bias": "scale_param { bias_term: true }",
    "Bias": "",
}


def layer(kind: str, name: str, bottom: str, top: str, params: str) -> str:
    return (
        f'layer {{ name: "{name}" type: "{kind.partition(" ")[0]}" bottom: "{bottom}" top: "{top}" '
        f"{params} }}\n"
    )


def randomized(text: str) -> Net:
    net = compile_net(parse_text(text), State("test"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            tensor.uniform_(0.5, 1.5, generator=generator)
    return net


@settings(max_examples=60, deadline=None)
@given(
    producer=st.sampled_from(sorted(PRODUCERS)),
    bias=st.booleans(),
    chain=st.lists(st.sampled_from(sorted(AFFINE)), min_size=1, max_size=4),
    in_place=st.booleans(),
)
def test_a_folded_net_computes_the_same(
    producer: str, bias: bool, chain: list[str], in_place: bool
) -> None:
    term = "" if bias else "bias_term: false"
    params = PRODUCERS[producer]
    text = HEAD % "dim: 2 dim: 4 dim: 6 dim: 5"
    text += layer(producer, "p", "data", "p", params % term if "%s" in params else params)
    blob = "p"
    for i, kind in enumerate(chain):
        top = blob if in_place else f"a{i}"
        text += layer(kind, f"a{i}", blob, top, AFFINE[kind])
        blob = top
    text += layer("Dropout", "drop", blob, blob, "") + layer("ReLU", "last", blob, "out", "")
    net = randomized(text)
    folded = fold(net)
    x = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(folded(data=x)["out"], net(data=x)["out"], rtol=1e-4, atol=1e-4)
    absorbing = producer != "ReLU"
    left = len(folded.graph.nodes) - 3  # the input, the producer, the last ReLU
    assert left == (0 if absorbing else 1)


def test_what_is_read_elsewhere_is_not_folded() -> None:
    text = HEAD % "dim: 1 dim: 2 dim: 5 dim: 5"
    text += layer(
        "Convolution", "c", "data", "c", "convolution_param { num_output: 2 kernel_size: 1 }"
    )
    text += layer("BatchNorm", "b", "c", "b", "") + layer("ReLU", "r", "c", "r", "")
    net = randomized(text)
    folded = fold(net)
    assert [n.type for n in folded.graph.nodes] == ["Input", "Convolution", "Scale", "ReLU"]
    x = torch.randn(1, 2, 5, 5)
    for name, value in net(data=x).items():
        torch.testing.assert_close(folded(data=x)[name], value)


def test_a_blob_that_is_asked_for_survives() -> None:
    text = HEAD % "dim: 1 dim: 2 dim: 5 dim: 5"
    text += layer(
        "Convolution", "c", "data", "c", "convolution_param { num_output: 2 kernel_size: 1 }"
    )
    text += layer("BatchNorm", "b", "c", "b", "") + layer("Dropout", "d", "b", "d", "")
    net = randomized(text)
    x = torch.randn(1, 2, 5, 5)
    folded = fold(net, ["c", "d"])
    for name in ("c", "d"):
        expected = net.run({"data": x}, [name])[name]
        torch.testing.assert_close(folded.run({"data": x}, [name])[name], expected)


def test_batch_statistics_in_test_are_not_folded() -> None:
    text = HEAD % "dim: 4 dim: 2 dim: 5 dim: 5"
    text += layer("BatchNorm", "b", "data", "b", "batch_norm_param { use_global_stats: false }")
    assert [n.type for n in fold(randomized(text)).graph.nodes] == ["Input", "BatchNorm"]


@pytest.mark.parametrize("start", [0, 2])
def test_a_scale_along_other_axes_is_kept(start: int) -> None:
    text = HEAD % "dim: 2 dim: 2 dim: 2 dim: 2"
    text += layer(
        "Convolution", "c", "data", "c", "convolution_param { num_output: 2 kernel_size: 1 }"
    )
    text += layer("Scale", "s", "c", "s", f"scale_param {{ axis: {start} }}")
    net = randomized(text)
    x = torch.randn(2, 2, 2, 2)
    torch.testing.assert_close(fold(net)(data=x)["s"], net(data=x)["s"])
