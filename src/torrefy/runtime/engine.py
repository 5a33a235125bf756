"""A session fed with pictures: by the right input, in whole batches, to one output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from torrefy.data.recipe import Recipe
from torrefy.data.uncropped import Uncropped
from torrefy.errors import TorrefyError
from torrefy.runtime.base import Session, Shape


class Engine(Protocol):
    """What runs a model: N×C×H×W pictures to N×classes."""

    def __call__(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the output."""


def engine_of(session: Session, recipe: Recipe, name: str) -> tuple[Engine, Recipe]:
    """What runs a session for pictures, and the recipe of what they are then.

    Raises:
        TorrefyError: the model, called `name`, has not the one input that pictures go to.
    """
    blob, uncropped = picture_input(session.inputs, recipe, name)
    output = recipe.output or next(iter(session.outputs))
    fixed = session.inputs[blob][0]

    def run(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        if not isinstance(fixed, int):
            given = uncropped.whole(pictures) if uncropped else pictures
            return session.run({blob: given}, [output])[output]
        # The definition fixed the batch: whole batches, the last one filled up.
        rows = []
        for i in range(0, len(pictures), fixed):
            part = pictures[i : i + fixed]
            filled = np.concatenate([part, np.repeat(part[:1], fixed - len(part), axis=0)])
            filled = uncropped.whole(filled) if uncropped else filled
            rows.append(session.run({blob: filled}, [output])[output][: len(part)])
        return np.concatenate(rows)

    return run, replace(recipe, preprocessor=uncropped) if uncropped else recipe


def picture_input(
    inputs: Mapping[str, Shape], recipe: Recipe, name: str
) -> tuple[str, Uncropped | None]:
    """The input that pictures go to; and how they get there, if it takes them whole.

    Raises:
        TorrefyError: there is no such input, or others beside it.
    """
    (blob, *others) = inputs
    seen = recipe.preprocessor
    uncropped = Uncropped(seen) if seen and recipe.whole else None
    if seen and not uncropped:
        blob = seen.blob
    if others or blob not in inputs:
        raise TorrefyError(
            f"{name}: pictures go to the input {blob}, the file takes {', '.join(inputs)}"
        )
    return blob, uncropped


def noise_for(
    inputs: Mapping[str, Shape], recipe: Recipe, name: str, batch: int
) -> dict[str, NDArray[Any]]:
    """Random inputs, the same each time: pictures of noise, or numbers of standard deviation 1.

    Raises:
        TorrefyError: an input's size isn't known.
    """
    random = np.random.default_rng(0)
    if recipe.preprocessor is not None:
        blob, uncropped = picture_input(inputs, recipe, name)
        seen = uncropped or recipe.preprocessor
        size = (batch, seen.height, seen.width, seen.channels)
        pictures = random.integers(0, 256, size).astype(np.uint8)
        given = np.stack([seen(picture) for picture in pictures])
        return {blob: uncropped.whole(given) if uncropped else given}
    made: dict[str, NDArray[Any]] = {}
    for blob, extents in inputs.items():
        known = [extent for extent in extents[1:] if isinstance(extent, int)]
        if len(known) < len(extents) - 1:
            raise TorrefyError(
                f'{name}: the size of the input "{blob}" is not known: '
                f"{'x'.join(map(str, extents))}",
                hint="Export it with --preprocessing, which says it.",
            )
        made[blob] = random.normal(0, 1, (batch, *known)).astype(np.float32)
    return made
