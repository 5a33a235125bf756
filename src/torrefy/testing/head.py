"""The checks of one head: its page and text, the layers that it writes, that they learn.

Each failure is an AssertionError of one sentence that begins with the head's type.
"""

from __future__ import annotations

import contextlib
import inspect
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torrefy.export.onnx import export_onnx
from torrefy.net.net import Net
from torrefy.plugins import added, hookimpl
from torrefy.schema import parse_text, upgrade, write_text
from torrefy.schema.fields import declared
from torrefy.schema.head import Head, find_head, head_types
from torrefy.testing.failure import fail, told
from torrefy.weights.load import load_net

BACKBONE = """layer {{ name: "data" type: "Input" top: "data"
  input_param {{ shape {{ dim: {rows} dim: 3 dim: 16 dim: 16 }} }} }}
layer {{ name: "fine" type: "Convolution" bottom: "data" top: "fine"
  convolution_param {{ num_output: 8 kernel_size: 3 pad: 1 stride: 2
    weight_filler {{ type: "msra" }} }} }}
layer {{ name: "relu1" type: "ReLU" bottom: "fine" top: "fine" }}
layer {{ name: "map" type: "Convolution" bottom: "fine" top: "map"
  convolution_param {{ num_output: 8 kernel_size: 3 pad: 1 stride: 2
    weight_filler {{ type: "msra" }} }} }}
layer {{ name: "relu2" type: "ReLU" bottom: "map" top: "map" }}
"""
"""A small backbone: a blob "fine" of 8x8, at half of the picture's size, and "map" of 4x4."""
ROWS, OUTPUTS, UPDATES, RATE = 12, 4, 60, 0.02


def check_head(cls: type[Head], params: str = "", *, bottom: str = "map") -> None:
    """Check all that holds for a sound head.

    It has a docstring and a `doc` for each of its fields; its text reads back as it was written; it
    writes the same layers each time, called by its name; with a label there is a loss that falls
    when it learns, without one an answer for each picture that ONNX can express.

    Args:
        cls: the class, which need not be given by any plugin yet.
        params: its parameters in the text: "snake_param { a: 2 }".
        bottom: the blob that it reads: "map", 8x4x4, or "fine", 8x8x8, of pictures of 16x16.

    Raises:
        AssertionError: something doesn't hold, and what.
    """
    name = cls.type_name
    if not name:
        fail(cls.__name__, 'it is not made with @head("Type")')
    with told(name), _known(cls):
        _check_page(cls)
        _check_text(cls, params)
        trained = _layers(cls, params, bottom, label=True)
        if [write_text(one) for one in trained] != [
            write_text(one) for one in _layers(cls, params, bottom, label=True)
        ]:
            fail(name, "it writes other layers the second time")
        for one in (*trained, *_layers(cls, params, bottom, label=False)):
            if not one.name.startswith("own/"):
                fail(name, f'it writes a layer "{one.name}", which is not called by its name')
        _check_learns(cls, params, bottom)
        _check_answers(cls, params, bottom)


def _known(cls: type[Head]) -> Any:
    class Giving:
        @hookimpl
        def torrefy_heads(self) -> list[type[Head]]:
            return [cls]

    if cls.type_name in head_types() and find_head(cls.type_name) is cls:
        return contextlib.nullcontext()
    return added(Giving(), "head")


def _check_page(cls: type[Head]) -> None:
    if not inspect.cleandoc(cls.__doc__ or ""):
        fail(cls.type_name, "it has no docstring")
    for name, one in declared(cls).items():
        if not one.doc:
            fail(cls.type_name, f'its field "{name}" has no doc')
    if not cls.kinds:
        fail(cls.type_name, "it says nothing of the kinds that it learns")


def _text(cls: type[Head], params: str, bottom: str) -> str:
    return (
        f'head {{ type: "{cls.type_name}" name: "own" bottom: "{bottom}" num_output: {OUTPUTS} '
        f"{params} }}\n"
    )


def _check_text(cls: type[Head], params: str) -> None:
    first = parse_text(_text(cls, params, "map")).message
    if parse_text(write_text(first)).message != first:
        fail(cls.type_name, "its text doesn't read back as it was written")


def _label(cls: type[Head]) -> tuple[str, Tensor]:
    """The label's layer, and labels of a kind that it learns."""
    torch.manual_seed(0)
    kind = cls.kinds[0]
    if kind == "classes":
        labels = torch.arange(ROWS) % OUTPUTS
    elif kind == "masks":
        labels = torch.randint(0, OUTPUTS, (ROWS, 1, 16, 16))
    elif kind == "tags":
        labels = torch.randint(0, 2, (ROWS, OUTPUTS))
    else:
        labels = torch.rand(ROWS, OUTPUTS)
    dims = " ".join(f"dim: {size}" for size in labels.shape)
    shape = f"input_param {{ shape {{ {dims} }} }}"
    text = f'layer {{ name: "label" type: "Input" top: "label" {shape} }}\n'
    return text, labels.float()


def _net(cls: type[Head], params: str, bottom: str, *, label: bool) -> str:
    text = BACKBONE.format(rows=ROWS if label else 1)
    return text + (_label(cls)[0] if label else "") + _text(cls, params, bottom)


def _layers(cls: type[Head], params: str, bottom: str, *, label: bool) -> list[Any]:
    whole = upgrade(parse_text(_net(cls, params, bottom, label=label))).message.layer
    return list(whole[6 if label else 5 :])


def _check_learns(cls: type[Head], params: str, bottom: str) -> None:
    net = load_net(parse_text(_net(cls, params, bottom, label=True)), phase="train", seed=0)
    if not net.loss_weights:
        fail(cls.type_name, "with a label there is no loss")
    load_net(parse_text(_net(cls, params, bottom, label=True)), phase="test", seed=0)
    _, labels = _label(cls)
    torch.manual_seed(1)
    pictures = torch.randn(ROWS, 3, 16, 16)
    optimiser = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=RATE)
    first = _loss(net, pictures, labels)
    for _ in range(UPDATES):
        optimiser.zero_grad()
        loss = net.loss(net(data=pictures, label=labels))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    last = _loss(net, pictures, labels)
    if not last < first:
        fail(cls.type_name, f"its loss is {first:.4g} at first and {last:.4g} after it has learned")


def _loss(net: Net, pictures: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float(net.loss(net(data=pictures, label=labels)))


def _check_answers(cls: type[Head], params: str, bottom: str) -> None:
    net = load_net(parse_text(_net(cls, params, bottom, label=False)), seed=0)
    answers = [name for name in net.outputs if name.startswith("own/")]
    if not answers:
        fail(cls.type_name, "without a label there is no answer")
    for name in answers:
        if net.outputs[name][:1] != (1,):
            fail(cls.type_name, f'its answer "{name}" has not a row for each picture')
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(net, Path(folder) / "net.onnx", blobs=answers)
