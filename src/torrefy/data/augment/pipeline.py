"""The augmentations of a data layer, done to one picture after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.augment.affine import IDENTITY, Affine, Matrix, Size, after
from torrefy.data.augment.augmentation import Augmentation, Drawn, Sample
from torrefy.data.augment.targets import GONE, Target, Tracked
from torrefy.data.augment.warp import Warp
from torrefy.data.draws import Draws
from torrefy.data.sources.source import Item

Window = Callable[[tuple[int, int, int]], tuple[int, int, int, int]]
"""A crop, given the picture's CxHxW: its top, left, height and width."""


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

    def sample(
        self,
        picture: NDArray[Any],
        draws: Draws,
        targets: Sequence[Target] = (),
        *,
        window: Window | None = None,
    ) -> Sample:
        """A picture augmented, with what moves with it and all that was drawn.

        Args:
            picture: C×H×W, bytes or float32.
            draws: where chance comes from.
            targets: what moves with it.
            window: the crop, cut by the last warp if that comes last, so that no other pixel is
                made; None: none.

        Raises:
            RecordError: an augmentation can't be done to such a picture.
        """
        sample = Sample(picture, list(targets))
        matrix, canvas = IDENTITY, sample.size
        for one in self.augmentations:
            if one.probability < 1 and not draws.chance(one.probability):
                sample.drawn.append((one.type_name, None))
                continue
            if not isinstance(one, Affine):
                self.warp.sample(sample, matrix, canvas)
                matrix, canvas = IDENTITY, sample.size
            drawn = self._drawn(one, draws, sample, matrix, canvas)
            if isinstance(one, Affine):
                matrix = after(one.matrix(drawn, canvas), matrix)
                canvas = one.canvas(drawn, canvas)
            else:
                one.apply(sample, drawn)
                canvas = sample.size
            sample.drawn.append((one.type_name, drawn))
        if window is not None:
            top, left, *cut = window((len(sample.picture), *canvas))
            matrix = after((1.0, 0.0, -float(left), 0.0, 1.0, -float(top)), matrix)
            canvas = cut[0], cut[1]
        self.warp.sample(sample, matrix, canvas)
        return sample

    def item(self, item: Item, draws: Draws, window: Window | None = None) -> Sample:
        """The sample of an item, its picture augmented and its targets moved.

        Raises:
            RecordError: an augmentation can't be done to such a picture, or a part of the item
                is no target of its kind.
        """
        size: Size = item[0].shape[-2:]
        targets = [one.read(item[one.index], size) for one in self.tracked]
        return self.sample(item[0], draws, targets, window=window)

    def rest(self, item: Item, sample: Sample) -> Item:
        """What an item has beside its picture, the targets as they are in a sample."""
        rest = list(item[1:])
        for one, target in zip(self.tracked, sample.targets, strict=True):
            rest[one.index - 1] = one.write(target, item[one.index], sample.size)
        return tuple(rest)

    @staticmethod
    def _drawn(
        one: Augmentation, draws: Draws, sample: Sample, matrix: Matrix, canvas: Size
    ) -> Drawn:
        def boxes() -> NDArray[Any]:
            """Those in the picture, as the warps that are still to be done will move them."""
            found = [
                target.moved(matrix, canvas).values
                for target in sample.targets
                if target.kind == "BOXES"
            ]
            every = np.concatenate([*found, np.empty((0, 4), np.float32)])
            there: NDArray[Any] = every[(every != GONE).any(axis=1)]
            return there

        return one.draw_around(draws, canvas, boxes)
