"""Fillers: the first values of params, by Caffe's formulae."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Generator, Tensor

from torrefy.errors import did_you_mean
from torrefy.plugins import Named, cached, named

Fill = Callable[[Tensor, Any, Generator | None], None]
"""Fills a tensor in place by a FillerParameter, random ones from a generator (None: torch's)."""

Unfit = tuple[str, str, str]
"""What is wrong, a hint, and the field of FillerParameter that it is about."""


@dataclass(frozen=True)
class Filler:
    """One filler; `@filler("name")` makes it of a function."""

    name: str
    fill: Fill
    check: Callable[[Any, tuple[int, ...]], Unfit | None]


def dense(parameters: Any, shape: tuple[int, ...]) -> Unfit | None:
    """The check of a filler that knows no `sparse`."""
    if parameters.sparse == -1:
        return None
    return f"sparse is for the gaussian filler, not for {parameters.type}", "", "sparse"


def filler(
    name: str, check: Callable[[Any, tuple[int, ...]], Unfit | None] = dense
) -> Callable[[Fill], Filler]:
    """Make a function a filler: `@filler("gaussian")`.

    Args:
        name: its `type` in the text.
        check: takes a FillerParameter and a shape, and gives what is wrong with them or None.
    """
    return lambda fill: Filler(name, fill, check)


def _fans(tensor: Tensor, parameters: Any) -> float:
    """The n of xavier and msra. As Caffe, shape[0] counts as outputs whatever the layer."""
    count = tensor.numel()
    fan_in = count / tensor.shape[0] if tensor.dim() else count
    fan_out = count / tensor.shape[1] if tensor.dim() > 1 else count
    norm = parameters.VarianceNorm.Name(parameters.variance_norm)
    return float({"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[norm])


@filler("constant")
def constant(tensor: Tensor, parameters: Any, generator: Generator | None) -> None:
    """`value`."""
    tensor.fill_(parameters.value)


def _range(parameters: Any, shape: tuple[int, ...]) -> Unfit | None:
    low, high = parameters.min, parameters.max
    if low > high:
        return f"min {low:g} is above max {high:g}", "", "min"
    return dense(parameters, shape)


@filler("uniform", _range)
def uniform(tensor: Tensor, parameters: Any, generator: Generator | None) -> None:
    """U(min, max)."""
    tensor.uniform_(parameters.min, parameters.max, generator=generator)


def _spread(parameters: Any, shape: tuple[int, ...]) -> Unfit | None:
    if parameters.std < 0:
        return f"std must be 0 or more, found {parameters.std:g}", "", "std"
    if parameters.sparse < -1:
        return f"sparse must be -1 or more, found {parameters.sparse}", "", "sparse"
    return None


@filler("gaussian", _spread)
def gaussian(tensor: Tensor, parameters: Any, generator: Generator | None) -> None:
    """N(mean, std); with `sparse`, each value stays with probability sparse / shape[0]."""
    tensor.normal_(parameters.mean, parameters.std, generator=generator)
    if parameters.sparse >= 0:
        kept = min(1.0, parameters.sparse / tensor.shape[0]) if tensor.dim() else 1.0
        tensor.mul_(torch.empty_like(tensor).bernoulli_(kept, generator=generator))


@filler("positive_unitball")
def positive_unitball(tensor: Tensor, parameters: Any, generator: Generator | None) -> None:
    """U(0, 1), and each row of shape[0] rows divided by its sum."""
    tensor.uniform_(0, 1, generator=generator)
    rows = tensor.view(tensor.shape[0] if tensor.dim() else 1, -1)
    rows.div_(rows.sum(1, keepdim=True))


@filler("xavier")
def xavier(tensor: Tensor, parameters: Any, generator: Generator | None) -> None:
    """U(−a, a), a = sqrt(3 / n); n by `variance_norm` (Glorot and Bengio 2010).

    torch's `xavier_uniform_` is this with AVERAGE.
    """
    limit = math.sqrt(3 / _fans(tensor, parameters))
    tensor.uniform_(-limit, limit, generator=generator)


@filler("msra")
def msra(tensor: Tensor, parameters: Any, generator: Generator | None) -> None:
    """N(0, sqrt(2 / n)); n by `variance_norm` (He et al. 2015, arXiv:1502.01852)."""
    tensor.normal_(0, math.sqrt(2 / _fans(tensor, parameters)), generator=generator)


def _square(parameters: Any, shape: tuple[int, ...]) -> Unfit | None:
    if len(shape) != 4 or shape[2] != shape[3]:
        return "the bilinear filler is for square kernels of two spatial axes", "", "type"
    return dense(parameters, shape)


@filler("bilinear", _square)
def bilinear(tensor: Tensor, parameters: Any, generator: Generator | None) -> None:
    """(1 − |x/f − c|)(1 − |y/f − c|), f = ceil(k/2), c = (k − 1)/(2 f): upsampling by f."""
    k = tensor.shape[3]
    f = math.ceil(k / 2)
    center = (k - 1) / (2 * f)
    line = 1 - (torch.arange(k, dtype=torch.float32) / f - center).abs()
    tensor.copy_((line[:, None] * line[None, :]).expand_as(tensor))


BUILT_IN = (bilinear, constant, gaussian, msra, positive_unitball, uniform, xavier)


@cached
def fillers() -> Named:
    """Every filler that there is, from all plugins, by name."""
    return named("torrefy_fillers", "name", "filler")


def unfit(parameters: Any, shape: tuple[int, ...]) -> Unfit | None:
    """Why a FillerParameter, number or tensor can't fill a blob of that shape; None: it can."""
    if isinstance(parameters, (int, float, Tensor)):
        return None
    name = parameters.type
    known = fillers()
    if name not in known:
        return f'there is no filler "{name}"', did_you_mean(name, known), "type"
    return cast(Filler, known[name]).check(parameters, shape)


def fill(tensor: Tensor, parameters: Any, generator: Generator | None = None) -> None:
    """Fill a tensor in place by a FillerParameter that fits it, with a number, or from a tensor.

    The generator must be on the tensor's device; None is torch's own, set by `torch.manual_seed`.
    """
    with torch.no_grad():
        if isinstance(parameters, (int, float)):
            tensor.fill_(parameters)
        elif isinstance(parameters, Tensor):
            tensor.copy_(parameters)
        else:
            fillers()[parameters.type].fill(tensor, parameters, generator)
