"""`torrefy --help` against an interpreter that does nothing, and plugins against none.

Exit code 1 when the help takes more than 12 times as long, or imports torch; or when the plugins
that are installed make the start of the help, or of a command that reads a definition, longer
than 1.3 times what it is without them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from harness import compare

LIMIT = 12.0
PLUGINS = 1.3
NET = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }\n'


def run(*arguments: str) -> None:
    """A whole process, from its start to its end."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Compare; the exit code."""
    program = "import sys; from torrefy.cli import main; main(['--help'], standalone_mode=False);"
    run("-c", program + "assert 'torch' not in sys.modules")
    help_page = partial(run, "-m", "torrefy", "--help")
    ratio = compare("start", help_page, partial(run, "-c", "pass"), limit=LIMIT, rounds=15)
    passed = [ratio <= LIMIT]
    with tempfile.TemporaryDirectory() as folder:
        net = Path(folder) / "net.prototxt"
        net.write_text(NET)
        for arguments in (("--help",), ("fmt", str(net)), ("check", str(net))):
            command = partial(run, "-m", "torrefy", *arguments)
            bare = partial(run, "-m", "torrefy", "--disable", "all", *arguments)
            name = f"plugins, {arguments[0]}"
            passed.append(compare(name, command, bare, limit=PLUGINS, rounds=15) <= PLUGINS)
    return int(not all(passed))


if __name__ == "__main__":
    sys.exit(main())
