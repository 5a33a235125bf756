"""A net's forward pass against the same net written by hand in PyTorch, both eager, on the CPU.

Exit code 1 when the compiled net takes more than 3 % longer.
"""

from __future__ import annotations

import sys
from functools import partial

import torch

from harness import compare
from nets import HandWrittenResNet, copy_params, resnet_prototxt
from torrefy.graph import State
from torrefy.net.net import compile_net
from torrefy.schema import parse_text

LIMIT = 1.03


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
