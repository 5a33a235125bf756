"""What the tests of formats share: small nets of weights, and reading bytes as if from a file."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torrefy.errors import WeightsError
from torrefy.net.stored import StoredNet, read_weights

RANDOM = np.random.default_rng(7)


def floats(*shape: int, dtype: str = "f4") -> np.ndarray[Any, Any]:
    return RANDOM.standard_normal(shape).astype(dtype)


def same(net: StoredNet, other: StoredNet) -> None:
    """Fail unless both hold the same names, types and numbers."""
    assert (net.name, [(x.name, x.type) for x in net.layers]) == (
        other.name,
        [(x.name, x.type) for x in other.layers],
    )
    for mine, theirs in zip(net.layers, other.layers, strict=True):
        assert mine.places == theirs.places
        for blob, expected in zip(mine.blobs, theirs.blobs, strict=True):
            assert blob.shape == expected.shape
            assert blob.dtype.name == expected.dtype.name or not blob.size
            np.testing.assert_array_equal(blob, expected)


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as error:
        read_weights(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


@pytest.fixture(scope="session")
def survive() -> Iterator[Callable[[bytes, str], None]]:
    """Read bytes as a file of a suffix: anything but success and `WeightsError` fails.

    So does an array for which the file is too small, in Python's memory and numpy's.
    """
    folder = Path("/dev/shm")
    if not folder.is_dir():
        pytest.skip("no /dev/shm")

    def read(content: bytes, suffix: str) -> None:
        path = folder / f"torrefy-{os.getpid()}{suffix}"
        path.write_bytes(content)
        tracemalloc.start()
        try:
            for layer in read_weights(path).layers:
                for blob in layer.blobs:
                    with np.errstate(all="ignore"):
                        blob.sum()
        except WeightsError as error:
            assert len(error.problems) == 1
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            path.unlink()
        assert peak < (1 << 20) + 20 * len(content)

    yield read
