"""The names of a model's classes, in the order of its output."""

from __future__ import annotations

from pathlib import Path

from torrefy.errors import Place, ZooError
from torrefy.zoo.cards import Card


def labels(card: Card) -> list[str]:
    """The classes of a model; all the names of one in one text ("tench, Tinca tinca").

    Empty when the card names none.

    Raises:
        ZooError: the file of labels can't be read, or is not in order.
    """
    if card.message.labels_file:
        return read_labels(card.beside(card.message.labels_file))
    return list(card.message.label)


def read_labels(path: Path) -> list[str]:
    """A file of labels: a class a line, its name alone or index, id and name with tabs between.

    Lines that start with # are comments.

    Raises:
        ZooError: the file can't be read, a line has another form, or an index is not the next.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ZooError(f"the labels can't be read: {error}", place=Place(str(path))) from error
    names: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split("\t")
        place = Place(str(path), number, 1)
        if len(parts) not in (1, 3):
            raise ZooError(
                f"expected a name, or index, id and name; found {len(parts)} parts", place=place
            )
        if len(parts) == 3 and parts[0] != str(len(names)):
            raise ZooError(f"expected the index {len(names)}, found {parts[0]}", place=place)
        names.append(parts[-1].strip())
    return names
