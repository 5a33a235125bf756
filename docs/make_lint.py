"""Writes docs/lint.md, a page of all lint rules, from the rules themselves."""

from __future__ import annotations

import inspect
from pathlib import Path

from torrefy.lint.run import lint_rules

HEAD = """# What `torrefy check` warns of

Traps that cost Caffe's users days; a definition that falls into one still loads. `--select` and
`--ignore` take ids, beginnings of ids (`T1`) and names; `# torrefy: ignore=T104` silences a rule on
its line (or on the next, where it stands alone), `# torrefy: ignore-file=T104` in the whole file;
`--fix` mends what can surely be mended; `--strict` makes warnings count.

T1 are nets, T2 their data, T3 solvers. This page is made from the rules by `make docs`.
"""


def page() -> str:
    """The page's text."""
    parts = [HEAD]
    for rule in lint_rules().values():
        off = "" if rule.default else "\nOff unless it is selected.\n"
        parts.append(f"## {rule.id} {rule.name}\n\n{inspect.cleandoc(rule.doc)}\n{off}")
    return "\n".join(parts)


if __name__ == "__main__":
    (Path(__file__).parent / "lint.md").write_text(page(), encoding="utf-8")
