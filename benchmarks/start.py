"""`torrefy --help` against an interpreter that does nothing.

Exit code 1 when the help takes more than 12 times as long, or imports torch.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from harness import compare

LIMIT = 12.0


def run(*arguments: str) -> None:
    """A whole process, from its start to its end."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Compare; the exit code."""
    program = "import sys; from torrefy.cli import main; main(['--help'], standalone_mode=False);"
    run("-c", program + "assert 'torch' not in sys.modules")
    help_page = partial(run, "-m", "torrefy", "--help")
    ratio = compare("start", help_page, partial(run, "-c", "pass"), limit=LIMIT, rounds=15)
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
