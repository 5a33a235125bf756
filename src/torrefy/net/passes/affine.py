"""Layers that are a factor and an offset for each channel, and what weights become of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torrefy.layers.arithmetic import Power
from torrefy.layers.convolution import Convolution, Deconvolution
from torrefy.layers.dummy_data import DummyData
from torrefy.layers.elementwise import Eltwise
from torrefy.layers.inner_product import InnerProduct
from torrefy.layers.normalization import BatchNorm
from torrefy.layers.scale import Bias, Scale
from torrefy.net.passes.plan import Plan, Step


class Affine(NamedTuple):
    """x · factor + offset, with a number for each channel, in double precision."""

    factor: Tensor
    offset: Tensor
    cancels: float = 0.0
    """How many times larger than its result the offset may be: |mean| / deviation of a
    BatchNorm. As many times a product's rounding grows when the subtraction comes after it."""

    def then(self, other: Affine) -> Affine:
        """Both in a row, the other one behind."""
        return Affine(
            self.factor * other.factor,
            self.offset * other.factor + other.offset,
            max(self.cancels, other.cancels),
        )


def affine_of(plan: Plan, step: Step) -> Affine | None:
    """The affine map of the channels (axis 1) that a layer is in TEST; None: it is none."""
    if step.affine is not None:
        found: Affine = step.affine
        return found
    if not step.bottoms or len(step.tops) != 1:
        return None
    shape = plan.net.shapes.get(step.bottoms[0], ())
    if len(shape) < 2:
        return None
    layer, channels = step.layer, shape[1]
    if isinstance(layer, BatchNorm) and layer.use_global_stats is not False:
        mean, variance = (s.double() for s in layer.statistics())
        factor = torch.rsqrt(variance + layer.eps)
        cancels = float((mean * factor).abs().nan_to_num(torch.inf).max())
        return Affine(factor, -mean * factor, cancels)
    if isinstance(layer, Scale | Bias) and layer.per_channel:
        first = step.blobs[0].double()
        if isinstance(layer, Bias):
            return Affine(torch.ones_like(first), first)
        has_bias = len(step.blobs) > 1
        return Affine(first, step.blobs[1].double() if has_bias else torch.zeros_like(first))
    if isinstance(layer, Power) and layer.power == 1 and layer.scale != 0:
        return _constant(layer.scale, layer.shift, channels)
    if isinstance(layer, Eltwise):
        return _with_constants(plan, step, layer, channels)
    return None


def _constant(factor: float, offset: float, channels: int) -> Affine:
    return Affine(
        torch.full((channels,), factor, dtype=torch.float64),
        torch.full((channels,), offset, dtype=torch.float64),
    )


def _with_constants(plan: Plan, step: Step, layer: Eltwise, channels: int) -> Affine | None:
    """A sum or product of one value with constants that DummyData makes, or with itself."""
    producers = plan.producers()
    constants = [_value(producers.get(b), b) for b in step.bottoms]
    variable = {b for b, c in zip(step.bottoms, constants, strict=True) if c is None}
    if len(variable) != 1:
        return None
    weights = layer.coefficients or [1.0] * len(constants)
    if layer.operation == "SUM":
        pairs = list(zip(weights, constants, strict=True))
        factor = sum(w for w, c in pairs if c is None)
        offset = sum(w * c for w, c in pairs if c is not None)
    elif layer.operation == "PROD" and constants.count(None) == 1:
        factor, offset = 1.0, 0.0
        for constant in constants:
            factor *= 1.0 if constant is None else constant
    else:
        return None
    return _constant(factor, offset, channels) if factor else None


def _value(producer: Step | None, value: str) -> float | None:
    """The number that a constant blob is full of; None: it is no constant."""
    if producer is None or not isinstance(producer.layer, DummyData):
        return None
    return producer.layer.values[producer.tops.index(value)]


def variable_bottom(plan: Plan, step: Step) -> str:
    """The bottom of an affine step that is no constant."""
    producers = plan.producers()
    return next(b for b in step.bottoms if _value(producers.get(b), b) is None)


def folded_behind(step: Step, affine: Affine) -> tuple[Tensor, Tensor]:
    """Weight and bias with an affine map of the output channels behind a layer."""
    factor, offset = affine.factor, affine.offset
    weight = step.blobs[0].double()
    bias = step.blobs[1].double() if len(step.blobs) > 1 else torch.zeros_like(offset)
    layer = step.layer
    if isinstance(layer, Deconvolution):  # C×out/group×k…: group g's outputs are a block
        blocks = weight.reshape(layer.group, -1, *weight.shape[1:])
        by_block = factor.reshape(layer.group, 1, -1, *[1] * (weight.dim() - 2))
        scaled = (blocks * by_block).reshape(weight.shape)
    elif isinstance(layer, InnerProduct) and layer.transpose:
        scaled = weight * factor
    else:
        scaled = weight * factor.reshape(-1, *[1] * (weight.dim() - 1))
    return scaled, bias * factor + offset


def folded_in_front(step: Step, affine: Affine) -> tuple[Tensor, Tensor]:
    """Weight, and what the bias gets, with an affine map of the channels in front of a layer.

    The second is right only where every number of the top has read all channels at every tap: no
    padding, no transpose.
    """
    factor, offset = affine.factor, affine.offset
    weight = step.blobs[0].double()
    layer = step.layer
    if isinstance(layer, Deconvolution):
        scaled = weight * factor.reshape(-1, *[1] * (weight.dim() - 1))
        return scaled, torch.zeros(layer.num_output, dtype=weight.dtype, device=weight.device)
    if isinstance(layer, Convolution):
        blocks = weight.reshape(layer.group, -1, *weight.shape[1:])
        spread = (layer.group, 1, -1, *[1] * (weight.dim() - 2))
        scaled = (blocks * factor.reshape(spread)).reshape(weight.shape)
        return scaled, (blocks * offset.reshape(spread)).flatten(2).sum(2).flatten()
    places = weight.shape[0 if layer.transpose else 1] // len(factor)
    factor, offset = (part.repeat_interleave(places) for part in (factor, offset))
    if layer.transpose:
        return weight * factor.unsqueeze(1), offset @ weight
    return weight * factor, weight @ offset


def put(step: Step, weight: Tensor, bias: Tensor) -> bool:
    """Give a layer other weights, unless they are more than its numbers hold; whether it did."""
    number = step.blobs[0].dtype
    made = [weight.to(number), bias.to(number)]
    if not all(torch.isfinite(blob).all() for blob in made):
        return False
    if len(step.blobs) == 1 and not bias.any():
        made.pop()
    else:
        getattr(step.spec, step.layer.param).bias_term = True
    step.blobs = made
    return True
