"""Fillers: the first values of params, by Caffe's formulae."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from torrefy.errors import did_you_mean


def _fans(tensor: Tensor, filler: Any) -> float:
    """The n of xavier and msra. As Caffe, shape[0] counts as outputs whatever the layer."""
    count = tensor.numel()
    fan_in = count / tensor.shape[0] if tensor.dim() else count
    fan_out = count / tensor.shape[1] if tensor.dim() > 1 else count
    norm = filler.VarianceNorm.Name(filler.variance_norm)
    return float({"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[norm])


def _constant(tensor: Tensor, filler: Any, generator: Generator) -> None:
    tensor.fill_(filler.value)


def _uniform(tensor: Tensor, filler: Any, generator: Generator) -> None:
    tensor.uniform_(filler.min, filler.max, generator=generator)


def _gaussian(tensor: Tensor, filler: Any, generator: Generator) -> None:
    tensor.normal_(filler.mean, filler.std, generator=generator)
    if filler.sparse >= 0:
        kept = min(1.0, filler.sparse / tensor.shape[0]) if tensor.dim() else 1.0
        tensor.mul_(torch.empty_like(tensor).bernoulli_(kept, generator=generator))


def _unitball(tensor: Tensor, filler: Any, generator: Generator) -> None:
    tensor.uniform_(0, 1, generator=generator)
    rows = tensor.view(tensor.shape[0], -1)
    rows.div_(rows.sum(1, keepdim=True))


def _xavier(tensor: Tensor, filler: Any, generator: Generator) -> None:
    limit = math.sqrt(3 / _fans(tensor, filler))
    tensor.uniform_(-limit, limit, generator=generator)


def _msra(tensor: Tensor, filler: Any, generator: Generator) -> None:
    tensor.normal_(0, math.sqrt(2 / _fans(tensor, filler)), generator=generator)


def _bilinear(tensor: Tensor, filler: Any, generator: Generator) -> None:
    k = tensor.shape[3]
    f = math.ceil(k / 2)
    center = (k - 1) / (2 * f)
    line = 1 - (torch.arange(k, dtype=torch.float32) / f - center).abs()
    tensor.copy_((line[:, None] * line[None, :]).expand_as(tensor))


FILLERS: dict[str, Callable[[Tensor, Any, Generator], None]] = {
    "bilinear": _bilinear,
    "constant": _constant,
    "gaussian": _gaussian,
    "msra": _msra,
    "positive_unitball": _unitball,
    "uniform": _uniform,
    "xavier": _xavier,
}


def unfit(filler: Any, shape: tuple[int, ...]) -> tuple[str, str] | None:
    """Why a FillerParameter (or number) can't fill a blob of that shape, and a hint; or None."""
    if isinstance(filler, (int, float)):
        return None
    if filler.type not in FILLERS:
        return f'there is no filler "{filler.type}"', did_you_mean(filler.type, FILLERS)
    if filler.type == "bilinear" and (len(shape) != 4 or shape[2] != shape[3]):
        return "the bilinear filler is for square kernels of two spatial axes", ""
    return None


def fill(tensor: Tensor, filler: Any, generator: Generator) -> None:
    """Fill a CPU tensor in place by a FillerParameter that fits it, or with a number."""
    with torch.no_grad():
        if isinstance(filler, (int, float)):
            tensor.fill_(filler)
        else:
            FILLERS[filler.type](tensor, filler, generator)
