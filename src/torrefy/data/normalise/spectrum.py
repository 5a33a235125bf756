"""Eigenvalues and components of a covariance: exact for small pictures, incremental for large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from torrefy.errors import DataError

MOST_EXACT = 4096
"""The most values (C·H·W) of a picture whose whole covariance is made: 134 MB, and about six
times as much while it is decomposed."""
MOST_COMPONENTS = 256
"""How many components are found of larger pictures, unless it is said."""
MOST_BYTES = 1 << 32
"""The memory that the incremental way may take."""


@dataclass(frozen=True)
class Spectrum:
    """The largest eigenvalues of a covariance, and their directions."""

    eigenvalues: NDArray[np.float64]
    """k of them, the largest first, none below 0."""
    components: NDArray[np.floating[Any]]
    """kxD: rows of length 1, each with a positive value where it is farthest from 0."""


def exact_spectrum(covariance: torch.Tensor, count: int | None = None) -> Spectrum:
    """The eigenvalues and eigenvectors of a covariance, by torch.linalg.eigh in float64.

    Args:
        covariance: D×D, symmetric.
        count: how many of the largest are kept; None: all.
    """
    values, vectors = torch.linalg.eigh(covariance)
    count = len(values) if count is None else count
    return _ordered(values.numpy()[::-1][:count], vectors.numpy().T[::-1][:count])


class IncrementalSpectrum:
    """The largest components of chunks of pictures, by scikit-learn's IncrementalPCA.

    Of each chunk what is beyond the components is let go, so they are approximate: the first
    ones nearly exact, the last ones least (Ross et al. 2008).
    """

    method = "incremental: scikit-learn's IncrementalPCA"

    def __init__(self, size: int, count: int) -> None:
        """Begin with no picture.

        Args:
            size: C·H·W.
            count: how many components.

        Raises:
            DataError: they would take more memory than MOST_BYTES.
        """
        needed = _bytes(size, count)
        if needed > MOST_BYTES:
            raise DataError(
                f"{count} components of {size:,} values would take {needed / 1e9:.1f} GB",
                hint=f"Ask for {most_components(size)} at most, or make the pictures smaller.",
            )
        from sklearn.decomposition import IncrementalPCA

        self._pca = IncrementalPCA(count, copy=False)
        self.rows = count
        """How many pictures the first chunk has at least."""

    def add(self, rows: NDArray[np.float64]) -> None:
        """Add a chunk, N×D; it is written over."""
        self._pca.partial_fit(rows, check_input=False)

    def spectrum(self) -> Spectrum:
        """What was found so far."""
        values = self._pca.singular_values_**2 / self._pca.n_samples_seen_
        return _ordered(values, self._pca.components_.astype(np.float32))


def most_components(size: int) -> int:
    """How many components of pictures of so many values MOST_BYTES has room for."""
    return int(MOST_BYTES // _bytes(size, 1))


def _bytes(size: int, count: int) -> int:
    # A chunk of as many rows, the components before it, and the decomposition of both together.
    return 8 * size * count * 8


def _ordered(values: NDArray[np.float64], vectors: NDArray[Any]) -> Spectrum:
    """Signs that don't depend on the library; what rounding brought below 0 is 0."""
    farthest = np.abs(vectors).argmax(axis=1)
    signs = np.sign(vectors[np.arange(len(vectors)), farthest])
    return Spectrum(np.maximum(values, 0), np.ascontiguousarray(vectors * signs[:, np.newaxis]))
