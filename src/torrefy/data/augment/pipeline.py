"""The augmentations of a data layer, done to one picture after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torrefy.data.augment.affine import IDENTITY, Affine, Size, after
from torrefy.data.augment.augmentation import (
    Augmentation,
    Drawn,
    Sample,
    read_augmentations,
)
from torrefy.data.augment.recipes import read_recipe
from torrefy.data.augment.targets import Tracked
from torrefy.data.augment.warp import Warp
from torrefy.data.draws import Draws
from torrefy.data.sources.source import Item
from torrefy.errors import DataError, did_you_mean


class Augmenter:
    """A list of augmentations. Affine ones that stand together are one warp.

    Example:
        >>> from torrefy.data.augment.affine import Rotation, Rescaling
        >>> augmenter = Augmenter([Rotation(), Rescaling()])
        >>> import numpy as np
        >>> sample = augmenter.sample(np.zeros((3, 8, 8), np.uint8), Draws(1, 0))
        >>> [name for name, drawn in sample.drawn]
        ['Rotation', 'Rescaling']
    """

    def __init__(
        self,
        augmentations: Sequence[Augmentation],
        warp: Warp | None = None,
        tracked: Sequence[Tracked] = (),
    ) -> None:
        """Take the augmentations in their order.

        Args:
            augmentations: what is done.
            warp: how warps make pixels; None: the defaults.
            tracked: which parts of an item move with its picture.
        """
        self.augmentations = list(augmentations)
        self.warp = warp or Warp()
        self.tracked = list(tracked)

    @classmethod
    def from_layer(cls, spec: Any) -> Augmenter | None:
        """What a data layer's `transform_param` says; None: nothing is augmented.

        Raises:
            DataError: with all that is wrong.
        """
        given = spec.transform_param
        messages, warp = declared_augmentations(given)
        done = [one for one in read_augmentations(messages) if isinstance(one, Augmentation)]
        if not done:
            return None
        tops = list(spec.top)
        tracked = [_tracked(one, tops) for one in given.target]
        return cls(done, Warp.from_message(warp), tracked)

    def sample(
        self, picture: Any, draws: Draws, targets: Sequence[Any] = (), *, window: Any = None
    ) -> Sample:
        """A picture augmented, with what moves with it and all that was drawn.

        Args:
            picture: C×H×W, bytes or float32.
            draws: where chance comes from.
            targets: what moves with it.
            window: called with the augmented picture's size for a crop's top, left and size,
                which is made by the last warp, if that comes last; None: no crop.
        """
        sample = Sample(picture, list(targets))
        matrix, canvas = IDENTITY, sample.size
        for one in self.augmentations:
            if one.probability < 1 and not draws.chance(one.probability):
                sample.drawn.append((one.type_name, {}))
                continue
            if isinstance(one, Affine):
                drawn: Drawn = one.draw(draws, canvas)
                matrix = after(one.matrix(drawn, canvas), matrix)
                canvas = one.canvas(drawn, canvas)
            else:
                self.warp.sample(sample, matrix, canvas)
                drawn = one.draw(draws, sample.size)
                one.apply(sample, drawn)
                matrix, canvas = IDENTITY, sample.size
            sample.drawn.append((one.type_name, drawn))
        if window is not None:
            top, left, size = window(canvas)
            matrix, canvas = after((1.0, 0.0, -left, 0.0, 1.0, -top), matrix), (size, size)
        self.warp.sample(sample, matrix, canvas)
        return sample

    def item(self, item: Item, draws: Draws, window: Any = None) -> tuple[Item, Sample]:
        """An item with its picture augmented and its targets moved."""
        picture, *rest = item
        size: Size = picture.shape[-2:]
        targets = [one.read(item[one.index], size) for one in self.tracked]
        sample = self.sample(picture, draws, targets, window=window)
        for one, target in zip(self.tracked, sample.targets, strict=True):
            rest[one.index - 1] = one.write(target, item[one.index], sample.size)
        return (sample.picture, *rest), sample


def declared_augmentations(given: Any) -> tuple[list[Any], Any]:
    """The augmentations that a transform_param names, its recipe's first, and its warp: messages.

    Raises:
        DataError: there is no recipe of that name.
    """
    messages, warp = list(given.augmentation), given.warp
    if given.recipe:
        recipe = read_recipe(given.recipe)
        messages = [*recipe.augmentation, *messages]
        if not given.HasField("warp"):
            warp = recipe.warp
    return messages, warp


def _tracked(message: Any, tops: list[str]) -> Tracked:
    if message.top not in tops[1:]:
        raise DataError(
            f'the layer has no top "{message.top}" that could move with its picture',
            hint=did_you_mean(message.top, tops[1:]),
        )
    swap = list(message.swap)
    if len(swap) % 2 or len(set(swap)) < len(swap):
        raise DataError(f'swap of "{message.top}" names each point once, two and two')
    return Tracked(
        tops.index(message.top),
        message.top,
        message.Kind.Name(message.kind),
        tuple(zip(swap[::2], swap[1::2], strict=True)),
        message.fraction,
        message.visible,
    )
