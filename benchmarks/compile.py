"""Compiling definitions: a ResNet-152 against its hand-written module, and ever longer nets.

Exit code 1 when the ResNet takes more than 3 times as long as making the module and tracing it
with shapes, or when a layer of 10,000 costs more than 1.5 times a layer of 1,000.
"""

from __future__ import annotations

import sys

import torch
from torch import fx
from torch.fx.passes.shape_prop import ShapeProp

from harness import compare
from nets import HandWrittenResNet, resnet_prototxt
from torrefy.graph import State
from torrefy.net.net import compile_net
from torrefy.schema import parse_text

RESNET_LIMIT = 3.0
GROWTH_LIMIT = 1.5

KINDS = (
    'type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 pad: 1 }',
    'type: "BatchNorm"',
    'type: "Scale" scale_param { bias_term: true }',
    'type: "ReLU"',
)


def chain(layers: int) -> str:
    """A net of so many layers, in fours: Convolution, BatchNorm, Scale, ReLU."""
    lines = [
        'layer { name: "data" type: "Input" top: "0" input_param { shape '
        "{ dim: 1 dim: 4 dim: 8 dim: 8 } } }"
    ]
    for i in range(layers):
        lines.append(f'layer {{ name: "l{i}" bottom: "{i}" top: "{i + 1}" {KINDS[i % 4]} }}')
    return "\n".join(lines)


def compiled(text: str) -> None:
    """Read and compile."""
    compile_net(parse_text(text), State("test"))


def hand_written() -> None:
    """What one does in PyTorch to have a module, its graph and its shapes."""
    module = HandWrittenResNet(152).eval()
    graph = fx.symbolic_trace(module)
    ShapeProp(graph.to("meta")).propagate(torch.empty(1, 3, 224, 224, device="meta"))


def main() -> int:
    """Compare; the exit code."""
    text = resnet_prototxt(152)
    resnet = compare(
        "compile: ResNet-152", lambda: compiled(text), hand_written, limit=RESNET_LIMIT, rounds=5
    )
    short, middle, long = chain(100), chain(1_000), chain(10_000)
    compare(
        "compile: 1,000 layers against 10 times 100", lambda: compiled(middle),
        lambda: [compiled(short) for _ in range(10)], limit=GROWTH_LIMIT, rounds=5,
    )  # fmt: skip
    growth = compare(
        "compile: 10,000 layers against 10 times 1,000", lambda: compiled(long),
        lambda: [compiled(middle) for _ in range(10)], limit=GROWTH_LIMIT, rounds=3,
    )  # fmt: skip
    return int(resnet > RESNET_LIMIT or growth > GROWTH_LIMIT)


if __name__ == "__main__":
    sys.exit(main())
