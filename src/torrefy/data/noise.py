"""Numbers to run a net on where nobody gives any: random inputs, and weights that are not zeros."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torrefy.data.labels import label_limits
from torrefy.net.net import Net


def random_inputs(net: Net, seed: int = 0) -> dict[str, Tensor]:
    """An array for each input, of the shape that the net gives it, on the net's device.

    Normal numbers; where layers read class numbers, whole numbers that are right; zeros in what
    else looks like labels: a data layer's tops but the first, and inputs called so.
    """
    generator = torch.Generator().manual_seed(seed)
    limits = label_limits(net)
    first = {node.spec.top[0] for node in net.graph.nodes if node.feeds}
    arrays = {}
    for name, shape in net.inputs.items():
        if name in limits:
            array = torch.randint(max(limits[name].classes, 1), shape, generator=generator).float()
        elif name not in first or "label" in name.lower():
            array = torch.zeros(shape)
        else:
            array = torch.randn(shape, generator=generator)
        arrays[name] = array.to(net.device)
    return arrays


def stir(net: Net, seed: int = 0) -> None:
    """Let no weights and statistics of a net be all zeros.

    Most deploy nets name no fillers, and a GPU multiplies by zeros faster than by numbers (it
    takes less power, so that its clock stays up). Weights of several axes become normal numbers
    of variance 1 / fan-in, statistics 1; what has other values keeps them.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for param in net.parameters():
            if param.dim() > 1 and not param.any():
                spread = 1 / math.sqrt(max(1, math.prod(param.shape[1:])))
                param.copy_(torch.randn(param.shape, generator=generator) * spread)
        for buffer in net.buffers():
            if buffer.is_floating_point() and not buffer.any():
                buffer.fill_(1)
