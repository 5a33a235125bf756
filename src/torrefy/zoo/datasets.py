"""Datasets: what can be fetched to learn from, read from their files and checked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torrefy.errors import Problem, TorrefyError, ZooError, did_you_mean
from torrefy.schema import Definition, read_text
from torrefy.zoo.cards import zoo_folders
from torrefy.zoo.listing import Entry, read_listing

FOLDER = "datasets"
"""The folder within a zoo's that holds them, a file each."""
ALL = "all"
"""The name of a split whose pictures lie in the dataset's own folder."""

Where = tuple[str | int, ...]
Found = Iterator[tuple[str, Where, str]]


@dataclass(frozen=True)
class Dataset:
    """One dataset's declaration: where its files are had and what becomes of them."""

    name: str
    path: Path
    text: Definition
    """The file as it was read: the message, with the place of each of its fields."""

    @property
    def message(self) -> Any:
        """The `torrefy.Dataset` message: `dataset.message.split[0].items`."""
        return self.text.message


def listing(dataset: Dataset, split: Any) -> list[Entry]:
    """The pictures that a split lists, which has a `listed`.

    Raises:
        ZooError: the listing can't be read, or is wrong.
    """
    listed = split.listed
    return read_listing(dataset.path.with_name(listed.file), listed.url, listed.bytes)


def find_dataset(name: str) -> Dataset:
    """A dataset by its name.

    Raises:
        ZooError: there is no such dataset, two plugins have one, or its file is wrong.
        DefinitionError: the file is no dataset's text.
    """
    files = _files()
    if name not in files:
        raise ZooError(
            f'there is no dataset "{name}"',
            hint=did_you_mean(name, files) or f"There are: {', '.join(files)}.",
        )
    return _read(name, files[name])


def datasets() -> list[Dataset]:
    """All datasets, by name.

    Raises:
        ZooError: with every problem of every file.
    """
    read: list[Dataset] = []
    problems: list[Problem] = []
    for name, files in _files().items():
        try:
            read.append(_read(name, files))
        except TorrefyError as error:
            problems.extend(error.problems)
    if problems:
        raise ZooError(problems)
    return read


def dataset_names() -> list[str]:
    """The names of all datasets."""
    return list(_files())


def _files() -> dict[str, list[Path]]:
    """Every dataset's name, and the files that claim it, from all plugins."""
    found: dict[str, list[Path]] = {}
    for folder in zoo_folders():
        for path in (folder / FOLDER).glob("*.prototxt"):
            claims = found.setdefault(path.stem, [])
            if path not in claims:
                claims.append(path)
    return dict(sorted(found.items()))


def _read(name: str, files: list[Path]) -> Dataset:
    if len(files) > 1:
        raise ZooError(f'two datasets have the name "{name}": {files[0]} and {files[1]}')
    dataset = Dataset(name, files[0], read_text(files[0], "torrefy.Dataset"))
    problems = [
        Problem(message, dataset.text.place(*path), hint=hint)
        for message, path, hint in _check(dataset)
    ]
    if problems:
        raise ZooError(problems)
    return dataset


def _check(dataset: Dataset) -> Found:
    message = dataset.message
    if message.name != dataset.name:
        yield f'the name is "{message.name}", the file\'s is "{dataset.name}"', ("name",), ""
    elif not re.fullmatch(r"\w[\w.+-]*", message.name):
        yield f'"{message.name}" is no name: letters, digits and "_.+-"', ("name",), ""
    if not message.split:
        yield "a dataset has a split at least", ("name",), ""
    names: list[str] = []
    for i, split in enumerate(message.split):
        path: Where = ("split", i)
        if not re.fullmatch(r"[A-Za-z]\w*", split.name):
            yield f'"{split.name}" is no name of a split: letters and digits', path, ""
        elif split.name in names:
            yield f'there are two splits "{split.name}"', (*path, "name"), ""
        names.append(split.name)
        if not split.items:
            yield "a split needs its number of items", path, ""
        if not split.cut and not split.HasField("listed"):
            yield from _check_files(split, path, pairs=bool(message.pairs_of))
            continue
        if split.name == ALL and len(message.split) > 1:
            yield f'a split "{ALL}" of pictures is the only one', (*path, "name"), ""
        yield from _check_folder(dataset, split, path)
    if message.pairs_of:
        yield from _check_pairs(message, names)


