"""Classifiers of ImageNet twice: as prototxt, and by hand in PyTorch.

Both list their convolutions, full connections and norms in one order, so that weights can be
copied from one to the other by `copy_params`. Fillers keep the numbers of all layers in range:
with numbers that shrink to nothing a benchmark would measure how a processor treats denormals.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nets import HandWrittenResNet, resnet_prototxt


class _Text:
    """A deploy net that grows by a layer a call; each call returns its top."""

    def __init__(self, name: str, size: int) -> None:
        self.lines = [
            f'name: "{name}"',
            'layer { name: "data" type: "Input" top: "data" '
            f"input_param {{ shape {{ dim: 1 dim: 3 dim: {size} dim: {size} }} }} }}",
        ]
        self.last = "data"

    def add(
        self, kind: str, name: str, given: str = "", *, bottoms: str = "", in_place: bool = False
    ) -> str:
        given_bottoms = (bottoms or self.last).split()
        top = given_bottoms[0] if in_place else name
        read = " ".join(f'bottom: "{bottom}"' for bottom in given_bottoms)
        self.lines.append(f'layer {{ name: "{name}" type: "{kind}" {read} top: "{top}" {given} }}')
        self.last = top
        return top

    def conv(self, name: str, out: int, given: str, *, bottom: str = "", norm: bool = False) -> str:
        """A convolution, with norm its BatchNorm and Scale, and a ReLU in place."""
        bias = "bias_term: false " if norm else ""
        self.add(
            "Convolution", name,
            f"convolution_param {{ num_output: {out} {given} {bias}"
            'weight_filler { type: "msra" } }', bottoms=bottom,
        )  # fmt: skip
        if norm:
            self.add("BatchNorm", f"{name}/bn", in_place=True)
            self.add("Scale", f"{name}/scale", "scale_param { bias_term: true }", in_place=True)
        return self.add("ReLU", f"{name}/relu", in_place=True)

    def pool(self, name: str, given: str, *, bottom: str = "") -> str:
        return self.add("Pooling", name, f"pooling_param {{ {given} }}", bottoms=bottom)

    def lrn(self, name: str) -> str:
        return self.add("LRN", name, "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")

    def full(self, name: str, out: int) -> str:
        return self.add(
            "InnerProduct", name,
            f'inner_product_param {{ num_output: {out} weight_filler {{ type: "msra" }} }}',
        )  # fmt: skip

    def done(self) -> str:
        self.add("Softmax", "prob")
        return "\n".join(self.lines)


KRIZHEVSKY = (
    ("conv1", 96, 3, 11, 4, 0, 1), ("conv2", 256, 96, 5, 1, 2, 2), ("conv3", 384, 256, 3, 1, 1, 1),
    ("conv4", 384, 384, 3, 1, 1, 2), ("conv5", 256, 384, 3, 1, 1, 2),
)  # fmt: skip
"""Name, outputs, inputs, kernel, stride, padding, groups (Krizhevsky et al. 2012)."""


def krizhevsky_prototxt(name: str, pool_first: bool) -> str:
    """AlexNet, which normalises before it pools, or CaffeNet, which pools first."""
    text = _Text(name, 227)
    for conv, out, _, kernel, stride, pad, group in KRIZHEVSKY:
        given = f"kernel_size: {kernel} stride: {stride} pad: {pad} group: {group}"
        text.conv(conv, out, given)
        number = conv[-1]
        if number in "12" and not pool_first:
            text.lrn(f"norm{number}")
        if number in "125":
            text.pool(f"pool{number}", "pool: MAX kernel_size: 3 stride: 2")
        if number in "12" and pool_first:
            text.lrn(f"norm{number}")
    for number in (6, 7):
        text.full(f"fc{number}", 4096)
        text.add("ReLU", f"relu{number}", in_place=True)
        text.add("Dropout", f"drop{number}", in_place=True)
    text.full("fc8", 1000)
    return text.done()


class Krizhevsky(nn.Module):
    """The same by hand."""

    def __init__(self, pool_first: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for name, out, channels, kernel, stride, pad, group in KRIZHEVSKY:
            layers += [nn.Conv2d(channels, out, kernel, stride, pad, groups=group)]
            layers += [nn.ReLU(inplace=True)]
            norm, pool = nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0), nn.MaxPool2d(3, 2)
            if name in {"conv1", "conv2"}:
                layers += [pool, norm] if pool_first else [norm, pool]
            elif name == "conv5":
                layers.append(pool)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(9216, 4096), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4096, 1000),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Pictures to probabilities."""
        return torch.softmax(self.classifier(self.features(x).flatten(1)), 1)


INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64), "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128), "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}  # fmt: skip
"""Outputs of 1x1; of 3x3's reduction and 3x3; of 5x5's reduction and 5x5; of the pooled branch's
(Szegedy et al. 2014, arXiv:1409.4842, table 1)."""


def googlenet_prototxt() -> str:
    """GoogLeNet without its side classifiers, pooling as Caffe's: sizes rounded up."""
    text = _Text("GoogLeNet", 224)
    half = "pool: MAX kernel_size: 3 stride: 2"
    text.conv("conv1", 64, "kernel_size: 7 stride: 2 pad: 3")
    text.pool("pool1", half)
    text.lrn("norm1")
    text.conv("conv2/reduce", 64, "kernel_size: 1")
    text.conv("conv2", 192, "kernel_size: 3 pad: 1")
    text.lrn("norm2")
    bottom = text.pool("pool2", half)
    for name, (one, reduce3, three, reduce5, five, pooled) in INCEPTIONS.items():
        i = f"inception_{name}"
        tops = [text.conv(f"{i}/1x1", one, "kernel_size: 1", bottom=bottom)]
        text.conv(f"{i}/3x3_reduce", reduce3, "kernel_size: 1", bottom=bottom)
        tops.append(text.conv(f"{i}/3x3", three, "kernel_size: 3 pad: 1"))
        text.conv(f"{i}/5x5_reduce", reduce5, "kernel_size: 1", bottom=bottom)
        tops.append(text.conv(f"{i}/5x5", five, "kernel_size: 5 pad: 2"))
        text.pool(f"{i}/pool", "pool: MAX kernel_size: 3 stride: 1 pad: 1", bottom=bottom)
        tops.append(text.conv(f"{i}/pool_proj", pooled, "kernel_size: 1"))
        bottom = text.add("Concat", f"{i}/output", bottoms=" ".join(tops))
        if name in {"3b", "4e"}:
            bottom = text.pool(f"pool{int(name[0])}", half)
    text.pool("pool5", "pool: AVE kernel_size: 7 stride: 1")
    text.add("Dropout", "drop", in_place=True)
    text.full("classifier", 1000)
    return text.done()


def _conv(channels: int, out: int, kernel: int, stride: int = 1, pad: int = 0) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, kernel, stride, pad), nn.ReLU(inplace=True))


class _Inception(nn.Module):
    def __init__(self, channels: int, outputs: tuple[int, ...]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pooled = outputs
        self.one = _conv(channels, one, 1)
        self.three = nn.Sequential(_conv(channels, reduce3, 1), _conv(reduce3, three, 3, 1, 1))
        self.five = nn.Sequential(_conv(channels, reduce5, 1), _conv(reduce5, five, 5, 1, 2))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), _conv(channels, pooled, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pooled(x)], 1)


