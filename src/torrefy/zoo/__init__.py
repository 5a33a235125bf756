"""The zoo: models with cards and datasets, fetched, verified and kept in a cache."""

from __future__ import annotations

from pathlib import Path

from torrefy.plugins.hookspecs import hookimpl
from torrefy.zoo.cache import cache_folder
from torrefy.zoo.cards import Card, cards, find_card
from torrefy.zoo.copying import copy_model
from torrefy.zoo.datasets import Dataset, datasets, find_dataset
from torrefy.zoo.labels import labels, read_labels
from torrefy.zoo.pull import Pulled, pull, pull_definition, pull_sample

__all__ = [
    "Card",
    "Dataset",
    "Pulled",
    "cache_folder",
    "cards",
    "copy_model",
    "datasets",
    "find_card",
    "find_dataset",
    "labels",
    "pull",
    "pull_definition",
    "pull_sample",
    "read_labels",
]


@hookimpl
def torrefy_zoo_paths() -> list[Path]:
    """The built-in models: in a wheel beside this file, in a source tree at its top."""
    here = Path(__file__).parent
    shipped = here / "models"
    return [shipped if shipped.is_dir() else here.parents[2] / "zoo"]
