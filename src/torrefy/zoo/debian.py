"""Debian's packages, fetched by apt-get as the machine is set: its mirrors, proxies and keys."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from torrefy.errors import ZooError
from torrefy.zoo.progress import progress


def download_package(name: str, folder: Path) -> Path:
    """Fetch the version of a package that apt-get takes; nothing of it is installed or run.

    Args:
        name: the package.
        folder: where its archive is put; others of it there are removed.

    Raises:
        ZooError: there is no apt-get, it knows no such package, or can't fetch it.
    """
    program = shutil.which("apt-get")
    if program is None:
        raise ZooError("there is no apt-get here, which fetches Debian's packages")
    for left in folder.glob(f"{name}_*.deb"):
        left.unlink()
    with progress(f"Debian's {name}", None):
        done = subprocess.run(  # noqa: S603  the name is checked, and is no option
            [program, "download", "-q", name],
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    archives = list(folder.glob(f"{name}_*.deb"))
    if done.returncode or len(archives) != 1:
        said = [line for line in done.stderr.splitlines() if line.startswith("E: ")]
        code = f"exit code {done.returncode}" if done.returncode else "it fetched no archive"
        reason = said[-1].removeprefix("E: ") if said else code
        raise ZooError(f"apt-get: {reason}", hint="`apt-get update` may help.")
    return archives[0]
