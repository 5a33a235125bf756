"""The file of statistics: what is in it, read and written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.errors import DataError, Place, WeightsError
from torrefy.weights.files import opened, replacing
from torrefy.weights.safetensors import write_tensors

KEY = "torrefy.statistics"
"""Where the metadata of the file has its facts, as JSON."""
VERSION = 1
HINT = "`torrefy data stats` writes such files."


@dataclass(frozen=True)
class Statistics:
    """Statistics of pictures of one size, as a data layer gives them.

    In the file, a .safetensors, are the tensors `mean` and `std` (C×H×W), `channel_mean` and
    `channel_std` (C), and where whitening was asked for `eigenvalues` (k) and `components`
    (k×C×H×W); its metadata have the rest. Deviations and eigenvalues are divided by the number
    of pictures, not by one less.
    """

    count: int
    """How many pictures were seen."""
    mean: NDArray[np.float64]
    """CxHxW."""
    std: NDArray[np.float64]
    """CxHxW: the deviation of each pixel."""
    channel_mean: NDArray[np.float64]
    channel_std: NDArray[np.float64]
    """Over all pixels of a channel."""
    eigenvalues: NDArray[np.float64] | None = None
    """Of the covariance of all C·H·W values, the largest first; None: not asked for."""
    components: NDArray[np.floating[Any]] | None = None
    """kxCxHxW, of length 1 each."""
    epsilon: float = 1e-5
    """What is added to eigenvalues before their root is divided by."""
    method: str = ""
    """How eigenvalues were found: "exact", or "incremental: …"."""
    transform: str = ""
    """The fields of the layer's transform_param that change values: "scale: 0.5"."""
    source: str = ""
    """What the pictures are from."""
    seed: int = 0
    """Of the sample, where not all pictures were seen."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """C×H×W."""
        channels, height, width = self.mean.shape
        return channels, height, width

    @property
    def explained(self) -> float:
        """The share of the variance that the components have."""
        if self.eigenvalues is None:
            return 0.0
        total = float((self.std**2).sum())
        return min(1.0, float(self.eigenvalues.sum()) / total) if total else 1.0

    def notes(self) -> Iterator[str]:
        """What makes whitening doubtful, where anything does."""
        if self.eigenvalues is None:
            return
        kept = len(self.eigenvalues)
        if self.count <= kept:
            yield (
                f"{self.count:,} pictures tell no more than {self.count - 1:,} directions: in the "
                f"others of {kept:,} new pictures are multiplied by up to {self._most():.3g}. "
                f"Give more pictures, fewer --components, or a larger --epsilon."
            )
        elif self.eigenvalues.max() > 1e10 * (self.eigenvalues.min() + self.epsilon):
            yield (
                f"the eigenvalues are from {self.eigenvalues.max():.3g} to "
                f"{self.eigenvalues.min():.3g}: the last components are rounding errors. Give "
                f"fewer --components, or a larger --epsilon."
            )

    def _most(self) -> float:
        """The most that a direction is multiplied by."""
        least = float(np.min(self.eigenvalues)) if self.eigenvalues is not None else 1.0
        return float((least + self.epsilon) ** -0.5) if least + self.epsilon else math.inf

    def pca(self) -> NDArray[np.float64]:
        """The D×k matrix that makes of rows of pictures less their mean whitened coordinates.

        U (S + epsilon)^(-1/2), U's columns being the components. Where both are 0 nothing is left.

        Raises:
            DataError: there are no components.
        """
        values, vectors = self._whitening()
        roots = np.sqrt(values + self.epsilon)
        factors = np.divide(1, roots, out=np.zeros_like(roots), where=roots > 0)
        return np.ascontiguousarray((vectors * factors[:, np.newaxis]).T)

    def zca(self) -> NDArray[np.float64]:
        """The D×D matrix that whitens and keeps pictures pictures: U (S + epsilon)^(-1/2) Uᵀ.

        Raises:
            DataError: there are no components.
        """
        return self.pca() @ self._whitening()[1]

    def _whitening(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if self.eigenvalues is None or self.components is None:
            raise DataError("the statistics have no components", hint="Make them with --whiten.")
        return self.eigenvalues, self.components.reshape(len(self.components), -1).astype("f8")

    def write(self, path: Path | str) -> None:
        """Write the file, all of it or nothing.

        Raises:
            WeightsError: it can't be written.
        """
        facts = {
            "version": VERSION,
            "count": self.count,
            "epsilon": self.epsilon,
            "method": self.method,
            "transform": self.transform,
            "source": self.source,
            "seed": self.seed,
        }
        tensors: dict[str, NDArray[Any]] = {
            "mean": self.mean,
            "std": self.std,
            "channel_mean": self.channel_mean,
            "channel_std": self.channel_std,
        }
        if self.eigenvalues is not None and self.components is not None:
            tensors |= {"eigenvalues": self.eigenvalues, "components": self.components}
        with replacing(Path(path)) as file:
            write_tensors(file, tensors, {KEY: json.dumps(facts)})

    @classmethod
    def read(cls, path: Path | str) -> Statistics:
        """Read a file.

        Raises:
            DataError: it is missing, damaged, or no file of statistics.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        place = Place(str(path))
        try:
            opened(path, "a safetensors file", ".safetensors").close()
            with safe_open(path, framework="numpy", backend="pread") as file:
                text = (file.metadata() or {}).get(KEY)
                if text is None:
                    raise DataError("this file has no statistics", place=place, hint=HINT)
                tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
        except WeightsError as error:
            raise DataError(error.problems) from None
        except SafetensorError as error:
            reason = str(error).removeprefix("Error while deserializing header: ")
            raise DataError(
                f"cut off, damaged, or not a safetensors file: {reason[:200]}", place=place
            ) from None
        except OSError as error:
            raise DataError(f"can't be read: {error.strerror or error}", place=place) from None
        except MemoryError:
            raise DataError("there is not enough memory", place=place) from None
        try:
            fields: dict[str, Any] = {**_facts(text), **_tensors(tensors)}
            return cls(**fields)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise DataError(
                f"the statistics are damaged: {error}", place=place, hint=HINT
            ) from None