def _check_files(split: Any, path: Where, *, pairs: bool) -> Found:
    from torrefy.zoo.check import check_source

    for field, what in (("pictures", "pictures"), ("labels", "labels")):
        sources = getattr(split, field)
        if pairs and sources:
            yield f"pairs have no files of {what}: they are another dataset's", (*path, field), ""
        elif not pairs and not sources:
            yield f"a split needs a source of {what}", path, ""
        for i, source in enumerate(sources):
            yield from check_source(source, (*path, field, i))


def _check_folder(dataset: Dataset, split: Any, path: Where) -> Found:
    """What is wrong with a split that becomes a folder of pictures."""
    if dataset.message.pairs_of:
        yield "pairs have no files of pictures: they are another dataset's", path, ""
    if (bool(split.pictures or split.labels), bool(split.cut), split.HasField("listed")).count(
        True
    ) > 1:
        yield "a split has one of pictures with labels, cut, and listed", path, ""
        return
    for i, cut in enumerate(split.cut):
        yield from _check_cut(dataset.message, cut, (*path, "cut", i))
    if split.HasField("listed"):
        yield from _check_listed(dataset, split, (*path, "listed"))


def _check_cut(message: Any, cut: Any, path: Where) -> Found:
    from torrefy.zoo.check import check_source

    if cut.label not in message.label:
        hint = did_you_mean(cut.label, message.label)
        yield f'there is no label "{cut.label}"', path, hint
    elif not re.fullmatch(r"\w[\w .+-]*", cut.label):
        yield f'"{cut.label}" is no name of a folder: letters, digits and " _.+-"', path, ""
    if not cut.picture:
        yield "a cut needs a source of its picture", path, ""
    for i, source in enumerate(cut.picture):
        yield from check_source(source, (*path, "picture", i))
    if cut.HasField("patch"):
        sides = [side for side in (cut.width, cut.height) if side]
        if not cut.patch or min(sides, default=cut.patch) < cut.patch:
            told = f"no square of {cut.patch} pixels fits in"
            yield told, (*path, "patch"), ""


def _check_listed(dataset: Dataset, split: Any, path: Where) -> Found:
    from torrefy.zoo.sources import DebianMember, Member, parse_url

    listed = split.listed
    try:
        if not isinstance(parse_url(listed.url), (DebianMember, Member)):
            hint = 'Write "debian:package#folder" or "pypi:name==version#folder".'
            yield f'"{listed.url}" is no package\'s folder', (*path, "url"), hint
    except ZooError as error:
        yield error.problems[0].message, (*path, "url"), error.problems[0].hint
    if not re.fullmatch(r"\w[\w.+-]*", listed.file):
        yield f'"{listed.file}" is no file beside this', (*path, "file"), ""
        return
    try:
        entries = listing(dataset, split)
    except ZooError as error:
        for problem in error.problems:
            yield str(problem), (*path, "file"), ""
        return
    if len(entries) != split.items:
        message = f"the listing has {len(entries)} pictures, and {split.items} are declared"
        yield message, (*path, "file"), ""
    known = set(dataset.message.label)
    for name in sorted({entry.label for entry in entries} ^ known):
        told = "is no label" if name not in known else "has no picture in the listing"
        yield f'"{name}" {told}', (*path, "file"), ""


def _check_pairs(message: Any, names: list[str]) -> Found:
    files, other = _files(), message.pairs_of
    if other == message.name or other not in files:
        hint = did_you_mean(other, [name for name in files if name != message.name])
        yield f'there is no dataset "{other}" to take pairs of', ("pairs_of",), hint
        return
    of = read_text(files[other][0], "torrefy.Dataset").message
    if of.pairs_of:
        yield f'"{other}" is pairs already', ("pairs_of",), ""
        return
    known = [split.name for split in of.split]
    for i, name in enumerate(names):
        if name not in known:
            hint = did_you_mean(name, known)
            yield f'"{other}" has no split "{name}"', ("split", i, "name"), hint
