"""A solver's whole step against the same net and data by hand in PyTorch with its own SGD.

LeNet, an AlexNet without its normalisation and dropout, and ResNet-50, on the CPU; both have one
batch in memory. Then what bf16 gains: ours over our fp32, against plain autocast's over plain fp32.
Exit code 1 when a step takes more than 1.03 times as long, or bf16 gains less by as much.
"""

from __future__ import annotations

import contextlib
import copy
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import compare, compare_gains
from nets import HandWrittenResNet, resnet_prototxt
from torrefy.schema import parse_text
from torrefy.train.definition import MESSAGE
from torrefy.train.feed import Arrays
from torrefy.train.solver import Solver

LIMIT = 1.03
SOLVER = """net: "{net}" base_lr: 0.001 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005
  max_iter: 1000 random_seed: 1 snapshot_after_train: false"""
LOSS = """layer { name: "loss" type: "SoftmaxWithLoss" bottom: "%s" bottom: "label" top: "loss" }"""
LABEL = 'layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 1 } } }\n'


class Definition:
    """Layers one under another, as text and as modules."""

    def __init__(self, *shape: int) -> None:
        dims = " ".join(f"dim: {dim}" for dim in (1, *shape))
        self.text = (
            'layer { name: "data" type: "Input" top: "data" '
            f"input_param {{ shape {{ {dims} }} }} }}\n{LABEL}"
        )
        self.modules: list[nn.Module] = []
        self.blob = "data"
        self.count = 0

    def add(self, kind: str, parameters: str, module: nn.Module, in_place: bool = False) -> None:
        """A layer of a type, and the same as a module."""
        self.count += 1
        name = f"{kind.lower()}{self.count}"
        top = self.blob if in_place else name
        self.text += (
            f'layer {{ name: "{name}" type: "{kind}" bottom: "{self.blob}" top: "{top}" '
            f"{parameters} }}\n"
        )
        self.modules.append(module)
        self.blob = top

    def conv(
        self, into: int, out: int, size: int, *, stride: int = 1, pad: int = 0, group: int = 1
    ) -> None:
        """A convolution."""
        given = f"num_output: {out} kernel_size: {size} stride: {stride} pad: {pad} group: {group}"
        filler = 'weight_filler { type: "msra" }'
        module = nn.Conv2d(into, out, size, stride, pad, groups=group)
        self.add("Convolution", f"convolution_param {{ {given} {filler} }}", module)

    def pool(self, size: int, stride: int) -> None:
        """The largest of windows."""
        given = f"pooling_param {{ pool: MAX kernel_size: {size} stride: {stride} }}"
        self.add("Pooling", given, nn.MaxPool2d(size, stride, ceil_mode=True))

    def dense(self, into: int, out: int, flat: bool = False) -> None:
        """An inner product."""
        given = f'inner_product_param {{ num_output: {out} weight_filler {{ type: "xavier" }} }}'
        if flat:
            self.modules.append(nn.Flatten())
        self.add("InnerProduct", given, nn.Linear(into, out))

    def relu(self) -> None:
        """In place."""
        self.add("ReLU", "", nn.ReLU(inplace=True), in_place=True)


def lenet() -> Definition:
    """Caffe's LeNet."""
    net = Definition(1, 28, 28)
    net.conv(1, 20, 5)
    net.pool(2, 2)
    net.conv(20, 50, 5)
    net.pool(2, 2)
    net.dense(800, 500, flat=True)
    net.relu()
    net.dense(500, 10)
    return net


def alexnet() -> Definition:
    """CaffeNet without LRN and Dropout."""
    net = Definition(3, 227, 227)
    net.conv(3, 96, 11, stride=4)
    net.relu()
    net.pool(3, 2)
    net.conv(96, 256, 5, pad=2, group=2)
    net.relu()
    net.pool(3, 2)
    for into, out, group in ((256, 384, 1), (384, 384, 2), (384, 256, 2)):
        net.conv(into, out, 3, pad=1, group=group)
        net.relu()
    net.pool(3, 2)
    net.dense(9216, 4096, flat=True)
    net.relu()
    net.dense(4096, 4096)
    net.relu()
    net.dense(4096, 1000)
    return net


