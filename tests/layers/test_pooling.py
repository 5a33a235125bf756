"""Pooling and SPP: chance, which no reference case can hold, and errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from torrefy.errors import DefinitionError, LayerError
from torrefy.export.onnx import export_onnx
from torrefy.graph import State
from torrefy.net.net import Net, compile_net
from torrefy.runtime.session import OnnxModel
from torrefy.schema import parse_text


def net_of(
    kind: str, params: str, shape: str = "1 1 4 4", phase: str = "train", top: str = "y"
) -> Net:
    dims = " ".join(f"dim: {dim}" for dim in shape.split())
    tops = " ".join(f'top: "{t}"' for t in top.split())
    return compile_net(
        parse_text(
            f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }}\n'
            f'layer {{ name: "op" type: "{kind}" bottom: "x" {tops} {params} }}'
        ),
        State(phase),
    )


STOCHASTIC = "pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }"


def test_stochastic_pooling_picks_each_value_by_its_share_of_the_sum() -> None:
    torch.manual_seed(0)
    net = net_of("Pooling", STOCHASTIC)
    window = torch.tensor([[1.0, 2.0], [0.0, 5.0]])
    x = window.repeat(2, 2).expand(10_000, 1, 4, 4)
    y = net(x=x)["y"]
    assert y.shape == (10_000, 1, 2, 2)
    for value, share in ((1, 1 / 8), (2, 2 / 8), (0, 0), (5, 5 / 8)):
        found = (y == value).double().mean().item()
        assert found == pytest.approx(share, abs=4 * (share * (1 - share) / y.numel()) ** 0.5)


def test_stochastic_pooling_follows_the_seed() -> None:
    net, x = net_of("Pooling", STOCHASTIC), torch.rand(8, 1, 4, 4)
    tops = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        tops.append(net(x=x)["y"])
    assert torch.equal(tops[0], tops[1])
    assert not torch.equal(tops[0], tops[2])


def test_the_gradient_of_stochastic_pooling_goes_to_what_was_picked() -> None:
    torch.manual_seed(0)
    x = torch.rand(16, 2, 5, 5, requires_grad=True)
    y = net_of("Pooling", STOCHASTIC, "16 2 5 5")(x=x)["y"]
    assert y.shape == (16, 2, 3, 3)  # the windows at the edge are cut off
    up = torch.rand_like(y)
    y.backward(up)
    assert x.grad is not None
    picked = x.grad != 0
    assert sorted(x[picked].tolist()) == sorted(y.flatten().tolist())
    assert sorted(x.grad[picked].tolist()) == sorted(up.flatten().tolist())


def expectation(x: Tensor, kernel: int, stride: int, outputs: int) -> Tensor:
    """Window by window, as Caffe's loops have it."""
    y = torch.zeros(*x.shape[:2], outputs, outputs)
    for row in range(outputs):
        for column in range(outputs):
            a, b = row * stride, column * stride
            window = x[:, :, a : a + kernel, b : b + kernel].flatten(2)
            y[:, :, row, column] = (window**2).sum(2) / (window.sum(2) + 1.1754943508222875e-38)
    return y


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (3, 1), (5, 3)])
def test_stochastic_pooling_gives_its_expectation_in_test(kernel: int, stride: int) -> None:
    params = f"pooling_param {{ pool: STOCHASTIC kernel_size: {kernel} stride: {stride} }}"
    x = torch.rand(2, 3, 7, 7)
    x[0, 0] = 0
    y = net_of("Pooling", params, "2 3 7 7", "test")(x=x)["y"]
    torch.testing.assert_close(y, expectation(x, kernel, stride, y.shape[2]))
    assert (y[0, 0] == 0).all()


def test_windows_of_zeros_give_zero_in_train() -> None:
    assert (net_of("Pooling", STOCHASTIC)(x=torch.zeros(1, 1, 4, 4))["y"] == 0).all()


def test_global_pooling_takes_the_plane_as_it_comes() -> None:
    for pool in ("MAX", "AVE", "STOCHASTIC"):
        net = net_of("Pooling", f"pooling_param {{ pool: {pool} global_pooling: true }}")
        assert net(x=torch.rand(2, 1, 6, 5))["y"].shape == (2, 1, 1, 1)


def test_a_pyramid_follows_the_size_of_the_picture() -> None:
    net = net_of("SPP", "spp_param { pyramid_height: 3 }", "1 2 9 9")
    assert net(x=torch.rand(1, 2, 12, 16))["y"].shape == (1, 2 * 21)
    with pytest.raises(LayerError, match="a plane of 2x9 can't be cut into the 4x4 bins"):
        net(x=torch.rand(1, 2, 2, 9))


@pytest.mark.parametrize(
    ("kind", "params", "message"),
    [
        (
            "Pooling",
            "pooling_param { pool: STOCHASTIC kernel_size: 2 pad: 1 }",
            "STOCHASTIC pooling takes no padding",
        ),
        ("SPP", "", "pyramid_height is missing. Give spp_param { pyramid_height: … }."),
        ("SPP", "spp_param { pyramid_height: 0 }", "pyramid_height must be above 0, found 0"),
        (
            "SPP",
            "spp_param { pyramid_height: 9 }",
            "a plane of 4x4 can't be cut into the 8x8 bins of level 4",
        ),
        (
            "SPP",
            "spp_param { pyramid_height: 1000000 pool: STOCHASTIC }",
            "a plane of 4x4 can't be cut into the 8x8 bins of level 4",
        ),
    ],
)
def test_what_can_not_be_pooled_is_told(kind: str, params: str, message: str) -> None:
    with pytest.raises(DefinitionError) as error:
        net_of(kind, params)
    assert str(error.value).split('layer "op": ', 1)[1] == message


def test_only_max_pooling_has_a_mask() -> None:
    with pytest.raises(DefinitionError, match="only MAX pooling has a second top, the mask"):
        net_of("Pooling", STOCHASTIC, top="y mask")


def test_a_pyramid_of_chance_takes_planes_that_need_no_padding() -> None:
    params = "spp_param { pyramid_height: 2 pool: STOCHASTIC }"
    assert net_of("SPP", params)(x=torch.rand(3, 1, 4, 4))["y"].shape == (3, 5)
    with pytest.raises(DefinitionError) as error:
        net_of("SPP", params, "1 1 5 4")
    assert str(error.value).endswith(
        "STOCHASTIC pooling takes no padding, but level 2 of a plane of 5x4 needs some"
    )


def test_dropout_drops_its_share_and_scales_the_rest() -> None:
    torch.manual_seed(0)
    net = net_of("Dropout", "dropout_param { dropout_ratio: 0.3 }", "1 1 300 300")
    y = net(x=torch.ones(1, 1, 300, 300))["y"]
    dropped = (y == 0).double().mean().item()
    assert dropped == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / y.numel()) ** 0.5)
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / 0.7))


def test_an_exported_file_pools_by_expectation(tmp_path: Path) -> None:
    params = "pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 }"
    net = net_of("Pooling", params, "1 2 7 6", "test")
    export_onnx(net, tmp_path / "m.onnx")
    x = torch.rand(3, 2, 7, 6)
    found = OnnxModel(tmp_path / "m.onnx").run({"x": x.numpy()})["y"]
    torch.testing.assert_close(torch.from_numpy(found), net(x=x)["y"])
