"""The pages that show how to do things: what they show is done, and what they promise comes out."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Venv

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.M | re.S)


@dataclass(frozen=True)
class Step:
    """A file to write, or a command with the output that the page shows."""

    line: int
    file: str = ""
    command: str = ""
    text: str = ""


def steps(page: str) -> Iterator[Step]:
    """A page's titled blocks are whole files; its console blocks commands after "$ "."""
    for match in BLOCK.finditer(page):
        line = page.count("\n", 0, match.start()) + 1
        language, title, text = match.groups()
        if title:
            yield Step(line, file=title, text=text)
        elif language == "console":
            for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
                command, _, output = part.partition("\n")
                yield Step(line, command=command, text=output)


def agrees(shown: str, found: str) -> bool:
    """Whether an output is as it is shown, however wide; "..." stands for anything."""
    parts = [re.escape(part) for part in _squeezed(shown).split("...")]
    return re.fullmatch(".*".join(parts), _squeezed(found), re.S) is not None


def _squeezed(text: str) -> str:
    return "\n".join(re.sub(" +", " ", line).rstrip() for line in text.strip().splitlines())


FETCHES = [
    pytest.param(name, marks=pytest.mark.network)
    for name in ("finetune.md", "svm.md", "heads.md", "deploy.md")
]


TRAINING = pytest.param("training.md", marks=pytest.mark.slow)
MOVING = ("leaving-caffe.md", "from-cv2-dnn.md", "from-pycaffe.md")


@pytest.mark.parametrize("name", ["first-layer.md", TRAINING, *MOVING, *FETCHES])
def test_a_page_does_what_it_shows(name: str, fresh_venv: Venv, tmp_path: Path) -> None:
    folder = tmp_path
    for step in steps((DOCS / name).read_text()):
        if step.file:
            (folder / step.file).write_text(step.text)
            continue
        words = shlex.split(step.command)
        if words[0] == "cd":
            folder = folder / words[1]
            continue
        done = subprocess.run(
            step.command, shell=True, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env=fresh_venv.environment, timeout=300, check=False,
        )  # fmt: skip
        assert agrees(step.text, done.stdout), (
            f"{name}:{step.line}: `{step.command}` printed\n{done.stdout}"
        )
