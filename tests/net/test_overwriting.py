"""Computing in a bottom's memory: no number of a training differs, and no gradient is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.golden.replay import Case
from tests.golden.test_layers import cases
from tests.layers.test_properties import KINDS, USES
from torch import Tensor

from torrefy.graph import State
from torrefy.net.net import Net, compile_net
from torrefy.schema import Definition, parse_text, upgrade, write_text

Values = dict[str, Tensor]


def passes(net: Net, inputs: Values, kept: bool) -> tuple[Values, list[Tensor | None]]:
    """Outputs and all gradients; with `kept` every value is an output, so none is overwritten."""
    torch.manual_seed(0)
    for layer in net.layers.values():
        layer.reset()
    statistics = {name: buffer.clone() for name, buffer in net.named_buffers()}
    net.zero_grad()
    leaves = [x.detach().clone().requires_grad_(x.is_floating_point()) for x in inputs.values()]
    fed = dict(zip(inputs, leaves, strict=True))
    names = list(net.outputs)
    if kept:
        every = dict.fromkeys(top for node in net.graph.nodes for top in node.tops)
        values = net.run(fed, list(every))
        tops = {name: values[name] for name in names}
    else:
        tops = net(**fed)
    heads = [top for top in tops.values() if top.requires_grad]
    if heads:  # a gradient that tells the places apart
        torch.autograd.backward(heads, [torch.arange(1.0, h.numel() + 1).view_as(h) for h in heads])
    for name, before in statistics.items():
        net.get_buffer(name).copy_(before)
    grads = [leaf.grad for leaf in (*leaves, *net.parameters())]
    return {name: top.detach() for name, top in tops.items()}, grads


def check(net: Net, inputs: Values) -> None:
    for grads_recorded in (True, False):
        with torch.set_grad_enabled(grads_recorded):
            found, wanted = (passes(net, inputs, kept) for kept in (False, True))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4, equal_nan=True)


def followed(definition: Definition, tops: Values, by: str) -> str:
    """A definition whose float outputs each have a layer behind them that may overwrite them."""
    text = write_text(definition.message)
    for i, (name, top) in enumerate(tops.items()):
        if by == "ReLU":
            text += f'layer {{ name: "after{i}" type: "ReLU" bottom: "{name}" top: "{name}" }}\n'
            continue
        dims = " ".join(f"dim: {size}" for size in top.shape)
        text += (
            f'layer {{ name: "other{i}" type: "DummyData" top: "other{i}" dummy_data_param {{ '
            f"shape {{ {dims} }} }} }}\n"
            f'layer {{ name: "after{i}" type: "Eltwise" bottom: "{name}" bottom: "other{i}" '
            f'top: "sum{i}" }}\n'
        )
    return text


def behind(definition: Definition, phase: str, inputs: Values, by: str, copied: Net) -> None:
    """Check a net with a layer behind each output that may overwrite it."""
    torch.manual_seed(0)
    tops = {n: t for n, t in copied.run(inputs, list(copied.graph.outputs)).items() if t.numel()}
    net = compile_net(upgrade(parse_text(followed(definition, tops, by))), State(phase))
    with torch.no_grad():
        for key, blobs in copied.params.items():
            for mine, theirs in zip(net.params[key], blobs, strict=True):
                mine.copy_(theirs)
    check(net, inputs)


def trained() -> list[Path]:
    """The reference cases in phase train whose layers need no files."""
    found = []
    for folder in cases():
        case = Case(folder)
        if case.meta["phase"] == "TRAIN" and not any(folder.glob("*.py")):
            found.append(folder)
    return found


@pytest.mark.parametrize("by", ["ReLU", "Eltwise"])
@pytest.mark.parametrize("folder", trained(), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_layer_behind_any_other_can_overwrite_nothing_that_a_gradient_needs(
    folder: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(folder)
    monkeypatch.chdir(folder)
    net = case.compile()
    inputs = {name: torch.from_numpy(value) for name, value in case.group("in")}
    behind(net.graph.definition, "train", inputs, by, net)


@pytest.mark.parametrize("by", ["ReLU", "Eltwise"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_so_it_is_with_any_parameters(kind: str, by: str, data: st.DataObject) -> None:
    use = USES[kind](data.draw)(kind)
    by = "ReLU" if use.varying else by
    net = use.net()
    inputs = {name: value.float() for name, value in use.values(net).items()}
    behind(use.definition(), "train", inputs, by, net)


SHAPE = "dim: 2 dim: 4 dim: 3 dim: 3"
LAYERS = {
    "Convolution": "convolution_param { num_output: 4 kernel_size: 1 weight_filler "
    '{ type: "xavier" } }',
    "Pooling": "pooling_param { pool: AVE kernel_size: 1 }",
    "BatchNorm": "",
    "Scale": "scale_param { bias_term: true }",
    "Bias": "",
    "ReLU": "",
    "Leaky": "relu_param { negative_slope: 0.1 }",
    "Flipped": "relu_param { negative_slope: -0.5 }",
    "PReLU": "",
    "Clip": "clip_param { min: -1 max: 1 }",
    "Sigmoid": "",
    "Power": "power_param { power: 2 }",
    "Dropout": "",
    "Split": "",
    "Reshape": "reshape_param { shape { dim: 0 dim: 0 dim: 3 dim: 3 } }",
    "SUM": "eltwise_param { operation: SUM }",
    "Weighted": "eltwise_param { operation: SUM coeff: 1 coeff: -0.5 coeff: 1 }",
    "PROD": "eltwise_param { operation: PROD }",
    "MAX": "eltwise_param { operation: MAX }",
}  # fmt: skip
"""Layers that leave a shape as it is."""
SEVERAL = {"SUM": 3, "Weighted": 3, "PROD": 2, "MAX": 2}
TYPES = {"Leaky": "ReLU", "Flipped": "ReLU", **dict.fromkeys(SEVERAL, "Eltwise")}
IN_PLACE = {"BatchNorm", "Scale", "Bias", "ReLU", "Leaky", "Flipped", "PReLU", "Clip", "Sigmoid",
            "Power", "Dropout"}  # fmt: skip


@st.composite
def nets(draw: Any) -> str:
    """Layers that read any blobs before them."""
    text = f'layer {{ name: "in" type: "Input" top: "b0" input_param {{ shape {{ {SHAPE} }} }} }}\n'
    blobs = ["b0"]
    for i in range(1, draw(st.integers(3, 12))):
        kind = draw(st.sampled_from(sorted(LAYERS)))
        # Mostly the newest blobs: a value that is read once is what can be overwritten.
        near = st.sampled_from(blobs[-3:] + blobs[-1:] * 2)
        bottoms = [draw(near) for _ in range(SEVERAL.get(kind, 1))]
        top = bottoms[0] if kind in IN_PLACE and draw(st.booleans()) else f"b{i}"
        if top not in blobs:
            blobs.append(top)
        ends = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        passed = [draw(st.sampled_from(["true", "true", "true", "false"])) for _ in bottoms]
        down = " ".join(f"propagate_down: {word}" for word in passed)
        text += (
            f'layer {{ name: "l{i}" type: "{TYPES.get(kind, kind)}" {ends} top: "{top}" '
            f"{down} {LAYERS[kind]} }}\n"
        )
    return text


@settings(max_examples=60, deadline=None)
@given(text=nets(), phase=st.sampled_from(["train", "test"]))
def test_no_net_computes_or_learns_otherwise_for_it(text: str, phase: str) -> None:
    net = compile_net(upgrade(parse_text(text)), State(phase), seed=1)
    torch.manual_seed(1)
    check(net, {"b0": torch.randn(2, 4, 3, 3)})


def test_a_training_net_rectifies_in_place_where_that_costs_nothing() -> None:
    net = compile_net(
        upgrade(parse_text(
            f'layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ {SHAPE} }} }} }}\n'
            'layer { name: "conv" type: "Convolution" bottom: "x" top: "y" '
            "convolution_param { num_output: 4 kernel_size: 1 } }\n"
            'layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }\n'
            'layer { name: "again" type: "ReLU" bottom: "y" top: "y" }\n'
        )), State("train"),
    )  # fmt: skip
    made: dict[str, Tensor] = {}
    for name, layer in net.layers.items():
        layer.register_forward_hook(lambda _, __, top, name=name: made.update({name: top}))
    net(x=torch.randn(2, 4, 3, 3))
    assert made["relu"] is made["conv"]
    assert made["again"] is not made["relu"]  # which the first one's gradient is made of
    with torch.no_grad():
        net(x=torch.randn(2, 4, 3, 3))
    assert made["again"] is made["relu"] is made["conv"]
