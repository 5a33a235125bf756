"""What layers say of their form in ONNX is what the file computes, and it is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from torrefy.errors import ExportError
from torrefy.export.onnx import export_onnx
from torrefy.graph import State
from torrefy.layers import Layer, layer
from torrefy.net.net import Net, compile_net
from torrefy.runtime.session import OnnxModel
from torrefy.schema import parse_text
from torrefy.testing.use import offered

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { %s } } }\n'


@layer("Floored")
class Floored(Layer):
    """The largest integer that is not above x; in ONNX by its operator."""

    def forward(self, *bottoms: Tensor) -> Tensor:
        (x,) = bottoms
        return -torch.ceil(-x)

    def exported(self, *bottoms: Tensor) -> Tensor:
        (x,) = bottoms
        y: Tensor = torch.onnx.ops.symbolic("Floor", (x,), dtype=x.dtype, shape=x.shape)
        return y


def net_of(text: str, shape: str) -> Net:
    return compile_net(parse_text(INPUT % shape + text), State("test"), seed=0)


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def floored(changes: dict[str, Any] | None = None) -> type[Layer]:
    return type("Floored", (Floored,), {**(changes or {}), "__doc__": Floored.__doc__})


TWICE = (
    'layer { name: "f" type: "Floored" bottom: "data" top: "f" }'
    'layer { name: "g" type: "Floored" bottom: "f" top: "g" }'
)


def test_a_layer_is_written_in_the_operators_that_it_asks_for(tmp_path: Path) -> None:
    with offered(Floored):
        net = net_of(TWICE, "dim: 1 dim: 3")
        export_onnx(net, tmp_path / "m.onnx")
    assert operators(tmp_path / "m.onnx") == ["Floor", "Floor"]
    x = np.array([[-1.5, 0.25, 3.0]], np.float32)
    found = OnnxModel(tmp_path / "m.onnx").run({"data": np.repeat(x, 4, 0)})["g"]
    np.testing.assert_array_equal(found, np.repeat(np.floor(x), 4, 0))
    np.testing.assert_array_equal(net(data=x)["g"], np.floor(x))


def test_the_form_for_onnx_may_call_forward(tmp_path: Path) -> None:
    def exported(self: Layer, *bottoms: Tensor) -> Any:
        return self.forward(*bottoms)

    with offered(floored({"exported": exported})):
        report = export_onnx(net_of(TWICE, "dim: 1 dim: 3"), tmp_path / "m.onnx")
    assert report.difference == 0
    assert "Floor" not in operators(tmp_path / "m.onnx")


def test_a_form_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    def exported(self: Layer, *bottoms: Tensor) -> Tensor:
        return bottoms[0].ceil()

    with (
        offered(floored({"exported": exported})),
        pytest.raises(ExportError, match=r'^blob "g": the file differs from the net by 1 where'),
    ):
        export_onnx(net_of(TWICE, "dim: 1 dim: 3"), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("beta", [0.75, 0.5, 1, 0.6])
@pytest.mark.parametrize(
    ("channels", "size", "region"),
    [(64, 5, "ACROSS_CHANNELS"), (200, 7, "ACROSS_CHANNELS"), (2, 5, "ACROSS_CHANNELS"),
     (3, 3, "WITHIN_CHANNEL")],
)  # fmt: skip
def test_lrn_is_written_without_powers(
    tmp_path: Path, channels: int, size: int, region: str, beta: float
) -> None:
    net = net_of(
        'layer { name: "y" type: "LRN" bottom: "data" top: "y" lrn_param { '
        f"local_size: {size} alpha: 2 beta: {beta} k: 1.5 norm_region: {region} }} }}",
        f"dim: 1 dim: {channels} dim: 4 dim: 3",
    )
    assert export_onnx(net, tmp_path / "m.onnx").difference < 1e-6
    used = operators(tmp_path / "m.onnx")
    assert not {"Pow", "LRN"} & set(used)
    assert ("Conv" in used) == (region == "ACROSS_CHANNELS" and channels <= 192)


@pytest.mark.parametrize("bias", ["true", "false"])
def test_a_large_inner_product_is_a_convolution_over_the_rows(tmp_path: Path, bias: str) -> None:
    net = net_of(
        'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { '
        f'num_output: 1600 bias_term: {bias} weight_filler {{ type: "xavier" }} '
        'bias_filler { type: "uniform" } } }'
        'layer { name: "relu" type: "ReLU" bottom: "ip" top: "ip" }'
        'layer { name: "last" type: "InnerProduct" bottom: "ip" top: "last" inner_product_param { '
        'num_output: 5 weight_filler { type: "xavier" } } }',
        "dim: 1 dim: 80 dim: 4 dim: 4",
    )
    report = export_onnx(net, tmp_path / "m.onnx", blobs=["ip", "last"])
    assert report.difference < 1e-5
    assert report.outputs == {"ip": ("batch", 1600), "last": ("batch", 5)}
    used = operators(tmp_path / "m.onnx")
    assert (used.count("Conv"), used.count("Gemm")) == (1, 1)
    shapes = {t.name: list(t.dims) for t in onnx.load(tmp_path / "m.onnx").graph.initializer}
    assert shapes["ip.weight"] == [1600, 1280, 1, 1]  # nothing is computed of weights
    x = np.random.default_rng(0).standard_normal((5, 80, 4, 4)).astype(np.float32)
    found = OnnxModel(tmp_path / "m.onnx").run({"data": x})
    for name, expected in net.run({"data": x}, ["ip", "last"]).items():
        np.testing.assert_allclose(found[name], expected.detach(), atol=1e-5)
