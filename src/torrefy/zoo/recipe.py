"""A card's recipe: what its model wants to see and what its answers mean."""

from __future__ import annotations

from torrefy.data.preprocess import Preprocessor
from torrefy.data.recipe import Recipe
from torrefy.zoo.cards import Card
from torrefy.zoo.labels import labels


def recipe_of(card: Card) -> Recipe:
    """The recipe that a card declares; it travels with the files that are exported."""
    message = card.message
    return Recipe(
        name=card.name,
        preprocessor=Preprocessor(message.input, lambda f: card.text.place("input", f)),
        output=message.output,
        labels=tuple(labels(card)),
        license=message.license,
        source=message.homepage or next((one.url for one in message.weights), ""),
    )
