"""Other people's trained nets find what is in a picture, and their files find the same."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import segno
import torch
import torrefy
from numpy.typing import NDArray
from PIL import Image
from torrefy.errors import ZooError
from torrefy.net.net import Net
from torrefy.runtime.session import OnnxModel
from torrefy.schema import new_message
from torrefy.zoo.sources import Sources

Rows = NDArray[np.float32]


def found_by_both(net: Net, picture: Rows, folder: Path) -> Rows:
    """The rows that a net finds, having been found by its file, too."""
    (name,) = net.inputs
    (output,) = net.outputs
    with torch.no_grad():
        rows: Rows = net(**{name: torch.tensor(picture)})[output][0, 0].numpy()
    report = torrefy.export_onnx(net, folder / "m.onnx")
    assert report.difference < 1e-5
    from_file = OnnxModel(folder / "m.onnx").run({name: picture})[output][0, 0]
    assert from_file.shape == rows.shape
    np.testing.assert_allclose(from_file, rows, atol=1e-5)
    return rows


def test_wechat_finds_a_qr_code_in_a_page(shared: Path, tmp_path: Path) -> None:
    weights = shared / "corpus" / "weights" / "wechat_qrcode"
    net = torrefy.load_net(weights / "detect.prototxt", weights=weights / "detect.caffemodel")
    drawn = io.BytesIO()
    segno.make("torrefy: to roast", error="m").save(drawn, kind="png", scale=6, border=4)
    code = Image.open(drawn).convert("L")
    page = Image.new("L", (384, 384), 190)
    left, top = 130, 40
    page.paste(code, (left, top))
    margin = 4 * 6
    truth = [left + margin, top + margin, left + code.width - margin, top + code.height - margin]
    picture = np.asarray(page, np.float32)[None, None] / 255
    ((image, label, score, *box),) = found_by_both(net, picture, tmp_path)
    assert (image, label) == (0, 1)
    assert score > 0.9
    assert np.array(box) * 384 == pytest.approx(np.array(truth), abs=8)
    # An empty page has none.
    with torch.no_grad():
        rows = net(data=torch.full((1, 1, 384, 384), 0.75))["detection_output"]
    assert rows.tolist() == [[[[0, -1, -1, -1, -1, -1, -1]]]]


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    """scikit-image's picture: Eileen Collins, 512 by 512."""
    source = new_message("torrefy.Source")
    source.url = "pypi:scikit-image==0.26.0#skimage/data/astronaut.png"
    source.sha256 = "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"
    try:
        with Sources("open_nsfw_reference") as sources:
            return Image.open(sources.get([source], "reference")[0]).convert("RGB")
    except ZooError as error:
        for sign in ("ConnectError", "ConnectTimeout", "ReadTimeout", "ProxyError"):
            if sign in str(error):
                pytest.skip(f"no package index: {error.problems[-1]}")
        raise


PRIORS = ((8, (10, 16, 24)), (16, (32, 48)), (32, (64, 96)), (64, (128, 192, 256)))
"""Of the ultra-light face detectors: each plane's step and the sides of its squares, in pixels."""


def detector(net: Net) -> str:
    """What the detectors' definitions leave to whoever runs them: priors and DetectionOutput."""
    height, width = net.inputs["input"][2:]
    text = ""
    for step, sides in PRIORS:
        size = (-(-height // step), -(-width // step))
        plane = next(blob for blob, shape in net.shapes.items() if shape[2:] == size)
        text += f"""
            layer {{ name: "prior{step}" type: "PriorBox" bottom: "{plane}" bottom: "input"
              top: "prior{step}" prior_box_param {{ step: {step}
              {" ".join(f"min_size: {side}" for side in sides)}
              variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 }} }}"""
    bottoms = " ".join(f'bottom: "prior{step}"' for step, _ in PRIORS)
    return f"""{text}
        layer {{ name: "priors" type: "Concat" {bottoms} top: "priors" concat_param {{ axis: 2 }} }}
        layer {{ name: "loc" type: "Flatten" bottom: "boxes" top: "loc" }}
        layer {{ name: "conf" type: "Flatten" bottom: "scores" top: "conf" }}
        layer {{ name: "found" type: "DetectionOutput" top: "found"
          bottom: "loc" bottom: "conf" bottom: "priors"
          detection_output_param {{ num_classes: 2 code_type: CENTER_SIZE
            confidence_threshold: 0.7 nms_param {{ nms_threshold: 0.3 top_k: 200 }} }} }}"""


@pytest.mark.network
@pytest.mark.parametrize("name", ["RFB-320", "slim-320"])
def test_ultra_light_detectors_find_the_one_face(
    shared: Path, tmp_path: Path, astronaut: Image.Image, name: str
) -> None:
    weights = shared / "corpus" / "weights" / "ultra_light_face"
    definition = weights / f"{name}.prototxt"
    whole = tmp_path / "net.prototxt"
    whole.write_text(definition.read_text() + detector(torrefy.load_net(definition)))
    net = torrefy.load_net(whole, weights=weights / f"{name}.caffemodel")
    pixels = np.asarray(astronaut.resize((320, 240), Image.Resampling.BILINEAR), np.float32)
    picture = np.ascontiguousarray(((pixels - 127) / 128).transpose(2, 0, 1)[None])
    ((image, label, score, *box),) = found_by_both(net, picture, tmp_path)
    assert (image, label) == (0, 1)
    assert score > 0.99
    # Forehead to chin, ear to ear, in pixels of the picture.
    assert np.array(box) * 512 == pytest.approx(np.array([180, 62, 269, 174]), abs=8)
