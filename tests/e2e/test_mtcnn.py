"""The example of MTCNN: three of other people's nets in a row find the one face that is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.e2e.test_open_nsfw import PICTURES, fetch

from torrefy.errors import ZooError
from torrefy.zoo.sources import Sources

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "mtcnn.py"


@pytest.fixture(scope="module")
def nets(shared: Path) -> Path:
    return shared / "corpus" / "weights" / "mtcnn"


@pytest.fixture(scope="module")
def astronaut() -> Path:
    """scikit-image's picture, 512 by 512."""
    name = "astronaut.png"
    try:
        with Sources("open_nsfw_reference") as sources:
            url = f"pypi:scikit-image==0.26.0#skimage/data/{name}"
            return fetch(sources, url, PICTURES[name])
    except ZooError as error:
        for sign in ("ConnectError", "ConnectTimeout", "ReadTimeout", "ProxyError"):
            if sign in str(error):
                pytest.skip(f"no package index: {error.problems[-1]}")
        raise


def faces_in(nets: Path, picture: Path, *options: str) -> list[list[list[int]]]:
    """What the example prints: for each face its box and the points of its landmarks."""
    ran = subprocess.run(
        [sys.executable, EXAMPLE, nets, picture, *options], capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    faces: list[list[list[int]]] = []
    for line in ran.stdout.splitlines():
        box = re.fullmatch(r"face (\d+) (\d+) (\d+) (\d+) score (0\.\d+|1\.0+)", line)
        point = re.fullmatch(r"  [a-z ]+ (\d+) (\d+)", line)
        if box:
            faces.append([[int(x) for x in box.groups()[:4]]])
        else:
            assert point, line
            faces[-1].append([int(x) for x in point.groups()])
    return faces


@pytest.mark.network
def test_the_face_and_its_landmarks_are_found(nets: Path, astronaut: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "faces.png"
    ((box, *points),) = faces_in(nets, astronaut, "-o", str(drawn))
    # Where a person sees the face: hairline to chin, temple to temple.
    assert np.abs(np.subtract(box, (178, 62, 268, 178))).max() <= 10
    eyes, (nose,), mouth = np.array(points[:2]), np.array(points[2:3]), np.array(points[3:])
    assert all(box[0] < x < box[2] and box[1] < y < box[3] for x, y in points)
    assert eyes[:, 1].max() < nose[1] < mouth[:, 1].min()
    assert eyes[0, 0] < nose[0] < eyes[1, 0]
    assert mouth[0, 0] < nose[0] < mouth[1, 0]
    changed = np.asarray(Image.open(drawn)) != np.asarray(Image.open(astronaut))
    assert changed[box[1] : box[3] + 1, box[0] : box[2] + 1].any()
    assert not changed[box[3] + 5 :].any()


@pytest.mark.network
def test_faces_of_several_sizes_are_found_wherever_they_are(
    nets: Path, astronaut: Path, tmp_path: Path
) -> None:
    # One as it is, at the right edge, and one of half the size.
    picture = Image.new("RGB", (700, 512), "gray")
    whole = Image.open(astronaut).convert("RGB")
    picture.paste(whole.crop((0, 0, 260, 512)), (440, 0))
    picture.paste(whole.resize((256, 256)), (100, 200))
    picture.save(tmp_path / "two.png")
    boxes = sorted(box for box, *_ in faces_in(nets, tmp_path / "two.png"))
    expected = [(189, 231, 234, 289), (620, 62, 706, 178)]
    assert np.abs(np.subtract(boxes, expected)).max() <= 10


def test_a_picture_without_a_face_gives_nothing(nets: Path, tmp_path: Path) -> None:
    for name, size in {"gray.png": (90, 60), "tiny.png": (3, 2)}.items():
        Image.new("RGB", size, "gray").save(tmp_path / name)
        assert faces_in(nets, tmp_path / name) == []
