"""What the tests share: nets of one layer, and the reference data where it is at hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torrefy.errors import DefinitionError
from torrefy.graph import State
from torrefy.net.net import Net, compile_net
from torrefy.schema import parse_text

SHARED = Path(__file__).parents[4] / "shared"


def pytest_configure(config: pytest.Config) -> None:
    """Know the markers without the repository's own settings, too."""
    config.addinivalue_line("markers", "network: needs a package index")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data that is not in the repository."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared here")
    return SHARED


def text_of(kind: str, *shapes: str, params: str = "", tops: int = 1) -> str:
    lines = [
        f'layer {{ name: "{n}" type: "Input" top: "{n}" input_param {{ shape {{ '
        + " ".join(f"dim: {d}" for d in shape.split("x"))
        + " } } }"
        for n, shape in zip("abcd", shapes, strict=False)
    ]
    ends = [f'bottom: "{n}"' for n in "abcd"[: len(shapes)]]
    ends += [f'top: "top{i}"' for i in range(tops)]
    lines.append(f'layer {{ name: "op" type: "{kind}" {" ".join(ends)}\n  {params} }}')
    return "\n".join(lines)


@pytest.fixture
def net_of() -> Callable[..., Net]:
    """A function that makes a net of one layer "op" with Input blobs a, b, c, d for bottoms."""

    def make(*arguments: str, phase: str = "test", **options: Any) -> Net:
        definition = parse_text(text_of(*arguments, **options), file="net.prototxt")
        return compile_net(definition, State(phase), seed=0)

    return make


@pytest.fixture
def error_of() -> Callable[..., str]:
    """A function like `net_of`, for nets that are refused.

    It gives the field whose value the error points at, and the message.
    """

    def told(*arguments: str, phase: str = "test", **options: Any) -> str:
        text = text_of(*arguments, **options)
        with pytest.raises(DefinitionError) as error:
            compile_net(parse_text(text, file="net.prototxt"), State(phase))
        file, line, column, rest = str(error.value).split(":", 3)
        assert file == "net.prototxt"
        at = text.splitlines()[int(line) - 1]
        before, after = at[: int(column) - 1], at[int(column) - 1 :]
        field = re.search(r"(\w+): *$", before) or re.match(r"(\w+)", after)
        assert field
        return f"{field[1]}:{rest}"

    return told
