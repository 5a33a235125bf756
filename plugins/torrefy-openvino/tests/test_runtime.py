"""OpenVINO's answers are ONNX Runtime's, and what it can't do is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torrefy
from PIL import Image
from torrefy.errors import TorrefyError
from torrefy.export.onnx import export_onnx
from torrefy.plugins.manager import contributions
from torrefy.runtime.base import find_runtime, open_session
from torrefy.runtime.runnable import Runnable
from torrefy.testing.plugins import check_plugin

NET = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 16 kernel_size: 5 weight_filler { type: "msra" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "norm1" type: "LRN" bottom: "conv1" top: "norm1" }
layer { name: "pool1" type: "Pooling" bottom: "norm1" top: "pool1"
  pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  convolution_param { num_output: 32 kernel_size: 3 group: 2 weight_filler { type: "msra" } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "ip1" type: "InnerProduct" bottom: "conv2" top: "ip1"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip1" top: "prob" }
"""
X = np.random.default_rng(0).normal(0, 1, (5, 3, 32, 32)).astype(np.float32)


@pytest.fixture
def net(tmp_path: Path) -> torrefy.Net:
    (tmp_path / "net.prototxt").write_text(NET)
    return torrefy.load_net(tmp_path / "net.prototxt", seed=0)


@pytest.fixture
def file(net: torrefy.Net, tmp_path: Path) -> Path:
    recipe = torrefy.Recipe(
        "net",
        torrefy.data.preprocess.Preprocessor.from_text("width: 32 height: 32 mean: 128 scale: .02"),
        labels=tuple("abcdefghij"),
    )
    return export_onnx(net, tmp_path / "net.onnx", recipe=recipe).path


def test_the_answers_are_the_nets(net: torrefy.Net, file: Path) -> None:
    session = open_session(Runnable(file), "openvino", threads=1)
    assert session.inputs == {"data": ("batch", 3, 32, 32)}
    assert session.outputs == {"prob": ("batch", 10)}
    kept = []
    for batch in (1, 5, 2):
        expected = net(data=X[:batch])["prob"].detach().numpy()
        found = session.run({"data": X[:batch]})["prob"]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        kept.append((found, expected))
    for found, expected in kept:  # no run writes into what another gave
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("size", [7, 8, 9, 12, 13])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(3, 2, 1), (3, 3, 1), (5, 3, 2), (2, 2, 0)])
def test_averages_of_windows_that_hang_over_are_caffes(
    size: int, kernel: int, stride: int, pad: int, tmp_path: Path
) -> None:
    (tmp_path / "p.prototxt").write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 '
        f"dim: {size} dim: {size} }} }} }}\n"
        'layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { pool: AVE '
        f"kernel_size: {kernel} stride: {stride} pad: {pad} }} }}"
    )
    net = torrefy.load_net(tmp_path / "p.prototxt")
    x = np.random.default_rng(0).normal(3, 1, (2, 2, size, size)).astype(np.float32)
    file = export_onnx(net, tmp_path / "p.onnx").path
    found = open_session(Runnable(file), "openvino").run({"data": x})["pool"]
    np.testing.assert_allclose(found, net(data=x)["pool"].detach().numpy(), atol=1e-5)


def test_bf16_is_near_fp32_and_not_the_same(net: torrefy.Net, file: Path) -> None:
    reason = find_runtime("openvino").missing("cpu", "bf16")
    if reason:
        pytest.skip(reason)
    found = open_session(Runnable(file), "openvino", precision="bf16").run({"data": X})["prob"]
    off = np.abs(found - net(data=X)["prob"].detach().numpy()).max()
    assert 1e-6 < off < 0.03


def test_a_file_in_int8_is_computed_as_by_onnx_runtime(file: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    random = np.random.default_rng(0)
    for i in range(40):
        pixels = random.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(pictures / f"{i}.png")
    torrefy.lower_precision(
        file, tmp_path / "low.onnx", "int8", calibrate=pictures, least_agreement=0
    )
    names = sorted(pictures.iterdir())
    ours, theirs = (
        np.stack(list(torrefy.Classifier(tmp_path / "low.onnx", runtime=name).predict(names)))
        for name in ("openvino", "onnxruntime")
    )
    np.testing.assert_allclose(ours, theirs, atol=0.03)  # each rounds its own way
    assert (ours.argmax(1) == theirs.argmax(1)).mean() > 0.9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda file: open_session(Runnable(file), "openvino").run({"dat": X}),
         '{file}: the model has no blob "dat". Did you mean "data"?'),
        (lambda file: open_session(Runnable(file), "openvino").run({"data": X}, ["x"]),
         '{file}: the model has no blob "x". It has prob.'),
        (lambda file: open_session(Runnable(file), "openvino").run({"data": X[:, :2]}),
         "{file}: OpenVINO failed: "),
        (lambda file: open_session(Runnable(file), "openvino", "abacus"),
         'openvino can\'t compute this here: OpenVINO has no device "abacus", but CPU'),
        (lambda file: open_session(Runnable(Path(file).with_name("bad.onnx")), "openvino"),
         "{folder}/bad.onnx: OpenVINO can't take this file: "),
    ],
)  # fmt: skip
def test_slips_are_told(call: Callable[[Path], object], message: str, file: Path) -> None:
    file.with_name("bad.onnx").write_bytes(b"no model")
    with pytest.raises(TorrefyError) as error:
        call(file)
    text = str(error.value)
    assert text.startswith(message.format(file=file, folder=file.parent))
    assert len(text.splitlines()) == 1


def test_openvino_is_imported_only_when_it_is_used() -> None:
    code = (
        "import sys; from torrefy.runtime.base import runtimes; assert 'openvino' in runtimes();"
        "assert 'openvino' not in sys.modules; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_plugin_keeps_the_rules() -> None:
    assert check_plugin("openvino") == []
    (given,) = (c for c in contributions("torrefy_runtimes") if c.plugin.name == "openvino")
    assert given.thing.name == given.load().name == "openvino"
