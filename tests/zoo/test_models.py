"""The zoo's own models: pulled for real, into the user's own cache, and tried on their samples."""

from __future__ import annotations

import hashlib

import pytest
import torch

import torrefy
from torrefy.errors import ZooError
from torrefy.zoo import cards, find_card, labels, pull, pull_sample
from torrefy.zoo.recipe import recipe_of

NAMES = [card.name for card in cards()]
READY = [name for name in NAMES if find_card(name).message.weights]
"""Those that have weights; the others are to be trained."""


def or_skip(error: ZooError) -> None:
    """Skip where the index can't be reached; any other failure is one."""
    for sign in ("ConnectError", "ConnectTimeout", "ReadTimeout", "ProxyError"):
        if sign in str(error):
            pytest.skip(f"no package index: {error.problems[-1]}")
    raise error


@pytest.mark.network
@pytest.mark.parametrize("name", READY)
def test_a_model_says_a_class_that_its_sample_expects(name: str) -> None:
    try:
        pulled = pull(name)
        picture = pull_sample(pulled.card)
    except ZooError as error:
        or_skip(error)
    message = pulled.card.message
    net = torrefy.load_net(pulled.definition, weights=pulled.weights)
    preprocessor = recipe_of(pulled.card).preprocessor
    assert preprocessor is not None
    pixels = torch.from_numpy(preprocessor.read(picture))[None]
    with torch.no_grad():
        out = net(**{message.input.blob: pixels})
    answer = out[message.output].flatten()
    classes = labels(pulled.card)
    assert len(answer) == len(classes)
    assert classes[int(answer.argmax())] in message.sample.label


@pytest.mark.network
def test_squeezenets_pickle_is_read_once() -> None:
    try:
        pulled = pull("squeezenet_v1.1")
    except ZooError as error:
        or_skip(error)
    before = pulled.weights.stat().st_mtime_ns
    assert pulled.weights.suffix == ".caffemodel"
    assert pull("squeezenet_v1.1").weights.stat().st_mtime_ns == before
    recorded = pulled.weights.with_name(f"{pulled.weights.name}.sha256").read_text().split()[0]
    assert recorded == hashlib.sha256(pulled.weights.read_bytes()).hexdigest()


def test_every_model_has_a_readme_a_licence_and_a_sample_where_it_has_weights() -> None:
    for name in NAMES:
        card = find_card(name)
        assert (card.folder / "README.md").is_file()
        assert card.message.license
        assert card.message.HasField("sample") == (name in READY)
