"""Renames: which layer the tensors of a PyTorch module belong to, by a card's rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True)
class Rename:
    """A rule: modules that it fits, and the layers that get their tensors.

    `{i}` in the module stands for any text without a dot, one at most between two dots; a module
    is therefore compared part by part, without backtracking, whatever a card says.

    Example:
        >>> Rename("blocks.{i}.bn", "block{i}/bn").fit("blocks.7.bn")
        Rename(module='blocks.7.bn', layer='block7/bn', scale='')
        >>> Rename("blocks.{i}.bn", "block{i}/bn").fit("blocks.7.conv")
    """

    module: str
    layer: str = ""
    """Empty: the module is left out."""
    scale: str = ""
    """The Scale layer that gets a BatchNorm's weight and bias."""

    def fit(self, module: str) -> Rename | None:
        """The rule for this module alone, its names filled in; None where it doesn't fit."""
        wanted, parts = self.module.split("."), module.split(".")
        if len(wanted) != len(parts):
            return None
        found: dict[str, str] = {}
        for want, part in zip(wanted, parts, strict=True):
            match = _PLACEHOLDER.search(want)
            if match is None:
                if want != part:
                    return None
                continue
            before, after = want[: match.start()], want[match.end() :]
            inner = part[len(before) : len(part) - len(after)]
            if not inner or f"{before}{inner}{after}" != part:
                return None
            found[match[1]] = inner
        return Rename(module, _filled(self.layer, found), _filled(self.scale, found))


def renames(source: Any) -> tuple[Rename, ...]:
    """The rules of a Source message, in order."""
    return tuple(Rename(one.module, one.layer, one.scale) for one in source.rename)


def rename_problems(rename: Rename) -> Iterator[tuple[str, str, str]]:
    """What is wrong with a rule: messages, the field at fault and a hint."""
    if not rename.module:
        yield "a rename needs a module", "", ""
        return
    known = _PLACEHOLDER.findall(rename.module)
    for part in rename.module.split("."):
        if len(_PLACEHOLDER.findall(part)) > 1:
            yield f'"{part}" has two placeholders with no dot between them', "module", ""
    for name in sorted({name for name in known if known.count(name) > 1}):
        yield f"{{{name}}} stands in the module twice", "module", "Call one of them otherwise."
    for field in ("module", "layer", "scale"):
        text = getattr(rename, field)
        if re.search(r"[{}]", _PLACEHOLDER.sub("", text)):
            yield f'"{text}" has a brace that is no placeholder\'s', field, 'Write "{i}".'
        elif strange := [name for name in _PLACEHOLDER.findall(text) if name not in known]:
            there = ", ".join(f"{{{name}}}" for name in known) or "none"
            yield f"{{{strange[0]}}} is not in the module", field, f"There is {there}."
    if rename.scale and not rename.layer:
        yield "a rename with a scale needs a layer", "scale", ""


def _filled(text: str, found: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: found[match[1]], text)
