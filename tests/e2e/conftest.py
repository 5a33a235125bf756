"""A fresh virtual environment that sees what this one has, so that torch needn't be fetched."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

COMMANDS = {
    "torrefy": "torrefy.cli:main",
    "pytest": "pytest:main",
    "torchrun": "torch.distributed.run:main",
}
"""What stands in its bin beside Python and pip."""


@dataclass(frozen=True)
class Venv:
    """A virtual environment; packages are built there by what this one has, asking no index."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TORREFY_", "PYTHON"))}
        return {
            **kept,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
            "PIP_NO_INDEX": "1",
            "PIP_NO_DEPS": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # pip's own way of saying that there is none
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "COLUMNS": "100",
        }

    def run(
        self, arguments: Sequence[str], cwd: Path, timeout: int = 300
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.folder / "bin" / arguments[0], *arguments[1:]], cwd=cwd, capture_output=True,
            text=True, env=self.environment, timeout=timeout, check=False,
        )  # fmt: skip


@pytest.fixture
def fresh_venv(tmp_path: Path) -> Venv:
    """A new virtual environment; it finds torrefy and torch where the tests' own has them."""
    pytest.importorskip("hatchling")
    pytest.importorskip("editables")
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], timeout=120, check=True)
    python = folder / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout.strip()  # fmt: skip
    here = sysconfig.get_path("purelib")
    (Path(site) / "beside.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    for name, target in COMMANDS.items():
        module, _, function = target.partition(":")
        script = folder / "bin" / name
        script.write_text(f"#!{python}\nimport sys\nfrom {module} import {function}\n"
                          f"sys.exit({function}())\n")  # fmt: skip
        script.chmod(0o755)
    return Venv(folder)
