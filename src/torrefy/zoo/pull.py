"""A zoo model on disk: its definition and its weights, fetched where they are not kept yet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torrefy.errors import ZooError
from torrefy.zoo.cards import Card, find_card
from torrefy.zoo.sources import Sources


@dataclass(frozen=True)
class Pulled:
    """A model that is ready to load: `torrefy.load_net(pulled.definition, pulled.weights)`."""

    card: Card
    definition: Path
    weights: Path


def pull(name: str) -> Pulled:
    """A zoo model's definition and weights, from the cache or fetched into it.

    What is in the cache is checked by its hash before it is used, what is fetched before it is
    kept.

    Raises:
        ZooError: no such model, one without weights, or its files can't be had; each source and
            why is told.
        WeightsError: weights in a form of their own can't be converted.
    """
    card = find_card(name)
    if not card.message.weights:
        raise ZooError(
            f"{name} has no weights; it is a net to train",
            hint=f"`torrefy zoo copy {name}` gives its files.",
        )
    with Sources(card.name, card.folder) as sources:
        definition = _definition(card, sources)
        return Pulled(card, definition, _weights(card, sources, definition))


def pull_definition(name: str) -> Path:
    """A zoo model's definition alone, from the cache or fetched into it.

    Raises:
        ZooError: no such model, or its definition can't be had.
    """
    card = find_card(name)
    with Sources(card.name) as sources:
        return _definition(card, sources)


def pull_sample(card: Card) -> Path | None:
    """The picture to try a model with, of which it says one of `card.message.sample.label` first.

    None when the card has none.

    Raises:
        ZooError: it can't be had.
    """
    pictures = card.message.sample.picture
    if not pictures:
        return None
    with Sources(card.name, card.folder) as sources:
        return sources.get(pictures, "sample")[0]


def _definition(card: Card, sources: Sources) -> Path:
    if not card.message.definition:
        return card.folder / "net.prototxt"
    return sources.get(card.message.definition, "definition")[0]


def _weights(card: Card, sources: Sources, definition: Path) -> Path:
    from torrefy.zoo.convert import Conversion, convert, converted

    given = card.message.weights

    def made() -> Path | None:
        places = (converted(sources.path(s), s) for s in given if s.converter)
        return next(filter(None, places), None)

    ready = made()
    if ready is None:
        path, source = sources.get(given, "weights")
        if not source.converter:
            return path
        sources.hold()
        place = partial(card.text.place, "weights", list(given).index(source))
        ready = made() or convert(Conversion(path, source, definition, place))
    return ready
