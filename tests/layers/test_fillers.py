"""Fillers: seeds, errors, and fillers from plugins. DummyData, which fills its tops."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Generator, Tensor

from torrefy.errors import DefinitionError
from torrefy.graph import State
from torrefy.layers.fillers import Filler, filler, fillers
from torrefy.net.net import Net, compile_net
from torrefy.plugins import added, hookimpl
from torrefy.schema import parse_text


def text_of(weight: str) -> str:
    return (
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 8 } } }\n'
        'layer { name: "op" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { '
        f"num_output: 4 weight_filler {{ {weight} }} }} }}"
    )


def net_of(weight: str, seed: int | None = None) -> Net:
    return compile_net(parse_text(text_of(weight)), State("train"), seed=seed)


RANDOM = [name for name in fillers() if name not in ("bilinear", "constant")]


@pytest.mark.parametrize("name", RANDOM)
def test_a_seed_makes_the_same_params_again(name: str) -> None:
    first, again, other, unseeded = (
        net_of(f'type: "{name}"', seed).params["op"][0] for seed in (1, 1, 2, None)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, unseeded)


def test_seeded_params_leave_torchs_random_numbers_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    net_of('type: "gaussian"', seed=5)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("weight", "fault", "message"),
    [
        (
            'type: "gausian"', '"gausian"',
            'there is no filler "gausian". Did you mean "gaussian"?',
        ),
        ('type: "uniform" min: 2 max: 1', "2", "min 2 is above max 1"),
        ('type: "gaussian" std: -1', "-1", "std must be 0 or more, found -1"),
        ('type: "gaussian" sparse: -2', "-2", "sparse must be -1 or more, found -2"),
        ('type: "xavier" sparse: 3', "3", "sparse is for the gaussian filler, not for xavier"),
        (
            'type: "bilinear"', '"bilinear"',
            "the bilinear filler is for square kernels of two spatial axes",
        ),
    ],
)  # fmt: skip
def test_a_filler_that_does_not_fit_is_told(weight: str, fault: str, message: str) -> None:
    with pytest.raises(DefinitionError) as error:
        net_of(weight)
    line = text_of(weight).splitlines()[1]
    column = line.index(fault, line.index(weight)) + 1
    assert str(error.value) == f'<text>:2:{column}: layer "op": {message}'


@pytest.fixture
def plugin() -> Iterator[None]:
    @filler("alternating")
    def alternating(tensor: Tensor, parameters: object, generator: Generator | None) -> None:
        flat = tensor.view(-1)
        flat.copy_(1 - 2 * (torch.arange(flat.numel()) % 2))

    class Plugin:
        @hookimpl
        def torrefy_fillers(self) -> list[Filler]:
            return [alternating]

    with added(Plugin(), "own"):
        yield


@pytest.mark.usefixtures("plugin")
def test_a_plugin_adds_a_filler() -> None:
    weight = net_of('type: "alternating"').params["op"][0]
    assert weight.flatten().tolist() == [1, -1] * 16


def dummy(params: str, top: str = "y") -> Net:
    tops = " ".join(f'top: "{t}"' for t in top.split())
    text = f'layer {{ name: "op" type: "DummyData" {tops} dummy_data_param {{ {params} }} }}'
    return compile_net(parse_text(text), State("train"))


SIZE = "shape { dim: 2 dim: 3 }"


def test_random_data_come_anew_and_follow_torchs_seed() -> None:
    net = dummy(SIZE + ' data_filler { type: "gaussian" }')
    torch.manual_seed(3)
    first, second = net()["y"], net()["y"]
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(net()["y"], first)


def test_constant_data_are_made_once() -> None:
    net = dummy(SIZE + " data_filler { value: 3 }")
    assert net()["y"].data_ptr() == net()["y"].data_ptr()
    assert torch.equal(net()["y"], torch.full((2, 3), 3.0))


def test_data_are_in_no_file_of_weights() -> None:
    net = dummy(SIZE)
    net()
    assert not net.params
    assert not net.state_dict()


@pytest.mark.parametrize(
    ("params", "top", "message"),
    [
        ("", "y", "shape is missing. Give dummy_data_param { shape { dim: … } }."),
        (SIZE * 2, "a b c", "3 tops but 2 shape: give one for all or one for each"),
        (SIZE + " num: 1", "y", "both shape and num, channels, height, width are given"),
        ("num: 1 channels: 2", "y", "height is missing"),
        (
            SIZE + " data_filler {} data_filler {}", "a b c",
            "3 tops but 2 data_filler: give one for all, one for each, or none",
        ),
        (
            SIZE + ' data_filler { type: "unifrm" }', "y",
            'there is no filler "unifrm". Did you mean "uniform"?',
        ),
        ("shape { dim: -2 }", "y", "a shape can't have the dim -2"),
        (
            "num: 65536 channels: 65536 height: 1 width: 1", "y",
            "a top of 4,294,967,296 elements; a blob holds fewer than 2,147,483,648",
        ),
    ],
)  # fmt: skip
def test_data_without_a_shape_are_told(params: str, top: str, message: str) -> None:
    with pytest.raises(DefinitionError) as error:
        dummy(params, top)
    assert str(error.value).split('layer "op": ', 1)[1] == message
