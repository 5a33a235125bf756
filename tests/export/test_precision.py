"""Files in fewer bits: what they compute, what is told of them, and when they are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import torrefy
from torrefy.cli import main
from torrefy.export.precision.ranges import Spread
from torrefy.runtime.session import OnnxModel

NET = """name: "small"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 16 dim: 16 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "norm1" type: "LRN" bottom: "conv1" top: "norm1" }
layer { name: "pool1" type: "Pooling" bottom: "norm1" top: "pool1"
  pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "pool1" top: "ip"
  inner_product_param { num_output: 4 weight_filler { type: "msra" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
SEEN = "width: 16 height: 16 colour: RGB mean: 128 scale: 0.02"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A net, its weights, and 40 pictures of four colours with noise."""
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    Path("seen.prototxt").write_text(SEEN)
    torrefy.load_net("net.prototxt", seed=0).save("net.caffemodel")
    random = np.random.default_rng(0)
    Path("photos").mkdir()
    for i in range(40):
        colour = ((200, 60, 60), (60, 200, 60), (60, 60, 200), (200, 200, 60))[i % 4]
        pixels = np.clip(random.normal(colour, 30, (20, 20, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(f"photos/{i:02d}.png")
    return tmp_path


def export(*words: str, code: int = 0) -> str:
    line = ["export", "net.prototxt", "net.caffemodel", "-o", "low.onnx"]
    done = CliRunner().invoke(main, [*line, *words])
    assert done.exit_code == code, done.output
    return done.output


READY = ("--preprocessing", "seen.prototxt", "--calibrate", "photos")


def test_int8_is_measured_on_pictures_that_did_not_calibrate(folder: Path) -> None:
    told = json.loads(export(*READY, "--precision", "int8", "--json"))
    lowered = told["lowered"]
    assert told["file"] == lowered["file"] == "low.onnx"
    assert lowered["calibration"]["pictures"] + lowered["held_out"]["pictures"] == 40
    assert lowered["bytes"] < lowered["bytes_fp32"]
    types = {item.data_type for item in onnx.load("low.onnx").graph.initializer}
    assert onnx.TensorProto.INT8 in types
    net = torrefy.load_net("net.prototxt", "net.caffemodel")
    low, seen = OnnxModel("low.onnx"), torrefy.Classifier("low.onnx").preprocessor
    x = np.stack([seen.read(file) for file in sorted(Path("photos").iterdir())])
    exact = net.run({"data": torch.from_numpy(x)}, ["prob"])["prob"].detach().numpy()
    found = low.run({"data": x}, ["prob"])["prob"]
    assert 0 < np.abs(found - exact).max() < 0.1
    assert (found.argmax(1) == exact.argmax(1)).mean() >= lowered["held_out"]["top1"] - 0.1


def test_fp16_keeps_inputs_and_outputs_in_float32(folder: Path) -> None:
    told = export("--precision", "fp16", "--preprocessing", "seen.prototxt")
    assert "note: measured on 16 random inputs, not on pictures" in told
    model = onnx.load("low.onnx")
    ends = [*model.graph.input, *model.graph.output]
    assert {end.type.tensor_type.elem_type for end in ends} == {onnx.TensorProto.FLOAT}
    assert onnx.TensorProto.FLOAT16 in {item.data_type for item in model.graph.initializer}


def test_a_layer_that_is_named_stays_in_fp32(folder: Path) -> None:
    told = json.loads(export(*READY, "--precision", "int8", "--keep-fp32", "conv1", "--json"))
    assert "conv1" in told["lowered"]["kept"]
    assert 'there is no layer "conv2" to keep in fp32. Did you mean "conv1"?' in export(
        *READY, "--precision", "int8", "--keep-fp32", "conv2", code=1
    )


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--precision", "int8"), 1, "int8 needs pictures to calibrate on"),
        (("--precision", "bf16"), 1, "no file is written in bf16"),
        (("--precision", "int8", "--calibrate", "photos"), 1,
         "nothing says what is done to a picture before the net sees it"),
        (("--calibrate", "photos"), 2, "--calibrate, --held-out and --keep-fp32 are for fewer"),
        ((*READY, "--precision", "int8", "--with-preprocessing"), 2,
         "--precision goes with neither"),
    ],
)  # fmt: skip
def test_slips_are_told_and_nothing_written(
    folder: Path, words: tuple[str, ...], code: int, told: str
) -> None:
    assert told in export(*words, code=code)
    assert not Path("low.onnx").exists()


def test_what_agrees_too_little_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(24):
        (folder / f"photos/{i:02d}.png").unlink()
    monkeypatch.setattr(Spread, "clipped", lambda self, least: (self.least / 20, self.largest / 20))
    told = export(*READY, "--precision", "int8", "--least-agreement", "1", code=1)
    assert "int8 agrees too little with fp32: on 8 pictures that did not calibrate" in told
    assert "Nothing was written." in told
    assert not Path("low.onnx").exists()


def test_a_range_is_clipped_where_256_steps_fit_the_values_best() -> None:
    spread = Spread()
    random = np.random.default_rng(0)
    values = random.normal(size=(64, 8)).astype(np.float32)
    values[0, 0] = 6.0  # alone
    spread.add(values)
    low, high = spread.clipped()
    assert low == pytest.approx(values.min(), abs=1.2)
    assert 3 < high < 6
    assert spread.means == pytest.approx(values.mean(0), abs=1e-5)
