"""A new plugin package, written from the one in `template/`: `torrefy plugins new acme-layers`."""

from __future__ import annotations

import importlib.util
import keyword
import re
import secrets
import shutil
import sys
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from torrefy.errors import Place, TorrefyError

NAME, MODULE = "acme-layers", "acme_layers"
"""What the template calls its package and its module: a package like any other, that is tested
and typed as it stands."""
RENAMED = {"gitignore": ".gitignore"}
"""Files that can't have their own names in the template."""


def new_plugin(name: str, folder: Path) -> list[Path]:
    """Write a plugin package that passes its own tests at once.

    It has one layer type, one augmentation, their tests, and the entry point by which Torrefy
    finds it. The licence is left to the author.

    Args:
        name: the package's name, "acme-layers"; its module is acme_layers.
        folder: where its folder, `folder/name`, is made.

    Returns:
        The files.

    Raises:
        TorrefyError: the name is no name of a package or is taken, the folder is there already,
            or can't be written.
    """
    module = module_of(name)
    target = folder / name
    place = Place(str(target))
    if target.exists() or target.is_symlink():
        raise TorrefyError(
            "it is there already", place=place, hint="Give another name, or remove it."
        )
    texts = dict(_texts(files("torrefy.testing") / "template", Path(), name, module))
    temporary = folder / f".{name}-{secrets.token_hex(4)}.part"
    try:
        for path, text in texts.items():
            file = temporary / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        temporary.rename(target)
    except OSError as error:
        raise TorrefyError(f"can't be written: {error.strerror}", place=place) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [target / path for path in texts]


def module_of(name: str) -> str:
    """The module of a package of that name.

    Raises:
        TorrefyError: it is no name for a package, or the module is another's.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_.][a-z0-9]+)*", name):
        raise TorrefyError(
            f'"{name}" is no name for a package',
            hint='It has lower-case letters and digits in words joined by "-": acme-layers.',
        )
    module = re.sub(r"[-.]", "_", name)
    if keyword.iskeyword(module) or module in sys.stdlib_module_names or _is_taken(module):
        raise TorrefyError(
            f'a package "{name}" would hide the module {module} of Python\'s or of another package',
            hint=f"Give another name: {name}-layers.",
        )
    return module


def _is_taken(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None


def _texts(here: Traversable, path: Path, name: str, module: str) -> list[tuple[Path, str]]:
    """The files of the template under their paths in the new package, with its names."""
    found: list[tuple[Path, str]] = []
    for entry in sorted(here.iterdir(), key=lambda entry: entry.name):
        if entry.name in ("__pycache__", ".pytest_cache"):
            continue
        own = path / RENAMED.get(entry.name, entry.name).replace(MODULE, module)
        if entry.is_dir():
            found += _texts(entry, own, name, module)
        else:
            text = entry.read_text(encoding="utf-8")
            found.append((own, text.replace(NAME, name).replace(MODULE, module)))
    return found
