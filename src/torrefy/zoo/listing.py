"""Listings: which pictures of a package there are, by hash, as sha256sum writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torrefy.data.pictures import SUFFIXES
from torrefy.errors import Place, Problem, ZooError, did_you_mean, names_in

MOST_BYTES = 32 << 20
"""No listing is longer."""
MOST_PROBLEMS = 10

_LINE = re.compile(r"(?P<hash>[0-9a-fA-F]{64}) [ *](?P<path>\S.*)")
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Entry:
    """A picture of a package: what a Source message says, and its place in the listing."""

    path: str
    """Below the package's folder; the first folder is the class."""
    sha256: str
    url: str
    bytes: int
    place: Place
    sha1: str = ""

    @property
    def label(self) -> str:
        """Its class."""
        return self.path.partition("/")[0]

    @property
    def name(self) -> str:
        """What the picture is called where it is written: the same path, as PNG."""
        return str(PurePosixPath(self.path).with_suffix(".png"))

    @property
    def group(self) -> str:
        """What it belongs together with: its class and the letters that its name begins with."""
        stem = PurePosixPath(self.path).stem
        word = _WORD.match(stem)
        return f"{self.label}/{(word[0] if word else stem).casefold()}"


def read_listing(path: Path, url: str, most: int = 0) -> list[Entry]:
    """The pictures that a listing names, in its order.

    Args:
        path: the file: lines of a sha256, two spaces and a path with a folder at least.
        url: where these paths begin: "debian:package#folder".
        most: the bytes that none has more of; 0: not said.

    Raises:
        ZooError: no such file, or it is wrong, with the lines that are.
    """
    place = Place(str(path))
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        text = data.decode()
    except FileNotFoundError:
        raise ZooError(
            "no such file", place=place, hint=did_you_mean(path.name, names_in(path.parent))
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ZooError(f"can't be read: {error}", place=place) from None
    if len(data) > MOST_BYTES:
        raise ZooError(f"this is longer than {MOST_BYTES >> 20} MiB", place=place)
    found: dict[str, Entry] = {}
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), 1):
        here = Place(str(path), number, 1)
        match = _LINE.fullmatch(line)
        if match is None:
            problems.append(Problem("expected a sha256, two spaces and a path", here))
        elif wrong := _wrong_path(match["path"]):
            problems.append(Problem(wrong, here))
        else:
            inside = match["path"]
            entry = Entry(inside, match["hash"].lower(), f"{url}/{inside}", most, here)
            if entry.name in found:
                problems.append(Problem(f'"{entry.name}" is made by a line above, too', here))
            found[entry.name] = entry
    if not found and not problems:
        problems.append(Problem("there is no picture in this listing", place))
    if problems:
        raise ZooError(problems[:MOST_PROBLEMS])
    return list(found.values())


def _wrong_path(path: str) -> str:
    """What is wrong with a path, or nothing."""
    parts = path.split("/")
    if len(parts) < 2:
        return f'"{path}" lies in no folder, which would be its class'
    if any(not part or part.startswith(".") for part in parts) or not path.isprintable():
        return f'"{path}" is no plain path'
    if "#" in path or "\\" in path:
        return f'"{path}" is no plain path'
    if not path.lower().endswith(SUFFIXES):
        return f'"{path}" is no picture by its name'
    return ""
