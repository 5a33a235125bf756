"""The command line for tests: in this process, or whole in another one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from torrefy.cli import main

Run = Callable[..., Result]
Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Ctrl-C ends the tests still, after a command in this process that it had ended."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("check", "net.prototxt")` in this process, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TORREFY_DEBUG", raising=False)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, prog_name="torrefy")

    return run


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """`script("check", "net.prototxt")` by the installed script, in an empty working folder."""

    def script(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).with_name("torrefy"), *arguments],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return script