class Logits(nn.Module):
    """ResNet-50 up to what its softmax takes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = HandWrittenResNet(50)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures to logits."""
        net = self.net
        return net.fc(net.pool(net.blocks(net.stem(x))).flatten(1))


Steps = Callable[[int], list[float]]
"""Makes so many steps and returns the losses."""


def both(
    text: str,
    module: nn.Module,
    *,
    shape: tuple[int, ...],
    classes: int,
    alike: bool,
    precision: str = "fp32",
) -> tuple[Steps, Steps]:
    """Ours and theirs, which agree."""
    torch.manual_seed(0)
    data, label = torch.randn(shape), torch.randint(classes, shape[:1])
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("net.prototxt").write_text(text)
        solver = Solver(
            parse_text(SOLVER.format(net="net.prototxt"), MESSAGE),
            feeds=Arrays({"data": data, "label": label}, shape[0]),
            precision=precision,
        )
    optimiser = torch.optim.SGD(module.parameters(), lr=0.001, momentum=0.9, weight_decay=0.0005)

    def cost() -> Tensor:
        return F.cross_entropy(module(data), label)

    def theirs(count: int) -> list[float]:
        losses = []
        for _ in range(count):
            optimiser.zero_grad()
            if precision == "bf16":
                with torch.autocast("cpu", torch.bfloat16):
                    loss = cost()
            else:
                loss = cost()
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        return torch.stack(losses).tolist()

    if alike:
        with torch.no_grad():
            for mine, other in zip(solver.net.parameters(), module.parameters(), strict=True):
                other.copy_(mine)
        close = {"rtol": 1e-3, "atol": 1e-4} if precision == "fp32" else {"rtol": 0.05, "atol": 0.1}
        torch.testing.assert_close(solver.step(3), theirs(3), **close)
    return solver.step, theirs


def contest(
    name: str, text: str, module: nn.Module, *, steps: int, rounds: int, **problem: Any
) -> bool:
    """Time both; whether ours is fast enough."""
    ours, theirs = both(text, module, **problem)
    ratio = compare(
        f"step of {name}", lambda: ours(steps), lambda: theirs(steps), limit=LIMIT, rounds=rounds
    )
    return ratio <= LIMIT


def contest_of_gains(
    name: str, text: str, module: nn.Module, *, rounds: int, **problem: Any
) -> bool:
    """Time both in fp32 and in bf16; whether ours gains enough."""
    exact = both(text, copy.deepcopy(module), **problem)
    mixed = both(text, module, precision="bf16", **problem)
    ours, theirs = (
        (partial(before, 1), partial(after, 1)) for before, after in zip(exact, mixed, strict=True)
    )
    ratio = compare_gains(f"what bf16 gains, {name}", ours, theirs, limit=LIMIT, rounds=rounds)
    return ratio <= LIMIT


def main() -> int:
    """Run them all."""
    small, large = lenet(), alexnet()
    resnet = resnet_prototxt(50).rpartition("\n")[0] + "\n" + LABEL + LOSS % "fc1000"
    passed = [
        contest(
            "LeNet, batch 64", small.text + LOSS % small.blob, nn.Sequential(*small.modules),
            shape=(64, 1, 28, 28), classes=10, steps=20, rounds=21, alike=True,
        ),
        contest(
            "AlexNet, batch 16", large.text + LOSS % large.blob, nn.Sequential(*large.modules),
            shape=(16, 3, 227, 227), classes=1000, steps=1, rounds=11, alike=True,
        ),
        contest(
            "ResNet-50, batch 4", resnet, Logits(),
            shape=(4, 3, 224, 224), classes=1000, steps=1, rounds=9, alike=False,
        ),
        contest_of_gains(
            "AlexNet, batch 16", large.text + LOSS % large.blob, nn.Sequential(*large.modules),
            shape=(16, 3, 227, 227), classes=1000, rounds=11, alike=True,
        ),
    ]  # fmt: skip
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
