"""Mean, variance and covariance of pictures that come one chunk after another."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from torrefy.errors import DataError


class Moments:
    """Sums of squared deviations around a running mean, in float64.

    Chunks and whole Moments are merged by the formulas of Chan, Golub and LeVeque (1979), which
    lose nothing where the mean is large beside the deviation. Variances are divided by the number
    of pictures, as numpy's.

    Example:
        >>> moments = Moments((1, 1, 2))
        >>> moments.add(np.array([[0.0, 5.0]]))
        >>> moments.add(np.array([[2.0, 5.0], [4.0, 5.0]]))
        >>> moments.count, moments.mean.ravel().tolist(), moments.variance.ravel().tolist()
        (3, [2.0, 5.0], [2.6666666666666665, 0.0])
    """

    def __init__(self, shape: tuple[int, int, int], *, covariance: bool = False) -> None:
        """Begin with no picture.

        Args:
            shape: C×H×W of all pictures.
            covariance: whether the products of all pairs of values are summed, too, which takes
                8·(C·H·W)² bytes.
        """
        size = math.prod(shape)
        self.shape = shape
        self.count = 0
        self._mean = np.zeros(size)
        self._squares = np.zeros(size)
        self._products = torch.zeros(size, size, dtype=torch.float64) if covariance else None

    def add(self, rows: NDArray[np.float64]) -> None:
        """Add pictures, as N rows of C·H·W values."""
        if not len(rows):
            return
        mean = rows.mean(axis=0)
        centred = rows - mean
        products = None
        if self._products is not None:
            values = torch.from_numpy(centred)
            # Added in place: a chunk's own matrix would be as large again.
            self._products.addmm_(values.T, values)
            products = self._products
        self._join(len(rows), mean, np.einsum("nd,nd->d", centred, centred), products)

    def merge(self, other: Moments) -> None:
        """Add all pictures that another one has seen.

        Raises:
            DataError: they were of another shape, or their covariance is known to one alone.
        """
        if other.shape != self.shape or (other._products is None) != (self._products is None):
            raise DataError("moments of other shapes or kinds can't be merged")
        if not other.count:
            return
        if self._products is not None and other._products is not None:
            self._products += other._products
        self._join(other.count, other._mean, other._squares, self._products)

    def _join(
        self,
        count: int,
        mean: NDArray[np.float64],
        squares: NDArray[np.float64],
        products: torch.Tensor | None,
    ) -> None:
        """Take another part's moments; its products are in `products` already."""
        whole = self.count + count
        shift = mean - self._mean
        weight = self.count * count / whole
        self._mean += shift * (count / whole)
        self._squares += squares + shift * shift * weight
        if products is not None:
            moved = torch.from_numpy(shift)
            products.addr_(moved, moved, alpha=weight)
        self.count = whole

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean picture, C×H×W."""
        return self._mean.reshape(self.shape).copy()

    @property
    def variance(self) -> NDArray[np.float64]:
        """The variance of each pixel, C×H×W."""
        return (self._squares / self.count).reshape(self.shape)

    @property
    def channel_mean(self) -> NDArray[np.float64]:
        """The mean of each channel over all its pixels."""
        mean: NDArray[np.float64] = self._mean.reshape(self.shape[0], -1).mean(axis=1)
        return mean

    @property
    def channel_variance(self) -> NDArray[np.float64]:
        """The variance of each channel over all its pixels."""
        within = self.variance.reshape(self.shape[0], -1).mean(axis=1)
        between = self._mean.reshape(self.shape[0], -1).var(axis=1)
        variance: NDArray[np.float64] = within + between
        return variance

    @property
    def covariance(self) -> torch.Tensor:
        """The covariance of all pairs of values, D×D with D = C·H·W.

        Raises:
            DataError: it was not asked for.
        """
        if self._products is None:
            raise DataError("the covariance was not asked for")
        return self._products / self.count
