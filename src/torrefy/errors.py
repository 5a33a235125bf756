"""The errors a user sees: each knows where, what, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Place:
    """A position in a text that someone wrote; lines and columns count from 1, 0 is unknown."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """One thing wrong: what, where, in which layer, and a hint on what to do."""

    message: str
    place: Place | None = None
    layer: str = ""
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.place}: " if self.place else ""
        layer = f'layer "{self.layer}": ' if self.layer else ""
        text = f"{place}{layer}{self.message}"
        if self.hint:
            text += f"{'' if text.endswith(('.', '?', '!')) else '.'} {self.hint}"
        return text


class TorrefyError(Exception):
    """Anything that Torrefy refuses. `problems` holds one `Problem` or several independent ones."""

    def __init__(
        self,
        message: str | Problem | Sequence[Problem],
        *,
        place: Place | None = None,
        layer: str = "",
        hint: str = "",
    ) -> None:
        if isinstance(message, str):
            self.problems: tuple[Problem, ...] = (Problem(message, place, layer, hint),)
        elif isinstance(message, Problem):
            self.problems = (message,)
        else:
            self.problems = tuple(message)
        super().__init__("\n".join(map(str, self.problems)))

    def within(self, *, place: Place | None = None, layer: str = "") -> Self:
        """The same error with place and layer filled in where they were not known yet."""
        return type(self)(
            [replace(p, place=p.place or place, layer=p.layer or layer) for p in self.problems]
        )


class DefinitionError(TorrefyError):
    """A prototxt, or the net it declares, is wrong."""


class LayerError(DefinitionError):
    """A layer can't be built or run with these parameters and shapes."""

    field: str = ""
    """The field at fault within the layer ("kernel_size"), for finding its place in the text."""


class WeightsError(TorrefyError):
    """A file of weights can't be read, or does not fit the net."""


class PictureError(TorrefyError):
    """A picture can't be read."""


class DataError(TorrefyError):
    """A source of data can't be read, or does not fit the net."""


class RecordError(DataError):
    """One record of a source can't be used; a loader may be told to pass over such ones."""


class ZooError(TorrefyError):
    """A zoo model can't be found, fetched or verified."""


class ExportError(TorrefyError):
    """An export failed, or disagreed with the net it came from."""


class PluginError(TorrefyError):
    """A plugin failed, or two plugins contradict each other."""


def _likeness(one: str, other: str) -> float:
    """0 for names that have nothing in common, 1 for the same."""
    # What all fields of parameters end in says nothing, nor what files of one kind do.
    one, other = one.removesuffix("_param"), other.removesuffix("_param")
    if one.rpartition(".")[2] == other.rpartition(".")[2]:
        one, other = (name.rpartition(".")[0] or name for name in (one, other))
    ratio = difflib.SequenceMatcher(None, one, other).ratio()
    short, long = sorted((one, other), key=len)
    within = len(short) >= 4 and short in long
    return max(ratio, 0.7) if within else ratio


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`Did you mean "pool1"?` for the nearest of the known names, else an empty text."""
    rated = sorted(
        ((_likeness(name.lower(), n.lower()), n) for n in dict.fromkeys(known)),
        key=lambda pair: (-pair[0], pair[1]),
    )
    enough = 0.6 if len(name) <= 4 else 0.7
    near = [n for ratio, n in rated[:3] if ratio >= max(enough, rated[0][0] - 0.05)]
    if not near:
        return ""
    return "Did you mean " + " or ".join(f'"{n}"' for n in near) + "?"


def names_in(folder: Path) -> list[str]:
    """The names of what is in a folder, sorted; none where it can't be looked into."""
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []


def nearest_file(path: Path) -> str:
    """`did_you_mean` of a file that isn't there, by the names that are in its folder."""
    return did_you_mean(path.name, names_in(path.parent))
