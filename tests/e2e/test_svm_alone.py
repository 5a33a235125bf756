"""What `torrefy svm export` wrote, where there is no Torrefy: the page's lines, every picture."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from torrefy.features.extract import Extractor, extract
from torrefy.features.merged import export_merged
from torrefy.features.svm import SVM, fit
from torrefy.zoo.fetch import fetch_dataset

PAGE = Path(__file__).parents[2] / "docs/svm.md"
ALONE = ("onnxruntime", "numpy", "pillow")
"""Beside what pip installs with them."""


@pytest.mark.network
def test_one_file_says_the_same_with_onnxruntime_numpy_and_pillow_alone(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], timeout=120, check=True)
    python = venv / "bin/python"
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *ALONE],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if installed.returncode:
        pytest.skip(f"no package index: {installed.stderr.splitlines()[-1]}")
    fetch_dataset("textures", tmp_path / "textures")
    extractor = Extractor("squeezenet_v1.1")
    features = extract(extractor, tmp_path / "textures")
    fit(features.take(np.flatnonzero(np.asarray(features.parts) == "train")), tmp_path / "svm")
    svm = SVM(tmp_path / "svm")
    export_merged(svm, tmp_path / "textures.onnx")
    tested = features.take(np.flatnonzero(np.asarray(features.parts) == "test"))
    found = svm.classify(tested)
    (code,) = re.findall(r'^```python title="use.py"\n(.*?)^```$', PAGE.read_text(), re.M | re.S)
    (tmp_path / "use.py").write_text(code)
    files = [f"textures/{name}" for name in tested.paths]
    done = subprocess.run(
        [python, "use.py", *files], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(files) == 96
    said = [line.split() for line in done.stdout.splitlines()]
    assert [word for _, word, _ in said] == [svm.classes[i] for i in found.classes.tolist()]
    assert np.allclose([float(score) for *_, score in said], found.scores.max(1), atol=1e-4)
    modules = subprocess.run(
        [python, "-c", "import torch"], capture_output=True, timeout=60, check=False
    )  # fmt: skip
    assert modules.returncode, "there is a torch in what should be without"
