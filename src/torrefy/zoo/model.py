"""A pretrained model, as a user names one: of the zoo, a folder with a card, or two files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torrefy.data.preprocess import MESSAGE, Preprocessor
from torrefy.data.recipe import Recipe
from torrefy.errors import Place, TorrefyError, ZooError, did_you_mean
from torrefy.schema import read_text
from torrefy.zoo.cards import FILE, find_card, zoo_names
from torrefy.zoo.pull import pull
from torrefy.zoo.recipe import recipe_of


@dataclass(frozen=True)
class Model:
    """A definition and weights, ready to load, and what the net wants to see."""

    name: str
    definition: Path
    weights: Path
    recipe: Recipe

    @property
    def preprocessor(self) -> Preprocessor:
        """What is done to a picture.

        Raises:
            TorrefyError: that is not known.
        """
        if self.recipe.preprocessor is None:
            raise TorrefyError(
                f"nothing says what is done to a picture before {self.name} sees it",
                hint="Give --preprocessing FILE: width, height, colour, mean, scale, as a card's "
                "input has them.",
            )
        return self.recipe.preprocessor


def find_model(
    name: str | Path,
    weights: str | Path | None = None,
    preprocessing: str | Path | Preprocessor | None = None,
) -> Model:
    """A model by what a user calls it.

    Args:
        name: a zoo model's name, which is fetched where it isn't kept yet; a folder that holds a
            card.prototxt, as a finetuning's run folder; or a .prototxt.
        weights: those of a .prototxt.
        preprocessing: what is done to a picture, or a prototxt of it, as the input of a card; in
            place of the card's where there is one.

    Raises:
        ZooError: there is no such model, or it can't be had.
        DefinitionError: the preprocessing is wrong.
        TorrefyError: a .prototxt has no weights, or another model has.
    """
    path = Path(name)
    if isinstance(preprocessing, (str, Path)):
        definition = read_text(preprocessing, MESSAGE)
        preprocessing = Preprocessor(definition.message, definition.place)
    if path.suffix == ".prototxt" or path.is_file():
        if weights is None:
            raise TorrefyError(
                "a definition alone knows nothing",
                place=Place(str(path)),
                hint="Give its weights: --weights, or weights=…",
            )
        for file in (path, Path(weights)):
            if not file.is_file():
                raise TorrefyError("no such file", place=Place(str(file)))
        return Model(path.stem, path, Path(weights), Recipe(path.stem, preprocessing))
    if weights is not None:
        raise TorrefyError(f"{name} has weights of its own", hint="Leave out the others.")
    if path.is_dir() and not (path / FILE).is_file() and str(name) not in zoo_names():
        found = [entry.name for entry in path.iterdir()]
        hint = did_you_mean(FILE, found) or "A run folder of `torrefy finetune` has one."
        raise ZooError(f"there is no {FILE} in this folder", place=Place(str(path)), hint=hint)
    card = find_card(str(name))
    pulled = pull(str(name))
    recipe = recipe_of(card)
    if preprocessing is not None:
        recipe = Recipe(recipe.name, preprocessing, recipe.output, recipe.labels, recipe.license)
    return Model(card.name, pulled.definition, pulled.weights, recipe)
