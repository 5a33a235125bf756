"""Residual nets twice: as prototxt, and by hand in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torrefy.layers.base import Layer
from torrefy.net.net import Net

BLOCKS = {50: (3, 4, 6, 3), 152: (3, 8, 36, 3)}
"""How many bottlenecks each stage has (He et al. 2015, arXiv:1512.03385, table 1)."""


def resnet_prototxt(depth: int) -> str:
    """The deploy definition of a residual net, in the style of its authors' files."""
    lines = [
        'name: "ResNet"',
        'layer { name: "data" type: "Input" top: "data" '
        "input_param { shape { dim: 1 dim: 3 dim: 224 dim: 224 } } }",
    ]

    def conv(name: str, bottom: str, out: int, kernel: int, stride: int = 1) -> str:
        lines.append(
            f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" '
            f"convolution_param {{ num_output: {out} kernel_size: {kernel} pad: {kernel // 2} "
            f'stride: {stride} bias_term: false weight_filler {{ type: "msra" }} }} }}'
        )
        lines.append(
            f'layer {{ name: "bn_{name}" type: "BatchNorm" bottom: "{name}" top: "{name}" }}'
        )
        lines.append(
            f'layer {{ name: "scale_{name}" type: "Scale" bottom: "{name}" top: "{name}" '
            "scale_param { bias_term: true } }"
        )
        return name

    def relu(blob: str) -> str:
        lines.append(f'layer {{ name: "{blob}_relu" type: "ReLU" bottom: "{blob}" top: "{blob}" }}')
        return blob

    blob = relu(conv("conv1", "data", 64, 7, 2))
    lines.append(
        f'layer {{ name: "pool1" type: "Pooling" bottom: "{blob}" top: "pool1" '
        "pooling_param { pool: MAX kernel_size: 3 stride: 2 } }"
    )
    blob, width, channels = "pool1", 64, 64
    for stage, count in enumerate(BLOCKS[depth]):
        for block in range(count):
            name = f"res{stage + 2}_{block}"
            stride = 2 if stage and not block else 1
            shortcut = blob
            if channels != 4 * width or stride > 1:
                shortcut = conv(f"{name}_branch1", blob, 4 * width, 1, stride)
            inner = relu(conv(f"{name}_branch2a", blob, width, 1, stride))
            inner = relu(conv(f"{name}_branch2b", inner, width, 3))
            inner = conv(f"{name}_branch2c", inner, 4 * width, 1)
            lines.append(
                f'layer {{ name: "{name}" type: "Eltwise" bottom: "{shortcut}" '
                f'bottom: "{inner}" top: "{name}" }}'
            )
            blob, channels = relu(name), 4 * width
        width *= 2
    lines.append(
        f'layer {{ name: "pool5" type: "Pooling" bottom: "{blob}" top: "pool5" '
        "pooling_param { pool: AVE global_pooling: true } }"
    )
    lines.append(
        'layer { name: "fc1000" type: "InnerProduct" bottom: "pool5" top: "fc1000" '
        'inner_product_param { num_output: 1000 weight_filler { type: "xavier" } } }'
    )
    lines.append('layer { name: "prob" type: "Softmax" bottom: "fc1000" top: "prob" }')
    return "\n".join(lines)


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.down: nn.Module | None = None
        if channels != 4 * width or stride > 1:
            self.down = nn.Sequential(
                nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )
        self.conv1 = nn.Conv2d(channels, width, 1, stride, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.down is None else self.down(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += shortcut
        return self.relu(y)


class HandWrittenResNet(nn.Module):
    """The same net as one would write it in PyTorch, ReLU in place and all."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, ceil_mode=True),
        )
        blocks: list[nn.Module] = []
        channels, width = 64, 64
        for stage, count in enumerate(BLOCKS[depth]):
            for block in range(count):
                blocks.append(_Bottleneck(channels, width, 2 if stage and not block else 1))
                channels = 4 * width
            width *= 2
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures to probabilities."""
        y = self.pool(self.blocks(self.stem(x)))
        return torch.softmax(self.fc(y.flatten(1)), 1)


def copy_params(net: Net, module: nn.Module) -> None:
    """Random weights and statistics, the same in both: definition and module list them alike."""
    layers = list(net.layers.values())
    modules = list(module.modules())
    weighted = [m for m in modules if isinstance(m, nn.Conv2d | nn.Linear)]
    norms = [m for m in modules if isinstance(m, nn.BatchNorm2d)]
    torch.manual_seed(0)
    with torch.no_grad():
        found = of_types(layers, "Convolution", "InnerProduct")
        for ours, theirs in zip(found, weighted, strict=True):
            theirs.weight.copy_(ours.blobs[0])
            if theirs.bias is not None:
                theirs.bias.copy_(ours.blobs[1].normal_(0, 0.1))
        for ours, norm in zip(of_types(layers, "BatchNorm"), norms, strict=True):
            mean, variance, factor = ours.blobs
            norm.running_mean.copy_(mean.normal_(0, 0.1))  # type: ignore[union-attr]
            norm.running_var.copy_(variance.uniform_(0.5, 1.5))  # type: ignore[union-attr]
            factor.fill_(1)
        for ours, norm in zip(of_types(layers, "Scale"), norms, strict=True):
            norm.weight.copy_(ours.blobs[0].uniform_(0.2, 0.4))
            norm.bias.copy_(ours.blobs[1].normal_(0, 0.1))


def of_types(layers: list[Layer], *names: str) -> list[Layer]:
    """The layers of some types, in order."""
    return [layer for layer in layers if layer.type_name in names]


def caffenet_prototxt(batch: int) -> str:
    """CaffeNet's training net without its data layer (Krizhevsky et al. 2012, as Caffe's)."""
    lines = [
        'name: "CaffeNet"',
        'layer { name: "data" type: "Input" top: "data" input_param { '
        f"shape {{ dim: {batch} dim: 3 dim: 227 dim: 227 }} }} }}",
        'layer { name: "label" type: "Input" top: "label" input_param { '
        f"shape {{ dim: {batch} }} }} }}",
    ]
    bottom = "data"

    def add(kind: str, name: str, parameters: str = "", in_place: bool = False) -> None:
        nonlocal bottom
        top = bottom if in_place else name
        lines.append(
            f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" '
            f"{parameters} }}"
        )
        bottom = top

    filler = 'weight_filler { type: "gaussian" std: 0.01 }'
    pool, norm = (
        "pooling_param { pool: MAX kernel_size: 3 stride: 2 }",
        "lrn_param { local_size: 5 }",
    )
    convolutions = (
        ("96 kernel_size: 11 stride: 4", True), ("256 kernel_size: 5 pad: 2 group: 2", True),
        ("384 kernel_size: 3 pad: 1", False), ("384 kernel_size: 3 pad: 1 group: 2", False),
        ("256 kernel_size: 3 pad: 1 group: 2", None),
    )  # fmt: skip
    for i, (given, pooled) in enumerate(convolutions, 1):
        parameters = f"convolution_param {{ num_output: {given} {filler} }}"
        add("Convolution", f"conv{i}", parameters)
        add("ReLU", f"relu{i}", in_place=True)
        if pooled is not False:
            add("Pooling", f"pool{i}", pool)
        if pooled:
            add("LRN", f"norm{i}", norm)
    for i, outputs in ((6, 4096), (7, 4096), (8, 1000)):
        add("InnerProduct", f"fc{i}", f"inner_product_param {{ num_output: {outputs} {filler} }}")
        if i < 8:
            add("ReLU", f"relu{i}", in_place=True)
            add("Dropout", f"drop{i}", in_place=True)
    lines.append(
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc8" bottom: "label" top: "loss" }'
    )
    return "\n".join(lines)
