"""Every hook is documented, and the page of them is in step."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from torrefy.plugins import hookspecs
from torrefy.plugins.manager import HOOKS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def made() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "make_hooks.py"))


def test_the_page_is_made_from_the_hooks(made: dict[str, Any]) -> None:
    assert (DOCS / "plugins.md").read_text(encoding="utf-8") == made["page"](), "run `make docs`"


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_says_what_it_is_since_when_and_shows_an_example(
    name: str, made: dict[str, Any]
) -> None:
    section = made["section"](name, getattr(hookspecs, name))
    compile(section.split("```python\n")[1].split("```")[0], name, "exec")


@pytest.mark.parametrize(
    ("doc", "lacks"),
    [
        (None, "docstring"),
        ("Things.\n\nExample:\n    pass", '"Since 0.1." at the end of its first paragraph'),
        ("Things. Since 0.1.", '"Example:"'),
    ],
)
def test_a_hook_that_is_not_documented_fails(
    doc: str | None, lacks: str, made: dict[str, Any]
) -> None:
    def torrefy_things() -> None: ...

    torrefy_things.__doc__ = doc
    with pytest.raises(ValueError, match=r"^the hook torrefy_things has no ") as error:
        made["section"]("torrefy_things", torrefy_things)
    assert str(error.value) == f"the hook torrefy_things has no {lacks}"