class GoogLeNet(nn.Module):
    """The same by hand."""

    def __init__(self) -> None:
        super().__init__()

        def half() -> nn.Module:
            return nn.MaxPool2d(3, 2, ceil_mode=True)

        def norm() -> nn.Module:
            return nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)

        layers = [
            _conv(3, 64, 7, 2, 3), half(), norm(), _conv(64, 64, 1), _conv(64, 192, 3, 1, 1),
            norm(), half(),
        ]  # fmt: skip
        channels = 192
        for name, outputs in INCEPTIONS.items():
            layers.append(_Inception(channels, outputs))
            channels = outputs[0] + outputs[2] + outputs[4] + outputs[5]
            layers += [half()] if name in {"3b", "4e"} else []
        self.features = nn.Sequential(*layers, nn.AvgPool2d(7, 1), nn.Dropout())
        self.classifier = nn.Linear(channels, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures to probabilities."""
        return torch.softmax(self.classifier(self.features(x).flatten(1)), 1)


FIRES = ((2, 16, 64), (3, 16, 64), (4, 32, 128), (5, 32, 128), (6, 48, 192), (7, 48, 192),
         (8, 64, 256), (9, 64, 256))  # fmt: skip
"""Number, outputs of the squeeze, and of each expansion (Iandola et al. 2016, arXiv:1602.07360,
as its release 1.1); pooling stands before 2, 4 and 6."""


def squeezenet_prototxt() -> str:
    """SqueezeNet 1.1."""
    text = _Text("SqueezeNet", 227)
    bottom = text.conv("conv1", 64, "kernel_size: 3 stride: 2")
    for number, squeeze, expand in FIRES:
        if number in {2, 4, 6}:
            text.pool(f"pool{number - 1}", "pool: MAX kernel_size: 3 stride: 2", bottom=bottom)
        fire = f"fire{number}"
        bottom = text.conv(f"{fire}/squeeze", squeeze, "kernel_size: 1")
        one = text.conv(f"{fire}/1x1", expand, "kernel_size: 1", bottom=bottom)
        three = text.conv(f"{fire}/3x3", expand, "kernel_size: 3 pad: 1", bottom=bottom)
        bottom = text.add("Concat", f"{fire}/concat", bottoms=f"{one} {three}")
    text.add("Dropout", "drop9", in_place=True)
    text.conv("conv10", 1000, "kernel_size: 1")
    text.pool("pool10", "pool: AVE global_pooling: true")
    return text.done()


class _Fire(nn.Module):
    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = _conv(channels, squeeze, 1)
        self.one, self.three = _conv(squeeze, expand, 1), _conv(squeeze, expand, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.squeeze(x)
        return torch.cat([self.one(y), self.three(y)], 1)


class SqueezeNet(nn.Module):
    """The same by hand."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, 64, 3, 2)]
        channels = 64
        for number, squeeze, expand in FIRES:
            layers += [nn.MaxPool2d(3, 2, ceil_mode=True)] if number in {2, 4, 6} else []
            layers.append(_Fire(channels, squeeze, expand))
            channels = 2 * expand
        layers += [nn.Dropout(), _conv(channels, 1000, 1), nn.AdaptiveAvgPool2d(1)]
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures to probabilities."""
        return torch.softmax(self.features(x), 1)


SEPARABLE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5,
             (1024, 2), (1024, 1))  # fmt: skip
"""Outputs and stride of each depthwise separable convolution (Howard et al. 2017,
arXiv:1704.04861, table 1)."""


def mobilenet_prototxt() -> str:
    """MobileNet of width 1."""
    text = _Text("MobileNet", 224)
    text.conv("conv1", 32, "kernel_size: 3 stride: 2 pad: 1", norm=True)
    channels = 32
    for i, (out, stride) in enumerate(SEPARABLE, 2):
        depthwise = f"kernel_size: 3 pad: 1 stride: {stride} group: {channels}"
        text.conv(f"conv{i}/dw", channels, depthwise, norm=True)
        text.conv(f"conv{i}/sep", out, "kernel_size: 1", norm=True)
        channels = out
    text.pool("pool", "pool: AVE global_pooling: true")
    text.full("fc", 1000)
    return text.done()


class MobileNet(nn.Module):
    """The same by hand."""

    def __init__(self) -> None:
        super().__init__()

        def conv(channels: int, out: int, kernel: int, stride: int = 1, group: int = 1) -> None:
            layers.extend(
                (
                    nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=group, bias=False),
                    nn.BatchNorm2d(out),
                    nn.ReLU(inplace=True),
                )
            )

        layers: list[nn.Module] = []
        conv(3, 32, 3, 2)
        channels = 32
        for out, stride in SEPARABLE:
            conv(channels, channels, 3, stride, channels)
            conv(channels, out, 1)
            channels = out
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Linear(channels, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures to probabilities."""
        return torch.softmax(self.classifier(self.features(x).flatten(1)), 1)


CLASSICS = {
    "AlexNet": (lambda: krizhevsky_prototxt("AlexNet", False), lambda: Krizhevsky(False)),
    "CaffeNet": (lambda: krizhevsky_prototxt("CaffeNet", True), lambda: Krizhevsky(True)),
    "GoogLeNet": (googlenet_prototxt, GoogLeNet),
    "SqueezeNet": (squeezenet_prototxt, SqueezeNet),
    "MobileNet": (mobilenet_prototxt, MobileNet),
    "ResNet-50": (lambda: resnet_prototxt(50), lambda: HandWrittenResNet(50)),
}
"""Each net's definition and its module."""
