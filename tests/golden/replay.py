"""Runs a reference case of real Caffe through a Net and compares every number."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torrefy.graph import State
from torrefy.layers.base import Layer
from torrefy.net.net import Net, compile_net
from torrefy.schema import read_text, upgrade

RTOL, ATOL = 1e-4, 1e-6
"""What the reference's own recomputation in PyTorch passes with room."""


@dataclass
class Case:
    """One folder: a net, what was fed to it, and what Caffe made of it."""

    folder: Path
    meta: dict[str, Any] = field(init=False)
    arrays: dict[str, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        self.meta = json.loads((self.folder / "meta.json").read_text())
        with np.load(self.folder / "case.npz") as arrays:
            self.arrays = dict(arrays)

    def group(self, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
        """The arrays whose keys start with `prefix:`, by the rest of the key."""
        for key, value in self.arrays.items():
            if key.startswith(f"{prefix}:"):
                yield key[len(prefix) + 1 :], value

    def compile(self) -> Net:
        """The net in the case's phase, with the case's weights."""
        definition = upgrade(read_text(self.folder / "net.prototxt"))
        with contextlib.chdir(self.folder):  # a definition's files are named relative to it
            net = compile_net(definition, State(self.meta["phase"].lower()))
        self.set_params(net)
        return net

    def set_params(self, net: Net) -> None:
        with torch.no_grad():
            for key, value in self.group("param"):
                blob_of(net, key).copy_(torch.from_numpy(value))


def blob_of(net: Net, key: str) -> torch.Tensor:
    layer, index = key.rsplit(":", 1)
    return net.params[layer][int(index)]


def replay(case: Case, atol: float = ATOL) -> None:
    """Forward, backward and changed params, each against what Caffe computed."""
    compare(case, case.compile(), atol)


def compare(case: Case, net: Net, atol: float) -> None:
    """The same for a net that has its weights."""
    tops = forward(case, net, "", atol)
    if case.meta["backward"]:
        backward(case, net, *tops, atol)
    if any(case.group("in2")):
        forward(case, net, "2", atol)


def forward(
    case: Case, net: Net, suffix: str, atol: float
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    inputs = {
        name: torch.from_numpy(value).requires_grad_(value.dtype == np.float32)
        for name, value in case.group(f"in{suffix}")
    }
    expected = dict(case.group(f"out{suffix}"))
    tops = net.run(inputs, list(dict.fromkeys([*expected, *net.loss_weights])))
    for name, value in expected.items():
        close(tops[name], value, f"out{suffix}:{name}", atol)
    if not suffix and "loss" in case.meta:
        close(net.loss(tops), np.float32(case.meta["loss"]), "loss", atol)
    for key, value in case.group(f"param_after{suffix}"):
        close(blob_of(net, key), value, f"param_after{suffix}:{key}", atol)
    return inputs, tops


def backward(
    case: Case,
    net: Net,
    inputs: dict[str, torch.Tensor],
    tops: dict[str, torch.Tensor],
    atol: float,
) -> None:
    grads = {name: torch.from_numpy(value) for name, value in case.group("gradout")}
    for name, weight in net.loss_weights.items():
        close(grads.pop(name), np.full(tops[name].shape, weight, np.float32), name, 0)
    if not net.graph.definition.message.force_backward:  # what is under no loss gets no gradient
        grads.clear()
    heads = [net.loss(tops), *(tops[name] for name in grads)]
    seeds = [torch.ones(()), *grads.values()]
    flowing = [i for i, head in enumerate(heads) if head.requires_grad]
    torch.autograd.backward([heads[i] for i in flowing], [seeds[i] for i in flowing])
    for name, value in case.group("gradin"):
        close(grad_of(inputs[name]), value, f"gradin:{name}", atol)
    for key, value in case.group("gradparam"):
        layer, index = key.rsplit(":", 1)
        if not net.layers[layer].declared[int(index)].statistic:
            close(grad_of(owner(net.layers[layer], int(index))), value, f"gradparam:{key}", atol)


def owner(layer: Layer, index: int) -> torch.Tensor:
    return layer.blobs[index]


def grad_of(tensor: torch.Tensor) -> torch.Tensor:
    base = tensor if tensor.is_leaf else tensor._base
    assert base is not None
    grad = torch.zeros_like(base) if base.grad is None else base.grad
    return grad.view(tensor.shape)


def close(ours: torch.Tensor, caffe: np.ndarray, what: str, atol: float) -> None:
    assert tuple(ours.shape) == caffe.shape, f"{what}: {tuple(ours.shape)} for {caffe.shape}"
    scale = float(np.nanmax(np.abs(caffe))) if caffe.size and np.isfinite(caffe).any() else 0.0
    if scale > 1e30:  # −FLT_MAX of an empty window would hide all else
        scale = 1.0
    np.testing.assert_allclose(
        ours.detach().numpy(), caffe, rtol=RTOL, atol=atol * max(1.0, scale), err_msg=what
    )
