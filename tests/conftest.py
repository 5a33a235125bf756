"""What the tests share: the reference data where it is at hand, and small definitions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from torrefy.plugins import reset

SHARED = Path(__file__).parents[2] / "shared"

THIRDS = (0, *(pytest.param(i, marks=pytest.mark.slow) for i in (1, 2)))
"""Public texts are gone through by thirds: rows[third::3]."""


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data that is not in the repository."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared here")
    return SHARED


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torrefy without the plugins that happen to be installed."""
    monkeypatch.setenv("TORREFY_DISABLE_PLUGINS", "all")
    reset()
    yield
    monkeypatch.undo()
    reset()


LENET = """name: "LeNet"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 1 dim: 28 dim: 28 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool1" top: "ip1"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip1" top: "prob" }
"""


@pytest.fixture
def lenet(tmp_path: Path) -> Path:
    """A small net with a convolution, an in-place ReLU, pooling and a classifier."""
    path = tmp_path / "lenet.prototxt"
    path.write_text(LENET)
    return path
