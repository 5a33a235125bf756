"""Writes docs/plugins.md, a page of all hooks, from their specifications."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torrefy.plugins import API, hookspecs
from torrefy.plugins.manager import HOOKS

HEAD = """# Plugins

{about}
[Write your first layer in ten minutes](first-layer.md) goes from nothing to an installed package.

```toml
[project.entry-points.torrefy]
acme-layers = "acme_layers"
```

```python
from torrefy.plugins import hookimpl

TORREFY_API = {api}
```

- `torrefy plugins new acme-layers` writes a package that passes its own tests; `torrefy plugins`
  lists what is installed, what each adds, and why one is not used; `torrefy plugins check NAME`
  holds one to the rules.
- One file without a package: `--plugin FILE.py`, or `TORREFY_PLUGINS`. Left out by name:
  `--disable NAME`, or `TORREFY_DISABLE_PLUGINS` ("all": each). `--trace-hooks` tells what is asked.
- A plugin that fails is told once, by name and with the reason; the rest works on.
- Two plugins may mean different things by one name: `--dialect NAME`, or a comment in the
  definition, `# torrefy: dialect=NAME`, chooses.
- What authors import: `torrefy.layers` (`Layer`, `Shape`, `layer`, `field`, `Fields`, `Filler`,
  `filler`), `torrefy.plugins` (`hookimpl`, `Lazy`), `torrefy.testing`.

This page is made from `torrefy.plugins.hookspecs` by `make docs`.

## The hooks
"""


def page() -> str:
    """The page's text.

    Raises:
        ValueError: a hook says not what it is, since when, or gives no example.
    """
    about = inspect.cleandoc(hookspecs.__doc__ or "").partition("\n\n")[2]
    parts = [HEAD.format(about=about, api=API)]
    parts += [section(name, getattr(hookspecs, name)) for name in HOOKS]
    return "\n".join(parts)


def section(name: str, hook: Callable[..., Any]) -> str:
    """A hook's part of the page, from its docstring.

    Raises:
        ValueError: it lacks the docstring, a `Since` in its first paragraph, or an example.
    """
    text = inspect.getdoc(hook) or ""
    prose, _, example = text.partition("\nExample:\n")
    first, _, more = prose.strip().partition("\n\n")
    since = re.search(r" Since (\d+\.\d+)\.$", " ".join(first.split()))
    for lacks, what in (
        (not first, "docstring"),
        (since is None, '"Since 0.1." at the end of its first paragraph'),
        (not example.strip(), '"Example:"'),
    ):
        if lacks:
            raise ValueError(f"the hook {name} has no {what}")
    said = [first, *([more] if more else [])]
    return "\n\n".join([f"### {name}", *said, f"```python\n{inspect.cleandoc(example)}\n```\n"])


if __name__ == "__main__":
    (Path(__file__).parent / "plugins.md").write_text(page(), encoding="utf-8")
