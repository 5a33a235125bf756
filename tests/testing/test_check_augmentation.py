"""The kit for augmentations: the built-in ones keep its rules, and each that is broken is told."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from torrefy.data.augment import affine, colour, crops, pixels
from torrefy.data.augment.augmentation import Augmentation, augmentation
from torrefy.layers import field
from torrefy.testing import check_augmentation

BUILT_IN = [*affine.BUILT_IN, *crops.BUILT_IN, *colour.BUILT_IN, *pixels.BUILT_IN]


@pytest.mark.parametrize("cls", BUILT_IN, ids=lambda cls: cls.type_name)
def test_a_built_in_augmentation_is_sound(cls: type[Augmentation]) -> None:
    check_augmentation(cls)


def made(apply: Any = lambda self, sample, drawn: None, **body: Any) -> type[Augmentation]:
    body = {"__doc__": "Acme's.", "__module__": __name__, "apply": apply, **body}
    return augmentation("Acme")(type("Acme", (Augmentation,), body))


def refusal(cls: type[Augmentation]) -> str:
    with pytest.raises(AssertionError) as error:
        check_augmentation(cls)
    return str(error.value)


def written_into(self: Any, sample: Any, drawn: Any) -> None:
    sample.picture[:] = 0


def by_chance(self: Any, sample: Any, drawn: Any) -> None:
    sample.picture = np.where(sample.picture < random.random() * 255, sample.picture, 0)


def turned_alone(self: Any, sample: Any, drawn: Any) -> None:
    sample.picture = sample.picture[:, :, ::-1]


def points_moved_alone(self: Any, sample: Any, drawn: Any) -> None:
    sample.targets = [t.moved((1, 0, 3, 0, 1, 0), sample.size) if t.kind != "MASK" else t
                      for t in sample.targets]  # fmt: skip


def to_floats(self: Any, sample: Any, drawn: Any) -> None:
    sample.picture = sample.picture / np.float32(2)


def one_channel(self: Any, sample: Any, drawn: Any) -> None:
    sample.picture = sample.picture[:1]


def divided(self: Any, sample: Any, drawn: Any) -> None:
    sample.picture = (sample.picture / np.zeros((), sample.picture.dtype)).astype(
        sample.picture.dtype
    )


def broken(self: Any, sample: Any, drawn: Any) -> None:
    raise KeyError("factor")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("cls", "told"),
    [
        (made(__doc__=None), "the class has no docstring; say what it does, and the source"),
        (made(a=field(1), __annotations__={"a": int}),
         "the field a has no doc; say what it is, and in which unit"),
        (made(draw=lambda self, draws, size: {"a": random.random()}),
         "the same draws give other numbers; all chance must come from `draws`"),
        (made(draw=lambda self, draws, size: {"a": float("nan")}),
         "the same draws give other numbers; all chance must come from `draws`"),
        (made(draw=lambda self, draws, size: {"a": float("inf")}),
         'what it draws as "a" is no finite number: inf'),
        (made(by_chance),
         "the same numbers give another picture; all chance must be in what is drawn"),
        (made(written_into), "it writes into the sample's arrays; they are to be replaced"),
        (made(turned_alone),
         "the picture and its mask come apart; where pixels move, sample.targets must, too"),
        (made(points_moved_alone), "a point lies 3.0 pixels from what it marks"),
        (made(to_floats), "it makes float32 of uint8"),
        (made(one_channel), "it makes 1x60x80 of a picture of 3x60x80"),
        (made(divided), "the picture has numbers that are not finite"),
        (made(broken), "it raises KeyError: 'factor'"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_told(cls: type[Augmentation], told: str) -> None:
    assert refusal(cls) == f"Acme: {told}"


def test_what_can_not_be_pickled_is_told() -> None:
    cls = made(setup=lambda self: setattr(self, "look", lambda: None))
    assert refusal(cls).startswith("Acme: it can't be pickled, as for worker processes: ")


def test_an_augmentation_without_a_type_is_told() -> None:
    class Acme(Augmentation):
        """Acme's."""

    assert refusal(Acme) == 'Acme: it has no type; make it with @augmentation("Type")'