def _facts(text: str) -> dict[str, Any]:
    """The metadata, each of its own type."""
    facts = json.loads(text)
    if not isinstance(facts, dict) or facts.pop("version", None) != VERSION:
        raise ValueError(f"its version is not {VERSION}")
    kinds = {"count": int, "seed": int, "epsilon": float}
    kinds |= dict.fromkeys(("method", "transform", "source"), str)
    wrong = [name for name in {**kinds, **facts} if type(facts.get(name)) is not kinds.get(name)]
    if wrong:
        raise ValueError(f'"{wrong[0]}" is missing or of another type')
    if facts["count"] < 1 or not 0 <= facts["epsilon"] < math.inf:
        raise ValueError("a count below 1, or an epsilon below 0")
    return facts


def _tensors(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The tensors, of shapes that fit each other."""
    mean = tensors.get("mean", np.empty(0))
    if mean.ndim != 3 or not mean.size:
        raise ValueError('there is no "mean" of CxHxW')
    wanted: dict[str, tuple[int, ...]] = {"mean": mean.shape, "std": mean.shape}
    wanted |= dict.fromkeys(("channel_mean", "channel_std"), mean.shape[:1])
    if "components" in tensors or "eigenvalues" in tensors:
        count = tensors["eigenvalues"].size if "eigenvalues" in tensors else 0
        wanted |= {"eigenvalues": (count,), "components": (count, *mean.shape)}
    for name in {**wanted, **tensors}:
        found = tensors[name].shape if name in tensors else None
        if name not in wanted or found != wanted[name] or not tensors[name].size:
            raise ValueError(f'"{name}" is missing, of another shape, or unknown')
        if tensors[name].dtype.kind != "f" or not np.isfinite(tensors[name]).all():
            raise ValueError(f'"{name}" holds values that are no finite numbers')
    for name in ("std", "channel_std", "eigenvalues"):
        if name in tensors and tensors[name].min() < 0:
            raise ValueError(f'"{name}" holds values below 0')
    return dict(tensors)
