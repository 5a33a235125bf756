"""What the README promises, through the shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import LENET

import torrefy

ROOT = Path(__file__).parents[2]
CARD_INPUT = "width: 28 height: 28 colour: GRAY scale: 0.00390625"


def torrefy_command(
    *arguments: str, cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "torrefy", *arguments], cwd=cwd, capture_output=True, text=True,
        env={**os.environ, **environment}, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A definition, its weights, a recipe, and pictures of which one is broken."""
    (tmp_path / "net.prototxt").write_text(LENET)
    torrefy.load_net(tmp_path / "net.prototxt", seed=0).save(tmp_path / "w.caffemodel")
    (tmp_path / "input.prototxt").write_text(CARD_INPUT)
    (tmp_path / "labels.txt").write_text("\n".join(f"digit {i}" for i in range(10)))
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(3):
        pixels = random.integers(0, 256, (40, 30 + i), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    return tmp_path


def test_from_prototxt_to_answers(folder: Path) -> None:
    exported = torrefy_command(
        "export", "net.prototxt", "w.caffemodel", "-o", "net.onnx", "--preprocessing",
        "input.prototxt", "--labels", "labels.txt", cwd=folder,
    )  # fmt: skip
    assert exported.returncode == 0, exported.stderr
    lines = exported.stdout.splitlines()
    assert lines[:2] == ["input data: batchx1x28x28", "output prob: batchx10"]
    assert lines[-2].startswith("largest difference between PyTorch and ONNX Runtime: ")
    assert lines[-1] == "wrote net.onnx"
    for name in ("net.prototxt", "w.caffemodel", "input.prototxt", "labels.txt"):
        (folder / name).unlink()  # the file needs nothing beside it
    answered = torrefy_command("classify", "--json", "--top", "2", "net.onnx", "photos", cwd=folder)
    assert answered.returncode == 1
    answer = json.loads(answered.stdout)
    assert [p["file"] for p in answer["pictures"]] == [f"photos/{i}.png" for i in range(3)]
    assert [len(p["classes"]) for p in answer["pictures"]] == [2, 2, 2]
    assert answer["pictures"][0]["classes"][0]["label"].startswith("digit ")
    assert [p["file"] for p in answer["problems"]] == ["photos/broken.jpg"]
    table = torrefy_command("classify", "net.onnx", "photos", "--top", "1", cwd=folder)
    assert table.returncode == 1
    assert len(table.stdout.splitlines()) == 6
    assert table.stderr.startswith("photos/broken.jpg: ")
    assert table.stderr.splitlines()[-1] == "1 of 4 pictures could not be read"
    flipped = torrefy_command("classify", "net.onnx", "photos/0.png", "--tta", "flip", cwd=folder)
    assert flipped.stdout.splitlines()[0] == "photos/0.png (mean of 2 versions: flip)"
    told = json.loads(torrefy_command(
        "classify", "net.onnx", "photos/0.png", "--tta", "flip", "--json", cwd=folder
    ).stdout)  # fmt: skip
    assert told["tta"] == {"of": "flip", "versions": 2, "seed": 0}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("export", "net.prototxt", "-o", "n.onnx"), 2,
         "Error: give the weights too, or --no-weights"),
        (("export", "net.prototxt", "photos/0.png", "-o", "n.onnx"), 1,
         'photos/0.png: no format of weights has the suffix ".png"'),
        (("export", "net.prototxt", "w.caffemodel", "-o", "no/n.onnx"), 1,
         "no/n.onnx: there is no folder no"),
        (("export", "squeezenet", "-o", "n.onnx"), 1,
         'error: there is no zoo model "squeezenet". Did you mean "squeezenet_v1.1"?'),
        (("classify", "photos/0.png", "photos/1.png"), 1,
         "error: photos/0.png: expected a zoo model's name or an .onnx file"),
        (("classify", "n.onnx", "photos"), 1, "n.onnx: no such file"),
        (("classify", "w.onnx", "photos"), 1, "w.onnx: ONNX Runtime can't take this file: "),
        (("demo", "squeeznet"), 1, 'error: there is no zoo model "squeeznet"'),
    ],
)  # fmt: skip
def test_a_slip_is_one_line(
    folder: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (folder / "w.onnx").write_bytes((folder / "w.caffemodel").read_bytes())
    before = sorted(folder.rglob("*"))
    result = torrefy_command(*arguments, cwd=folder)
    assert result.returncode == code
    assert result.stderr.splitlines()[-1].startswith(message), result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(folder.rglob("*")) == before


def test_a_file_without_a_recipe_says_how_to_make_one(folder: Path) -> None:
    torrefy.export_onnx(torrefy.load_net(folder / "net.prototxt", seed=0), folder / "bare.onnx")
    result = torrefy_command("classify", "bare.onnx", "photos", cwd=folder)
    assert result.stderr == (
        "error: bare.onnx: the file doesn't say what is done to a picture. "
        "Export it with --preprocessing and --labels.\n"
    )


def test_labels_that_do_not_fit_are_told(folder: Path) -> None:
    (folder / "labels.txt").write_text("cat\ndog\n")
    result = torrefy_command(
        "export", "net.prototxt", "w.caffemodel", "-o", "net.onnx", "--preprocessing",
        "input.prototxt", "--labels", "labels.txt", cwd=folder,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr == 'error: 2 labels for the output "prob", which is 2x10\n'
    assert not (folder / "net.onnx").exists()


def test_the_public_names_are_there_and_cheap() -> None:
    code = (
        "import sys, torrefy; assert not {'torch', 'numpy', 'onnx'} & set(sys.modules); "
        "print(*(getattr(torrefy, n).__name__ for n in torrefy.__all__ if n != '__version__'))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == [n for n in torrefy.__all__ if n != "__version__"]


@pytest.mark.network
def test_a_wheel_works_in_an_empty_folder(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", ROOT],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if built.returncode and "Could not find a version" in built.stderr:
        pytest.skip("no package index to build with")
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    assert {
        "torrefy/py.typed", "torrefy/schema/schema.binpb", "torrefy/zoo/models/imagenet_labels.txt",
        "torrefy/zoo/models/squeezenet_v1.1/net.prototxt",
        "torrefy/zoo/models/open_nsfw/card.prototxt",
        "torrefy/zoo/models/lenet/lenet.caffemodel", "torrefy/zoo/models/datasets/mnist.prototxt",
    } <= names  # fmt: skip
    (tmp_path / "net.prototxt").write_text(LENET)
    where = {"PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"}
    for arguments in (("zoo", "info", "squeezenet_v1.1"), ("check", "net.prototxt")):
        result = torrefy_command(*arguments, cwd=tmp_path, **where)
        assert result.returncode == 0, result.stderr
    code = "import torrefy; print(torrefy.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, **where},
    )  # fmt: skip
    assert found.stdout.startswith(str(tmp_path))


@pytest.mark.network
def test_the_demo_sees_a_cat_and_tells_textures_apart(tmp_path: Path) -> None:
    result = torrefy_command("demo", "--json", "-o", str(tmp_path / "demo"), cwd=ROOT)
    if "ConnectError" in result.stdout or "ConnectTimeout" in result.stdout:
        pytest.skip("no package index")
    assert result.returncode == 0, result.stdout + result.stderr
    answer = json.loads(result.stdout)
    assert "cat" in answer["classes"][0]["label"]
    assert len(answer["classes"]) == 5
    assert answer["difference"] <= 1e-4
    assert (answer["right"], answer["tested"]) == (96, 96)
    assert (tmp_path / "demo/run/report.html").is_file()
