"""`torrefy convert`, and what `torrefy export` tells of passes and of each layer's parity."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

import torrefy
from torrefy.cli import main
from torrefy.layers.activation import ReLU

NET = """name: "small"
layer { name: "pictures" type: "Data" top: "data" top: "label"
  transform_param { crop_size: 8 } data_param { source: "none" batch_size: 64 } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "b" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "ip" type: "InnerProduct" bottom: "c" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "msra" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("train_val.prototxt").write_text(NET)
    net = torrefy.load_net("train_val.prototxt", seed=0, shapes={"data": (64, 3, 8, 8)})
    mean, variance, factor = net.params["b"]
    with torch.no_grad():
        mean.fill_(0.1), variance.fill_(2), factor.fill_(1)
    net.save("net.caffemodel")
    return tmp_path


def run(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, list(words))
    assert done.exit_code == code, done.output
    return done.output


SHAPE = ("--shape", "data=1x3x8x8")


def test_a_net_for_training_is_converted_in_one_command(files: Path) -> None:
    told = run("convert", "train_val.prototxt", "net.caffemodel", "-o", "n.onnx", *SHAPE,
               "--explain")  # fmt: skip
    assert told.splitlines()[:7] == [
        "deploy: derive the net for inference: 2 layers",
        '  loss (SoftmaxWithLoss): became the Softmax "prob"',
        '  pictures (Data): became the input "data"',
        "fold-behind: fold BatchNorm, Scale, Bias, Power and constant Eltwise into the layer "
        "before: 1 layer",
        "  b (BatchNorm): folded into c",
        "input data: batchx3x8x8",
        "output prob: batchx3",
    ]
    x = np.random.default_rng(0).normal(size=(64, 3, 8, 8)).astype(np.float32)
    (prob,) = onnxruntime.InferenceSession("n.onnx").run(["prob"], {"data": x})
    net = torrefy.load_net("train_val.prototxt", "net.caffemodel", shapes={"data": (64, 3, 8, 8)})
    scores = net.run({"data": torch.from_numpy(x)}, ["ip"])["ip"]
    assert np.allclose(prob, scores.softmax(1).detach().numpy(), atol=1e-5)


def test_a_slip_is_told_and_nothing_written(files: Path) -> None:
    told = run("convert", "train_val.prototxt", "net.caffemodel", "-o", "n.onnx", code=1)
    assert told == (
        'train_val.prototxt:2:1: layer "pictures": the shape of "data" is known only from the data '
        '(batch 64, 8x8). Give it as --shape data=64xCx8x8, or shapes={"data": (64, C, 8, 8)}.\n'
    )
    told = run("convert", "train_val.prototxt", "no.caffemodel", "-o", "n.onnx", *SHAPE, code=1)
    assert told.startswith("no.caffemodel: no such file")
    assert not Path("n.onnx").exists()


def test_each_layer_is_compared(files: Path) -> None:
    words = ("export", "train_val.prototxt", "net.caffemodel", "-o", "n.onnx", *SHAPE)
    told = run(*words, "--parity", "layers")
    assert "no layer departs from PyTorch by more than 0.0001" in told
    found = json.loads(run(*words, "--parity", "layers", "--json"))
    assert [one["layer"] for one in found["layers_compared"]] == ["c", "r", "ip", "prob"]
    assert not any(one["departs"] for one in found["layers_compared"])
    assert [one["name"] for one in found["passes"] if one["changes"]] == ["deploy", "fold-behind"]


def test_a_layer_that_departs_is_named_and_the_export_refused(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = ReLU.forward

    def wrong(self: ReLU, bottom: torch.Tensor, **more: object) -> torch.Tensor:
        made = honest(self, bottom, **more)
        return made + 0.5 if torch.compiler.is_exporting() else made

    monkeypatch.setattr(ReLU, "forward", wrong)
    words = ("export", "train_val.prototxt", "net.caffemodel", "-o", "n.onnx", *SHAPE)
    told = run(*words, "--parity", "layers", code=1)
    assert "the first that departs from PyTorch is r" in told
    assert 'blob "prob": the file differs from the net by' in told
    assert not Path("n.onnx").exists()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("convert", "train_val.prototxt", "net.caffemodel", "-o", "net.txt"), 1,
         "net.txt: an ONNX file's name ends in .onnx\n"),
        (("convert", "train_val.prototxt", "net.caffemodel", "-o", "."), 1,
         ".: this is a folder. Name a file: -o net.onnx\n"),
        (("export", "train_val.prototxt", "net.caffemodel", "-o", "no/net.onnx"), 1,
         "no/net.onnx: there is no folder no\n"),
        (("svm", "export", "none", "-o", "net.png"), 1,
         "net.png: an ONNX file's name ends in .onnx\n"),
        (("export", "lenet", "-o", "l.onnx", "--labels", "none.txt"), 2,
         "Error: lenet knows its preprocessing and labels: leave out these\n"),
        (("features", "lenet", "empty", "-o", "f.npz"), 1,
         "empty: there is no picture in this folder\n"),
        (("similar", "f.npz", "empty"), 1, "empty: this is a folder. Give one picture.\n"),
        (("bench", "train_val.prototxt"), 1,
         "train_val.prototxt: a definition alone knows nothing. Give its weights: --weights, or "
         "weights=…\n"),
        (("classify", "lenet", "empty", "--threads", "999999"), 1,
         "error: 999999 threads would wait for each other on "),
    ],
)  # fmt: skip
def test_slips_are_told_before_anything_is_done(
    files: Path, words: tuple[str, ...], code: int, told: str
) -> None:
    Path("empty").mkdir()
    before = sorted(files.rglob("*"))
    done = CliRunner().invoke(main, words)
    assert done.exit_code == code
    assert told in done.stderr
    assert sorted(files.rglob("*")) == before
    if code == 1:
        problems = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)["problems"]
        assert problems[0]["message"] in done.stderr
