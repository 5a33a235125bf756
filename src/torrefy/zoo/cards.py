"""Cards: what the zoo's models are, read from their folders and checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torrefy.errors import Place, Problem, TorrefyError, ZooError, did_you_mean
from torrefy.plugins import contributions
from torrefy.schema import Definition, read_text

FILE = "card.prototxt"
MESSAGE = "torrefy.Card"


@dataclass(frozen=True)
class Card:
    """One zoo model's manifest and the folder it stands in."""

    name: str
    folder: Path
    text: Definition
    """The card as it was read: the message, with the place of each of its fields."""

    @property
    def message(self) -> Any:
        """The `torrefy.Card` message: `card.message.input.width`."""
        return self.text.message

    def beside(self, name: str) -> Path:
        """A file of the model's folder or, where that has none, of the zoo's."""
        path = self.folder / name
        return path if path.exists() else self.folder.parent / name


def find_card(name: str) -> Card:
    """The card of a zoo model by its name; or of a folder that has one, as a finetuning's has.

    Raises:
        ZooError: there is no such model, two plugins have one, or the card is wrong.
        DefinitionError: the card is no card's text.
    """
    folders = _folders()
    if name not in folders and (Path(name) / FILE).is_file():
        text = read_text(Path(name) / FILE, MESSAGE)
        return _checked(Card(text.message.name, Path(name), text))
    if name not in folders:
        raise ZooError(
            f'there is no zoo model "{name}"',
            hint=did_you_mean(name, folders) or f"There are: {', '.join(folders)}.",
        )
    return _read(name, folders[name])


def cards() -> list[Card]:
    """All zoo models' cards, by name.

    Raises:
        ZooError: with every problem of every card.
    """
    read: list[Card] = []
    problems: list[Problem] = []
    for name, folders in _folders().items():
        try:
            read.append(_read(name, folders))
        except TorrefyError as error:
            problems.extend(error.problems)
    if problems:
        raise ZooError(problems)
    return read


def zoo_names() -> list[str]:
    """The names of all zoo models."""
    return list(_folders())


def _folders() -> dict[str, list[Path]]:
    """Every model's name, and the folders that claim it, from all plugins."""
    found: dict[str, list[Path]] = {}
    for zoo in zoo_folders():
        for card in zoo.glob(f"*/{FILE}"):
            claims = found.setdefault(card.parent.name, [])
            if card.parent not in claims:
                claims.append(card.parent)
    return dict(sorted(found.items()))


def zoo_folders() -> Iterator[Path]:
    """The folders of zoo models of all plugins.

    Raises:
        ZooError: one is not there.
    """
    for given in contributions("torrefy_zoo_paths"):
        path = Path(given.thing)
        if not path.is_dir():
            raise ZooError(
                f"plugin {given.plugin.title} gives a folder of zoo models that is not there",
                place=_place(path),
            )
        yield path


def _read(name: str, folders: list[Path]) -> Card:
    if len(folders) > 1:
        raise ZooError(f'two zoo models have the name "{name}": {folders[0]} and {folders[1]}')
    return _checked(Card(name, folders[0], read_text(folders[0] / FILE, MESSAGE)))


def _checked(card: Card) -> Card:
    from torrefy.zoo.check import card_problems

    problems = card_problems(card)
    if problems:
        raise ZooError(problems)
    return card


def _place(path: Path) -> Place:
    return Place(str(path))
