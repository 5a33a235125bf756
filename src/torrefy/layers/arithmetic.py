"""Arithmetic on each number: AbsVal, Exp, Log, Power."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer
from torrefy.layers.gradients import with_gradient, works_in_place


@layer("AbsVal")
class AbsVal(Layer):
    """|x|; the top has the bottom's shape. The gradient at 0 is 0, as in torch."""

    in_place = False
    fresh = True

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Drop the sign."""
        (x,) = bottoms
        return x.abs()


class _OfBase(Layer):
    """What Exp and Log share: a base, and x scaled and shifted."""

    fresh = True

    def setup(self, *bottoms: Shape) -> None:
        """Check the base, and read scale and shift."""
        base = self.p.base
        if base != -1 and not 0 < base < math.inf:
            raise self.error(f"base must be above 0, or -1 for e; found {base:g}", field="base")
        self.log_base = 1.0 if base == -1 else math.log(base)
        self.scale: float = self.p.scale
        self.shift: float = self.p.shift

    def inner(self, x: Tensor) -> Tensor:
        """The base's power or argument: scale · x + shift."""
        y = x if self.scale == 1 else x * self.scale
        return y + self.shift if self.shift else y


@layer("Exp")
class Exp(_OfBase):
    """base ^ (shift + scale · x); the default base of −1 stands for e.

    The top has the bottom's shape.
    """

    param = "exp_param"
    example = "exp_param { base: 2 }"

    def setup(self, *bottoms: Shape) -> None:
        """Turn base and shift into a power of e and a factor."""
        super().setup(*bottoms)
        self.rate = self.log_base * self.scale
        self.factor = math.exp(self.log_base * self.shift)

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Raise the base."""
        (x,) = bottoms
        y = torch.exp(x if self.rate == 1 else x * self.rate)
        return y if self.factor == 1 else y * self.factor


@layer("Log")
class Log(_OfBase):
    """The logarithm of shift + scale · x to a base; the default base of −1 stands for e.

    In place Caffe's backward takes the result y for x and writes the derivative over the top's
    diff before it multiplies by that: the gradient is (scale / (ln base · (shift + scale · y)))²
    whatever the layers above say.
    """

    param = "log_param"
    example = "log_param { shift: 1 }"

    def setup(self, *bottoms: Shape) -> None:
        """Check the base further: that of 1 has no logarithm."""
        super().setup(*bottoms)
        if self.log_base == 0:
            raise self.error("there is no logarithm to base 1", field="base")
        self.overwritten = works_in_place(self)

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Take the logarithm."""
        (x,) = bottoms
        if not self.overwritten:
            return self.log(x)
        y = self.log(x.detach())
        return with_gradient(x, y, lambda: self.derivative(y).square(), lost=True)

    def log(self, x: Tensor) -> Tensor:
        """The formula."""
        y = self.inner(x).log()
        return y if self.log_base == 1 else y / self.log_base

    def derivative(self, x: Tensor) -> Tensor:
        """The derivative of the formula."""
        return self.scale / self.log_base / self.inner(x)


@layer("Power")
class Power(Layer):
    """(shift + scale · x) ^ power.

    When scale · power is 0 the result is a constant (1 for power 0, else shift ^ power), with
    no gradient.

    In place Caffe's backward takes the result y for x and writes the derivative over the top's
    diff before it multiplies by that: the gradient is the derivative's square (scale² for power
    1) whatever the layers above say. Nets that are to be trained give the top another name.
    """

    param = "power_param"
    example = "power_param { scale: 0.0039215686 shift: -0.5 }"

    def setup(self, *bottoms: Shape) -> None:
        """Read the three numbers."""
        self.power: float = self.p.power
        self.scale: float = self.p.scale
        self.shift: float = self.p.shift
        self.overwritten = works_in_place(self)

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Scale, shift, raise."""
        (x,) = bottoms
        if self.power * self.scale == 0:
            return torch.full_like(x, 1.0 if self.power == 0 else self.shift**self.power)
        if not self.overwritten:
            return self.raised(x)
        y = self.raised(x.detach())
        return with_gradient(x, y, lambda: self.derivative(y).square(), lost=True)

    def inner(self, x: Tensor) -> Tensor:
        """What is raised: scale · x + shift."""
        y = x if self.scale == 1 else x * self.scale
        return y + self.shift if self.shift else y

    def raised(self, x: Tensor) -> Tensor:
        """The formula."""
        y = self.inner(x)
        if self.power == 1:
            return y
        return y * y if self.power == 2 else y.pow(self.power)

    def derivative(self, y: Tensor) -> Tensor:
        """The derivative as Caffe has it in place, where bottom and top are both y."""
        rate = self.power * self.scale
        if self.power == 1:
            return torch.full_like(y, rate)
        if self.power == 2:
            return rate * self.inner(y)
        # Else Caffe divides the top by what was raised; without a shift, by the bottom.
        return rate * y / self.inner(y) if self.shift else self.power * (y / y)
