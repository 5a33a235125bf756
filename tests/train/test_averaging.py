"""`torrefy.train.scores.score` and `torrefy test` with test-time augmentation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tests.cli.conftest import Run, run

import torrefy
from torrefy.errors import TorrefyError
from torrefy.train.scores import score

__all__ = ["run"]

DATA = """
layer { name: "data" type: "ImageData" top: "data" top: "label"
  image_data_param { source: "list.txt" batch_size: 4 is_color: false }
  transform_param { crop_size: 8 scale: 0.00390625 } }
"""
CONV = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 3 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 4 weight_filler { type: "gaussian" std: 0.3 } } }
"""
# Pooled as a whole, columns count alike: mirrored it is the same.
BLIND = """
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip"
  inner_product_param { num_output: 4 weight_filler { type: "gaussian" std: 3 } } }
"""
JUDGES = """
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: eight pictures of 10x9 in list.txt, of four classes."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    lines = []
    for i in range(8):
        Image.fromarray(random.integers(0, 256, (10, 9), np.uint8)).save(f"{i}.png")
        lines.append(f"{i}.png {i % 4}\n")
    Path("list.txt").write_text("".join(lines))
    return tmp_path


def written(layers: str) -> torrefy.Net:
    """A net in net.prototxt and its weights in w.caffemodel."""
    Path("net.prototxt").write_text(DATA + layers)
    net = torrefy.load_net("net.prototxt", seed=3, shapes={"data": (4, 1, 8, 8)})
    net.save("w.caffemodel")
    return net


def scored(**options: Any) -> dict[str, torch.Tensor]:
    found = score("net.prototxt", "w.caffemodel", 2, loading={"workers": 0}, **options)
    return found.blobs


def pictures() -> torch.Tensor:
    """The eight pictures' middles as the layer makes them."""
    read = np.stack([np.asarray(Image.open(f"{i}.png")) for i in range(8)])
    return torch.from_numpy(read[:, None, 1:9, 0:8] * np.float32(1 / 256))


@pytest.mark.usefixtures("folder")
def test_probabilities_of_both_mirrors_are_averaged_before_they_meet_the_labels() -> None:
    net = written(CONV + JUDGES)
    x, labels = pictures(), torch.arange(8) % 4
    with torch.no_grad():
        parts = [net.run({"data": one}, ["ip"])["ip"].softmax(1) for one in (x, x.flip(-1))]
    p = (parts[0] + parts[1]) / 2
    found = scored(tta="flip")
    torch.testing.assert_close(found["loss"], F.nll_loss(p.log(), labels), rtol=1e-5, atol=1e-6)
    assert found["accuracy"] == pytest.approx(float((p.argmax(1) == labels).float().mean()))
    assert found["loss"] != scored()["loss"]


@pytest.mark.usefixtures("folder")
def test_a_net_that_sees_no_left_and_right_gives_the_same_for_both() -> None:
    written(BLIND + JUDGES)
    plain, flipped = scored(), scored(tta="flip")
    assert plain.keys() == flipped.keys() == {"loss", "accuracy"}
    torch.testing.assert_close(flipped["loss"], plain["loss"], rtol=1e-5, atol=1e-6)
    assert flipped["accuracy"] == plain["accuracy"]
    assert scored(tta="oversample")["loss"] != pytest.approx(float(plain["loss"]), rel=1e-4)


@pytest.mark.usefixtures("folder")
def test_outputs_without_labels_and_other_losses_are_averaged_as_they_are() -> None:
    net = written(
        CONV
        + 'layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }'
        + 'layer { name: "one" type: "Slice" bottom: "ip" top: "first" top: "rest" '
        "slice_param { slice_point: 1 } }"
        + 'layer { name: "still" type: "Silence" bottom: "rest" }'
        + 'layer { name: "distance" type: "EuclideanLoss" bottom: "first" bottom: "label" '
        'top: "distance" }'
    )
    x = pictures()
    with torch.no_grad():
        made = [net.run({"data": one}, ["prob", "first"]) for one in (x, x.flip(-1))]
    found = scored(tta="flip")
    prob = (made[0]["prob"] + made[1]["prob"]) / 2
    torch.testing.assert_close(found["prob"], prob.reshape(2, 4, 4).mean(0))
    first = (made[0]["first"] + made[1]["first"]).flatten() / 2
    expected = (first - torch.arange(8) % 4).square().sum() / 16
    torch.testing.assert_close(found["distance"], expected)


@pytest.mark.usefixtures("folder")
def test_drawn_versions_give_the_same_scores_each_time() -> None:
    written(CONV + JUDGES)
    given = ["Rotation min: -20 max: 20", "Translation pixels: 2"]
    assert scored(tta=given) == scored(tta=given)
    assert scored(tta=given)["loss"] != scored()["loss"]


@pytest.mark.usefixtures("folder")
def test_what_can_not_be_averaged_is_told() -> None:
    written(CONV + JUDGES)
    feeds = [{"data": torch.zeros(4, 1, 8, 8), "label": torch.zeros(4)}]
    with pytest.raises(TorrefyError) as error:
        scored(tta="flip", feeds=feeds)
    assert str(error.value) == (
        "there are no pictures to make versions of. They are made of what Data and ImageData "
        "layers read."
    )


@pytest.mark.usefixtures("folder")
def test_a_layer_that_reads_pictures_and_labels_themselves_is_told() -> None:
    written(
        'layer { name: "scaled" type: "Scale" bottom: "data" bottom: "label" top: "scaled" '
        "scale_param { axis: 0 } }"
    )
    with pytest.raises(TorrefyError) as error:
        scored(tta="flip")
    assert str(error.value) == (
        'net.prototxt:5:1: layer "scaled": it reads pictures and what is no picture, so nothing '
        "can be averaged before it"
    )


@pytest.mark.usefixtures("folder")
def test_the_command_says_of_what_the_mean_is(run: Run) -> None:
    written(BLIND + JUDGES)
    plain = run("test", "net.prototxt", "w.caffemodel", "--iterations", "2")
    flipped = run("test", "net.prototxt", "w.caffemodel", "--iterations", "2", "--tta", "flip")
    first, *rest = flipped.stdout.splitlines()
    assert first == "mean of 2 versions: flip"
    assert rest == plain.stdout.splitlines()
    result = run(
        "test", "net.prototxt", "w.caffemodel", "--iterations", "1", "--json",
        "--tta", "Rotation min: -5 max: 5", "--tta", "Flip", "--tta-count", "3", "--tta-seed", "2",
    )  # fmt: skip
    told = json.loads(result.stdout)
    assert told["tta"] == {"of": "Rotation min: -5 max: 5, Flip", "versions": 3, "seed": 2}
    assert json.loads(
        run("test", "net.prototxt", "w.caffemodel", "--iterations", "1", "--json").stdout
    )["tta"] is None  # fmt: skip
    wrong = run("test", "net.prototxt", "w.caffemodel", "--tta", "rotate")
    assert (wrong.exit_code, wrong.stderr) == (
        1,
        'error: nothing makes versions called "rotate". Did you mean "Rotation"?\n',
    )
    alone = run("test", "net.prototxt", "w.caffemodel", "--tta-count", "3")
    assert alone.exit_code == 2
    assert "Error: --tta-count says of how many versions: give --tta too" in alone.stderr
