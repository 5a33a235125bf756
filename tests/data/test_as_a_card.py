"""A data layer can show a net what its card's preprocessing shows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torrefy.data.draws import Draws
from torrefy.data.open import open_source, open_transform
from torrefy.data.preprocess import Preprocessor
from torrefy.schema import parse_text

LAYER = """layer {{ name: "data" type: "ImageData" top: "data" top: "label"
  image_data_param {{ source: "{list}" batch_size: 1 new_width: 12 new_height: 12 {more} }}
  transform_param {{ crop_size: 8 mean_value: [10, 20, 30] scale: 0.5 {rgb} }} }}
"""


@pytest.mark.parametrize("colour", ["BGR", "RGB"])
@pytest.mark.parametrize("resize", ["STRETCH", "SHORTER_SIDE"])
@pytest.mark.parametrize("kind", ["BILINEAR", "BICUBIC", "NEAREST"])
def test_it_does(tmp_path: Path, colour: str, resize: str, kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 57, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a.png 0\n")
    card = Preprocessor.from_text(
        f"width: 8 height: 8 resize_width: 12 resize_height: 12 resize: {resize} "
        f"interpolation: {kind} colour: {colour} mean: [10, 20, 30] scale: 0.5"
    )
    more = f"resampling: PILLOW_{kind} keep_aspect: {str(resize == 'SHORTER_SIDE').lower()}"
    rgb = "rgb: true" if colour == "RGB" else ""
    text = LAYER.format(list=tmp_path / "list.txt", more=more, rgb=rgb)
    spec = parse_text(text).message.layer[0]
    transform = open_transform(spec, "test")
    assert transform is not None
    seen = transform(open_source(spec, "test").item(0), Draws(0, 0))[0]
    assert np.array_equal(seen, card.read(tmp_path / "a.png"))
