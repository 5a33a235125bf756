"""Weights of a loss's terms: from a further bottom, or one for each class."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torrefy.layers.base import Layer, Shape, shape_text


def check_weights(loss: Layer, weights: Shape, terms: Shape) -> None:
    """Hold the shape of bottom 2, the weights, against the terms of the loss.

    Args:
        loss: the layer.
        weights: the shape of its third bottom.
        terms: the first axis of its first bottom, and how many terms each of these items has.

    Raises:
        LayerError: there is neither one for each item nor one for each term.
    """
    items, each = terms
    count = math.prod(weights)
    # Not `in`: compiled with dynamic shapes that finds nothing.
    if count != items and count != items * each:
        per_term = f", or {items * each}, one for each term" if each != 1 else ""
        raise loss.error(
            f"bottom 2 of {shape_text(weights)} has {count} weights; it takes {items}, one for "
            f"each item{per_term}",
            field="bottom",
        )


def spread(weights: Tensor, shape: Shape, items: int) -> Tensor:
    """A weight for each term: those of items hold for all terms of the item. No gradient."""
    weights = weights.detach()
    each = math.prod(shape) // max(items, 1)
    if weights.numel() != math.prod(shape):
        weights = weights.reshape(items, 1).expand(items, each)
    return weights.reshape(shape)


def class_weights(loss: Layer, classes: int) -> Tensor | None:
    """`loss_param { class_weight }`: one for each class; None: not given.

    Raises:
        LayerError: there are more or fewer, or one is below 0.
    """
    given = list(loss.spec.loss_param.class_weight)
    if not given:
        return None
    if len(given) != classes:
        raise loss.error(
            f"class_weight is given {len(given)} times for {classes} classes: give one for each",
            field="class_weight",
        )
    wrong = next((value for value in given if not 0 <= value < math.inf), None)
    if wrong is not None:
        raise loss.error(f"class_weight is {wrong:g}, expected 0 or more", field="class_weight")
    return torch.tensor(given, dtype=torch.get_default_dtype())
