"""A new plugin package, installed by pip: its layer is listed, trains and exports.

Its augmentation is listed, drawn and trained with, too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from tests.e2e.conftest import Venv

TRAIN = """name: "tones"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 32 dim: 1 } } }
layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 32 dim: 1 } }
  include { phase: TRAIN } }
layer { name: "ip1" type: "InnerProduct" bottom: "x" top: "ip1"
  inner_product_param { num_output: 8 weight_filler { type: "xavier" } } }
layer { name: "snake1" type: "Snake" bottom: "ip1" top: "snake1" snake_param { a: 2 } }
layer { name: "ip2" type: "InnerProduct" bottom: "snake1" top: "ip2"
  inner_product_param { num_output: 1 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip2" bottom: "y" top: "loss"
  include { phase: TRAIN } }
"""
PICTURES = """name: "pictures"
layer { name: "data" type: "ImageData" top: "data" top: "label"
  image_data_param { source: "list.txt" batch_size: 2 shuffle: true }
  transform_param { augmentation { type: "Solarize" solarize_param { min: 200 } } } }
layer { name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip1" bottom: "label" top: "loss" }
"""
SOLVER = """net: "pictures.prototxt" base_lr: 0.0001 lr_policy: "fixed" max_iter: 2
  snapshot_after_train: false"""
STEPS = """
import torch
import torrefy
net = torrefy.load_net("net.prototxt", phase="train", seed=0)
x = torch.linspace(-3, 3, 32)[:, None]
y = torch.sin(2 * x)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
for _ in range(50):
    loss = net.loss(net(x=x, y=y))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())
net.save("net.caffemodel")
"""


def test_a_new_package_is_installed_listed_trained_and_exported(
    fresh_venv: Venv, tmp_path: Path
) -> None:
    def run(*arguments: str, cwd: Path = tmp_path) -> str:
        done = fresh_venv.run(arguments, cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("torrefy", "plugins", "new", "acme-tones")
    package = tmp_path / "acme-tones"
    run("pip", "install", "--quiet", "./acme-tones")

    assert "acme-tones  acme-tones 0.1.0  acme_tones" in run("torrefy", "plugins")
    page = run("torrefy", "layers", "Snake")
    assert page.startswith("Snake: bottoms 1; tops 1; may work in place")
    assert "frequency of the sine, in radians per unit of x" in page
    assert "snake_param { a: 2 }" in page
    assert run("torrefy", "plugins", "check", "acme-tones") == "acme-tones: ok\n"

    (tmp_path / "net.prototxt").write_text(TRAIN)
    losses = [float(line) for line in run("python", "-c", STEPS).split()]
    assert losses[-1] < losses[0] / 2

    told = run("torrefy", "export", "net.prototxt", "net.caffemodel", "-o", "net.onnx")
    difference = re.search(
        r"largest difference between PyTorch and ONNX Runtime: ([\d.e+-]+)", told
    )
    assert difference is not None, told
    assert float(difference[1]) < 1e-5
    assert (tmp_path / "net.onnx").stat().st_size > 0

    page = run("torrefy", "data", "augmentations", "Solarize")
    assert page.startswith("Solarize\n\n255 ")
    assert "x where x is at least a threshold" in page
    assert "the least threshold, of 255" in page
    for i in range(2):
        Image.new("RGB", (12, 8), (90 * i, 100, 255)).save(tmp_path / f"{i}.png")
    (tmp_path / "list.txt").write_text("0.png 0\n1.png 1\n")
    (tmp_path / "pictures.prototxt").write_text(PICTURES)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    assert run("torrefy", "check", "--phase", "train", "pictures.prototxt").endswith("train\n")
    told = run("torrefy", "data", "preview", "pictures.prototxt", "--count", "2")
    assert told.startswith("wrote preview.png: layer data, ")
    with Image.open(tmp_path / "preview.png") as sheet:
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(1 << 16)}
    # As they are, and with their blue of 255 turned to 0: thresholds are 255 at most.
    assert {(0, 100, 255), (90, 100, 255), (0, 100, 0), (90, 100, 0)} <= colours
    assert "trained at iteration 2" in run("torrefy", "train", "solver.prototxt")

    assert " passed" in run("pytest", "-q", "-p", "no:cacheprovider", cwd=package)
    run("pip", "uninstall", "--quiet", "--yes", "acme-tones")
    refused = fresh_venv.run(["torrefy", "check", "net.prototxt"], tmp_path).stdout
    assert 'layer "snake1": LayerParameter has no field "snake_param". ' in refused
    assert 'Does its type, "Snake", need a plugin?' in refused
