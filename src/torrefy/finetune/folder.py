"""A finetuning's folder: what it says of itself at its beginning, and in the end, as a model."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torrefy import __version__
from torrefy.data.examples import Examples
from torrefy.data.recipe import Recipe
from torrefy.errors import Place, TorrefyError
from torrefy.finetune.options import Options
from torrefy.schema import new_message, write_text
from torrefy.weights.files import replacing
from torrefy.zoo.cards import FILE as CARD
from torrefy.zoo.model import Model

SETTINGS = "finetune.json"
"""What a run was asked for; it is written first."""


def begin(folder: Path, model: Model, examples: Examples, options: Options, resume: bool) -> None:
    """Make the run's folder, or see that it is the same run that goes on.

    Raises:
        TorrefyError: it exists and is another's, or there is nothing to go on with.
    """
    place = Place(str(folder))
    asked: dict[str, Any] = {
        "model": model.name,
        "weights": hashlib.sha256(model.weights.read_bytes()).hexdigest(),
        "data": examples.origin,
        "pictures": hashlib.sha256("\n".join(examples.names).encode(errors="replace")).hexdigest(),
        "options": options.as_json(),
    }
    asked = json.loads(json.dumps(asked))
    settings = folder / SETTINGS
    if folder.exists() and not folder.is_dir():
        raise TorrefyError("this is a file, not a folder for a run", place=place)
    if (folder / CARD).exists():
        raise TorrefyError("here is a run already", place=place, hint="Choose another folder.")
    if settings.exists():
        try:
            had = json.loads(settings.read_text(encoding="utf-8"))["asked"]
        except (OSError, ValueError, KeyError, TypeError):
            had = {}
        if not resume:
            raise TorrefyError(
                "a run was broken off here",
                place=place,
                hint="Go on with it by --resume, or choose another folder.",
            )
        changed = [key for key in asked if had.get(key) != asked[key]]
        if changed:
            raise TorrefyError(
                f"the run that was broken off here had other {' and '.join(changed)}",
                place=place,
                hint="Ask for the same, or choose another folder.",
            )
        return
    if resume:
        raise TorrefyError("there is no run to go on with", place=place)
    if folder.exists() and any(folder.iterdir()):
        raise TorrefyError(
            "this folder holds something else", place=place, hint="Choose another folder."
        )
    made = {
        "asked": asked,
        "versions": {
            "torrefy": __version__, "python": platform.python_version(),
            "torch": torch.__version__, "numpy": np.__version__,
        },
        "command": sys.argv,
    }  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TorrefyError(f"can't be made: {error.strerror}", place=place) from None
    with replacing(settings) as file:
        file.write(json.dumps(made, indent=1, ensure_ascii=False).encode("utf-8", "replace"))


def name_of(folder: Path) -> str:
    """A model's name of a folder's."""
    name = re.sub(r"[^\w.+-]", "_", folder.resolve().name)
    return name if re.match(r"\w", name) else f"run{name}"


def recipe_of(name: str, model: Model, examples: Examples, answer: str) -> Recipe:
    """What the finetuned net wants and says."""
    return Recipe(
        name=name,
        preprocessor=model.preprocessor,
        output=answer,
        labels=examples.classes,
        license=model.recipe.license,
    )


def write_card(folder: Path, recipe: Recipe, description: str) -> None:
    """Make the folder a model."""
    card = new_message("torrefy.Card")
    card.name, card.title = recipe.name, recipe.name
    card.description = description
    if recipe.preprocessor is not None:
        card.input.CopyFrom(recipe.preprocessor.message)
    card.output = recipe.output
    card.classes = len(recipe.labels)
    card.label.extend(recipe.labels)
    card.license = recipe.license
    weights = folder / "net.caffemodel"
    card.weights.add(
        url=f"file:{weights.name}",
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        bytes=weights.stat().st_size,
    )
    with replacing(folder / CARD) as file:
        file.write(write_text(card).encode())
