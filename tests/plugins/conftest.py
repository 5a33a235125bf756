"""Plugins for tests: files, and packages that are installed for one test."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from torrefy.plugins import reset


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """`installed("acme", source)`: a distribution acme-plugin 1.0 whose plugin is that text."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    others = {e.name for e in importlib.metadata.entry_points(group="torrefy")}
    monkeypatch.setenv("TORREFY_DISABLE_PLUGINS", ",".join(others))
    made: list[str] = []

    def install(name: str, source: str, distribution: str = "") -> Path:
        distribution = distribution or f"{name}-plugin"
        module = f"torrefy_test_{name}_{len(made)}"
        made.append(module)
        (folder / f"{module}.py").write_text(source)
        info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0")
        (info / "entry_points.txt").write_text(f"[torrefy]\n{name} = {module}\n")
        reset()
        return folder / f"{module}.py"

    yield install
    for module in made:
        sys.modules.pop(module, None)
    monkeypatch.undo()
    reset()
