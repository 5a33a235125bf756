"""Chance that depends on a seed and a place in the stream of samples, and on nothing else."""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def mixed(*numbers: int) -> int:
    """64 bits that look random, from whole numbers (SplitMix64; Steele et al. 2014)."""
    state = 0
    for number in numbers:
        state = _mix((state + _STEP + number) & _MASK)
    return state


def named(seed: int, name: str) -> int:
    """A seed of its own for what has this name, so that two layers draw differently."""
    return mixed(seed, zlib.crc32(name.encode()))


class Draws:
    """The draws for one sample: the same whichever process makes it, and however often.

    Written out rather than taken from numpy, whose streams may change between versions: a
    resumed run sees the crops that it would have seen.

    Example:
        >>> draws = Draws(1, 7)
        >>> [draws.below(10) for _ in range(5)] == [Draws(1, 7).below(10)] * 5
        False
    """

    def __init__(self, seed: int, position: int) -> None:
        self._state = mixed(seed, position)

    def below(self, count: int) -> int:
        """A whole number from 0 to count − 1."""
        self._state = (self._state + _STEP) & _MASK
        return _mix(self._state) % count

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number from `low` on, below `high`."""
        return low + (high - low) * (self.below(1 << 53) / (1 << 53))

    def log_uniform(self, low: float, high: float) -> float:
        """A number whose logarithm is uniform: as often half as twice."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def chance(self, probability: float) -> bool:
        """Whether what happens so often happens now."""
        return self.uniform() < probability

    def normal(self, mean: float = 0.0, deviation: float = 1.0) -> float:
        """A number of the normal law (Box and Muller 1958)."""
        radius = math.sqrt(-2 * math.log(1 - self.uniform()))
        return mean + deviation * radius * math.cos(2 * math.pi * self.uniform())

    def beta(self, alpha: float, beta: float) -> float:
        """A number from 0 to 1 of the beta law, as the share of one of two of the gamma law."""
        one, other = self._log_gamma(alpha), self._log_gamma(beta)
        high = max(one, other)  # of numbers so small that only their logarithms can be held
        return math.exp(one - high) / (math.exp(one - high) + math.exp(other - high))

    def _log_gamma(self, shape: float) -> float:
        """The logarithm of a number of the gamma law (Marsaglia and Tsang 2000)."""
        if shape < 1:
            return self._log_gamma(shape + 1) + math.log(1 - self.uniform()) / shape
        d = shape - 1 / 3
        while True:
            x = self.normal()
            v = (1 + x / math.sqrt(9 * d)) ** 3
            if v > 0 and math.log(1 - self.uniform()) < x * x / 2 + d * (1 - v + math.log(v)):
                return math.log(d * v)


def permutation(count: int, *numbers: int) -> NDArray[np.int64]:
    """The numbers below `count` in an order that whole numbers determine."""
    state = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_STEP)
    state += np.uint64(mixed(*numbers))
    state = (state ^ (state >> np.uint64(30))) * np.uint64(_FIRST)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(_SECOND)
    return np.argsort(state ^ (state >> np.uint64(31)), kind="stable").astype(np.int64)


def _mix(state: int) -> int:
    state = ((state ^ (state >> 30)) * _FIRST) & _MASK
    state = ((state ^ (state >> 27)) * _SECOND) & _MASK
    return state ^ (state >> 31)
