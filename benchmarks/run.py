"""A net's forward pass against the same net written by hand in PyTorch, both eager, on the CPU.

Exit code 1 when the compiled net takes more than 3 % longer.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import torch
from torch import nn

from harness import compare
from nets import HandWrittenResNet, resnet_prototxt
from torrefy.graph import State
from torrefy.layers.base import Layer
from torrefy.net.net import Net, compile_net
from torrefy.schema import parse_text

LIMIT = 1.03


def copy_params(net: Net, module: HandWrittenResNet) -> None:
    """Random weights and statistics, the same in both: definition and module list them alike."""
    layers = list(net.layers.values())
    convolutions, norms = ordered(module, nn.Conv2d), ordered(module, nn.BatchNorm2d)
    with torch.no_grad():
        for ours, theirs in zip(of_type(layers, "Convolution"), convolutions, strict=True):
            theirs.weight.copy_(ours.blobs[0])
        for ours, theirs in zip(of_type(layers, "BatchNorm"), norms, strict=True):
            mean, variance, factor = ours.blobs
            theirs.running_mean.copy_(mean.normal_(0, 0.1))
            theirs.running_var.copy_(variance.uniform_(0.5, 1.5))
            factor.fill_(1)
        for ours, theirs in zip(of_type(layers, "Scale"), norms, strict=True):
            theirs.weight.copy_(ours.blobs[0].uniform_(0.2, 0.4))
            theirs.bias.copy_(ours.blobs[1].normal_(0, 0.1))
        module.fc.weight.copy_(net.params["fc1000"][0])
        module.fc.bias.copy_(net.params["fc1000"][1])


def of_type(layers: list[Layer], type_name: str) -> list[Layer]:
    """The layers of a type, in order."""
    return [layer for layer in layers if layer.type_name == type_name]


def ordered(module: HandWrittenResNet, kind: type[nn.Module]) -> list[Any]:
    """Modules of a kind in the definition's order: a block's shortcut comes first."""
    found = list(module.stem.modules())
    for block in module.blocks:
        found += [*block.down.modules()] if block.down is not None else []
        found += [m for name, m in block.named_modules() if not name.startswith("down")]
    return [m for m in found if isinstance(m, kind)]


def main() -> int:
    """Compare at two batch sizes; the exit code."""
    net = compile_net(parse_text(resnet_prototxt(50)), State("test"), seed=0)
    hand = HandWrittenResNet(50).eval()
    copy_params(net, hand)
    ratios = []
    with torch.inference_mode():
        for batch in (1, 8):
            x = torch.randn(batch, 3, 224, 224)
            torch.testing.assert_close(net(data=x)["prob"], hand(x), rtol=1e-3, atol=1e-4)
            ours, theirs = partial(net, data=x), partial(hand, x)
            name = f"run: ResNet-50, batch {batch}"
            ratios.append(compare(name, ours, theirs, limit=LIMIT, rounds=15))
    return int(max(ratios) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
