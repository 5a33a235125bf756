"""A small pretrained net, and small pictures to finetune it on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torrefy.weights.load import load_net

NET = """name: "small"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 12 dim: 12 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
  convolution_param { num_output: 16 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "drop" type: "Dropout" bottom: "conv2" top: "conv2" }
layer { name: "fc" type: "InnerProduct" bottom: "conv2" top: "fc"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
CARD = """name: "small" classes: 5 label: ["a", "b", "c", "d", "e"]
input {{ width: 12 height: 12 resize_width: 14 resize_height: 14 colour: {colour} mean: 128
  scale: 0.02 }}
weights {{ url: "file:net.caffemodel" sha256: "{sha}" }}
"""
COLOURS = {"rot": (200, 60, 60), "grün": (60, 200, 60), "blau ¼": (60, 60, 200)}


def make_model(folder: Path, colour: str = "RGB") -> Path:
    """A folder with a card, a definition and weights whose statistics are set."""
    folder.mkdir(parents=True)
    (folder / "net.prototxt").write_text(NET)
    net = load_net(folder / "net.prototxt", seed=1)
    mean, variance, factor = net.params["bn1"]
    variance.fill_(1.0)
    factor.fill_(1.0)
    del mean
    net.save(folder / "net.caffemodel")
    sha = hashlib.sha256((folder / "net.caffemodel").read_bytes()).hexdigest()
    (folder / "card.prototxt").write_text(CARD.format(sha=sha, colour=colour))
    return folder


def make_pictures(folder: Path, each: int = 10, seed: int = 0) -> Path:
    """A folder for each class; a class is a colour, with noise."""
    random = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(each):
            pixels = np.clip(random.normal(colour, 40, (20, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i} é.png")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "model")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_pictures(tmp_path / "photos")
