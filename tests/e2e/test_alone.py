"""Exported files where there is no Torrefy: the pages' lines, and what they say of each picture."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from torrefy.cli import main
from torrefy.features.extract import Extractor, extract
from torrefy.features.merged import export_merged
from torrefy.features.svm import SVM, fit
from torrefy.runtime.classifier import Classifier
from torrefy.zoo.fetch import fetch_dataset

DOCS = Path(__file__).parents[2] / "docs"
ALONE = ("onnxruntime", "numpy", "pillow")
"""Beside what pip installs with them."""

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has these packages alone."""
    venv = tmp_path_factory.mktemp("alone") / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], timeout=120, check=True)
    python = venv / "bin/python"
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *ALONE],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if installed.returncode:
        pytest.skip(f"no package index: {installed.stderr.splitlines()[-1]}")
    modules = subprocess.run(
        [python, "-c", "import torch"], capture_output=True, timeout=60, check=False
    )  # fmt: skip
    assert modules.returncode, "there is a torch in what should be without"
    return python


def said(python: Path, page: str, title: str, folder: Path, files: list[str]) -> list[str]:
    """What a page's lines print of pictures."""
    text = (DOCS / page).read_text()
    (code,) = re.findall(rf'^```python title="{title}"\n(.*?)^```$', text, re.M | re.S)
    (folder / title).write_text(code)
    done = subprocess.run(
        [python, title, *files], cwd=folder, capture_output=True, text=True, timeout=120,
        check=False, env={"PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def pictures(folder: Path) -> list[str]:
    """Pictures of many sizes and kinds."""
    random = np.random.default_rng(0)
    names = []
    for number, (height, width) in enumerate(
        ((1, 1), (9, 300), (300, 9), (256, 256), (375, 500), (500, 333), (227, 227), (801, 640))
    ):
        y, x = np.mgrid[:height, :width]
        slopes = np.stack([x + y, 2 * x - y, (x // 9 + y // 7) % 2 * 200], axis=-1)
        noise = random.integers(0, 60, (height, width, 3))
        image = Image.fromarray(((slopes + noise) % 256).astype(np.uint8))
        name = f"{number}.{'jpg' if number % 2 else 'png'}"
        (image.convert("L") if number == 4 else image).save(folder / name)
        names.append(name)
    return names


@pytest.mark.parametrize(("title", "model"), [("whole.py", "squeezenet"), ("plain.py", "plain")])
def test_the_lines_that_are_shown_say_what_classify_says(
    title: str, model: str, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "deploy.md").read_text()
    (command,) = re.findall(rf"^\$ torrefy (export .* -o {model}.onnx.*)$", page, re.M)
    done = CliRunner().invoke(main, command.split())
    assert done.exit_code == 0, done.output
    files = pictures(tmp_path)
    found = [line.split("\t") for line in said(python, "deploy.md", title, tmp_path, files)]
    wanted = list(Classifier("squeezenet_v1.1").classify(map(Path, files), top=1))
    assert [label for _, _, label in found] == [one.guesses[0].label for one in wanted]
    scores = [one.guesses[0].score for one in wanted]
    np.testing.assert_allclose([float(score) for _, score, _ in found], scores, atol=1e-5)


def test_one_file_says_the_same_with_onnxruntime_numpy_and_pillow_alone(
    python: Path, tmp_path: Path
) -> None:
    fetch_dataset("textures", tmp_path / "textures")
    extractor = Extractor("squeezenet_v1.1")
    features = extract(extractor, tmp_path / "textures")
    fit(features.take(np.flatnonzero(np.asarray(features.parts) == "train")), tmp_path / "svm")
    svm = SVM(tmp_path / "svm")
    export_merged(svm, tmp_path / "textures.onnx")
    tested = features.take(np.flatnonzero(np.asarray(features.parts) == "test"))
    found = svm.classify(tested)
    files = [f"textures/{name}" for name in tested.paths]
    told = [line.split() for line in said(python, "svm.md", "use.py", tmp_path, files)]
    assert len(files) == 96
    assert [word for _, word, _ in told] == [svm.classes[i] for i in found.classes.tolist()]
    assert np.allclose([float(score) for *_, score in told], found.scores.max(1), atol=1e-4)
