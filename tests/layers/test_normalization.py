"""LRN's gradient, and BatchNorm's statistics in one pass."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from torrefy.graph import State
from torrefy.net.net import Net, compile_net
from torrefy.schema import parse_text


def net_of(layers: str, shape: str) -> Net:
    dims = " ".join(f"dim: {dim}" for dim in shape.split())
    text = f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }}\n'
    return compile_net(parse_text(text + layers), State("train"))


@pytest.mark.parametrize("size", [1, 3, 5, 11])
@pytest.mark.parametrize("beta", [0.75, 0.5, 2.0])
def test_lrn_is_torchs_with_its_gradient(size: int, beta: float) -> None:
    params = f"local_size: {size} alpha: 0.3 beta: {beta} k: 2"
    layer = f'layer {{ type: "LRN" bottom: "x" top: "y" lrn_param {{ {params} }} }}'
    net = net_of(layer, "2 7 3 4").double()
    x = torch.randn(2, 7, 3, 4, dtype=torch.float64, requires_grad=True)
    up = torch.randn_like(x)
    results = []
    for y in (net(x=x)["y"], F.local_response_norm(x, size, 0.3, beta, 2.0)):
        results.append((y, torch.autograd.grad(y, x, up)[0]))
    torch.testing.assert_close(results[0], results[1])
    with torch.no_grad():
        torch.testing.assert_close(net(x=x)["y"], results[0][0])


@pytest.mark.parametrize("shape", ["4 3 5 6", "4 3", "1 3 1 1", "6"])
def test_batchnorm_keeps_the_sums_that_two_passes_give(shape: str) -> None:
    net = net_of('layer { name: "op" type: "BatchNorm" bottom: "x" top: "y" }', shape)
    mean_sum, variance_sum, factor = (b.clone() for b in net.params["op"])
    for _ in range(2):
        x = torch.randn(net.inputs["x"]) * 3 + 1
        net(x=x)
        flat = x.view(-1, 1) if x.dim() == 1 else x.transpose(0, 1).flatten(1).t()
        unbiased = flat.var(0) if len(flat) > 1 else torch.zeros(3)
        mean_sum = 0.999 * mean_sum + flat.mean(0)
        variance_sum = 0.999 * variance_sum + unbiased
        factor = 0.999 * factor + 1
    for ours, expected in zip(net.params["op"], (mean_sum, variance_sum, factor), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [5, 2**31 - 1])
def test_a_window_of_more_channels_than_there_are_ends_with_them(size: int) -> None:
    param = f"lrn_param {{ local_size: {size} }}"
    text = f'layer {{ name: "n" type: "LRN" bottom: "x" top: "y" {param} }}'
    x = torch.randn(1, 3, 2, 2)
    scale = 1 + (x * x).sum(1, keepdim=True) / size
    torch.testing.assert_close(net_of(text, "1 3 2 2")(x=x)["y"], x * scale**-0.75)
