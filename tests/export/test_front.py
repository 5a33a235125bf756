"""Statistics built into an exported file: it takes raw pictures and gives the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.cli.conftest import run
from tests.conftest import LENET

from torrefy.data.normalise.compute import compute_statistics
from torrefy.data.normalise.normaliser import Normaliser
from torrefy.data.normalise.statistics import Statistics
from torrefy.data.preprocess import Preprocessor
from torrefy.data.recipe import Recipe
from torrefy.data.sources.memory import ArraySource
from torrefy.data.transform import Transformer
from torrefy.errors import DataError, ExportError
from torrefy.export.front import Front
from torrefy.export.onnx import export_onnx
from torrefy.graph import State
from torrefy.net.net import Net, compile_net
from torrefy.runtime.session import OnnxModel
from torrefy.schema import parse_text

__all__ = ["run"]

LAYER = """layer { name: "d" type: "Data" top: "%s" top: "label" include { phase: TEST }
  data_param { source: "db" batch_size: 1 } transform_param { %s } }
"""


def layer(text: str, top: str = "data") -> Any:
    return parse_text(LAYER % (top, text)).message.layer[0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Statistics of pictures of 1x8x8 that were halved and moved, and what they are of."""
    random = np.random.default_rng(0)
    noise = random.normal(size=(300, 1, 8, 8)).cumsum(axis=2).cumsum(axis=3)
    pictures = np.clip(120 + 12 * noise, 0, 255).round().astype(np.uint8)
    np.save(tmp_path / "pictures.npy", pictures)
    source = ArraySource(pictures)
    made = compute_statistics(
        source,
        transform=Transformer(scale=0.5, mean=[100]),
        whiten=True,
        about=("scale: 0.5 mean_value: 100", ""),
    )
    made.write(tmp_path / "stats.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def small(shape: str = "dim: 1 dim: 1 dim: 8 dim: 8") -> Net:
    text = (
        f'name: "n" layer {{ name: "in" type: "Input" top: "other" input_param {{ shape {{ {shape} '
        f"}} }} }} "
        f'layer {{ name: "i" type: "Input" top: "data" input_param {{ shape {{ {shape} }} }} }}'
        'layer { name: "s" type: "Eltwise" bottom: "data" bottom: "other" top: "s" } '
        'layer { name: "ip" type: "InnerProduct" bottom: "s" top: "ip" inner_product_param { '
        'num_output: 3 weight_filler { type: "xavier" } } }'
    )
    return compile_net(parse_text(text), State("test"), seed=0)


@pytest.mark.parametrize(
    "kind", ["MEAN", "CHANNEL_MEAN", "STANDARDISE", "STANDARDISE_PIXELS", "PCA", "ZCA"]
)
def test_the_file_takes_raw_pictures(folder: Path, kind: str) -> None:
    net = small("dim: 1 dim: 64 dim: 1 dim: 1") if kind == "PCA" else small()
    text = f'scale: 0.5 mean_value: 100 statistics: "stats.safetensors" normalise: {kind}'
    report = export_onnx(net, "m.onnx", front=Front(layer(text), net))
    assert report.inputs["data"] == ("batch", 1, 8, 8)
    assert report.difference < 1e-4
    raw = np.load("pictures.npy")[:5].astype(np.float32)
    normalised = Normaliser(Statistics.read("stats.safetensors"), kind)((raw - 100) * 0.5)
    other = np.zeros(normalised.shape, np.float32)
    with torch.no_grad():
        expected = net(data=normalised, other=other)["ip"]
    found = OnnxModel("m.onnx").run({"data": raw, "other": other})["ip"]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_of_a_mean_image_the_centre_is_subtracted(folder: Path) -> None:
    image = np.arange(100, dtype=np.float32).reshape(1, 10, 10)
    np.save("mean.npy", image)
    pictures = np.load("pictures.npy")
    compute_statistics(ArraySource(pictures), about=('mean_file: "mean.npy"', "")).write(
        "of_mean.safetensors"
    )
    net = small()
    text = 'mean_file: "mean.npy" statistics: "of_mean.safetensors"'
    front = Front(layer(text), net)
    raw = pictures[:2].astype(np.float32)
    mean = Statistics.read("of_mean.safetensors").mean
    np.testing.assert_allclose(front(torch.from_numpy(raw)), raw - image[:, 1:9, 1:9] - mean,
                               atol=1e-4)  # fmt: skip
    np.testing.assert_allclose(front.expected(raw), front(torch.from_numpy(raw)), atol=1e-4)


def test_what_does_not_fit_is_refused_and_nothing_written(folder: Path) -> None:
    net = small()
    good = 'scale: 0.5 mean_value: 100 statistics: "stats.safetensors"'

    def told(error: type[Exception], text: str = good, top: str = "data") -> str:
        with pytest.raises(error) as raised:
            Front(layer(text, top), net)
        return str(raised.value)

    assert told(ExportError, top="dat") == (
        'layer "d": the net has no input "dat", which the layer makes. It has other, data.'
    )
    assert told(ExportError, f"{good} normalise: PCA") == (
        'layer "d": the layer makes 64x1x1, but the net\'s "data" is 1x8x8'
    )
    assert told(ExportError, "scale: 0.5") == 'layer "d": the layer has no statistics'
    assert "no scale or mean" in told(DataError, 'statistics: "stats.safetensors"')
    recipe = Recipe(preprocessor=Preprocessor.from_text("width: 8 height: 8 colour: GRAY mean: 9"))
    with pytest.raises(ExportError) as raised:
        export_onnx(net, "m.onnx", recipe=recipe, front=Front(layer(good), net))
    assert str(raised.value) == (
        "the preprocessing has a mean or a scale, and the file would do that itself. Leave out "
        "mean and scale where statistics are built in."
    )
    assert not (folder / "m.onnx").exists()


def test_the_command_builds_them_in(run: Any, folder: Path) -> None:
    (folder / "net.prototxt").write_text(LENET.replace("dim: 28 dim: 28", "dim: 8 dim: 8"))
    text = 'scale: 0.5 mean_value: 100 statistics: "stats.safetensors" normalise: ZCA'
    (folder / "train_val.prototxt").write_text(LAYER % ("data", text))
    options = ("net.prototxt", "--no-weights", "-o", "m.onnx", "--with-statistics")
    result = run("export", *options, "train_val.prototxt")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("input data: batchx1x8x8\noutput prob: batchx10\n")
    (folder / "train_val.prototxt").write_text(LAYER % ("data", ""))
    result = run("export", *options, "train_val.prototxt")
    assert result.output == (
        "train_val.prototxt: there is no data layer with statistics in phase test\n"
    )
