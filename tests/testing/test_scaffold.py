"""A new plugin package: what is written, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from torrefy.errors import TorrefyError
from torrefy.testing import new_plugin

FILES = {
    ".gitignore", "README.md", "pyproject.toml", "src/sea_shells/__init__.py",
    "src/sea_shells/augmentations.py", "src/sea_shells/layers.py", "tests/test_augmentations.py",
    "tests/test_layers.py",
}  # fmt: skip


def test_a_package_has_the_name_that_was_asked_for(tmp_path: Path) -> None:
    files = new_plugin("sea-shells", tmp_path)
    assert {str(file.relative_to(tmp_path / "sea-shells")) for file in files} == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["sea-shells"]
    texts = [file.read_text() for file in files]
    assert not any("acme" in text for text in texts)
    assert 'sea-shells = "sea_shells"' in (tmp_path / "sea-shells/pyproject.toml").read_text()


def test_a_package_passes_its_own_tests_before_it_is_installed(tmp_path: Path) -> None:
    new_plugin("sea-shells", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path / "sea-shells", capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_a_new_package_costs_no_torch() -> None:
    code = (
        "import sys; from torrefy.testing import new_plugin, isolated_plugin; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (name, f'"{name}" is no name for a package. It has lower-case letters and digits in words '
         'joined by "-": acme-layers.')
        for name in ("", "Acme", "acme layers", "../acme", "-acme", "3d", "acme--layers", "größe")
    ]
    + [
        (name, f'a package "{name}" would hide the module {name} of Python\'s or of another '
         f"package. Give another name: {name}-layers.")
        for name in ("json", "class", "torch", "torrefy")
    ],
)  # fmt: skip
def test_a_name_that_can_not_be_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(TorrefyError) as error:
        new_plugin(name, tmp_path)
    assert str(error.value) == message
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "sea-shells").mkdir()
    (tmp_path / "sea-shells" / "notes").write_text("mine")
    with pytest.raises(TorrefyError) as error:
        new_plugin("sea-shells", tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/sea-shells: it is there already. Give another name, or remove it."
    )
    assert [path.name for path in tmp_path.rglob("*")] == ["sea-shells", "notes"]


def test_a_folder_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TorrefyError) as error:
        new_plugin("sea-shells", tmp_path / "file")
    assert str(error.value) == f"{tmp_path}/file/sea-shells: can't be written: Not a directory"
