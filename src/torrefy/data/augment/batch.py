"""The augmentations of a data layer that are done to its batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from torrefy.data.augment.augmentation import Batch, BatchAugmentation
from torrefy.data.draws import Draws


class BatchAugmenter:
    """A list of augmentations of batches, done one after the other.

    Example:
        >>> from torrefy.data.augment.mixing import Mixup
        >>> mixer = BatchAugmenter([Mixup(classes=2)], ["data", "label"])
        >>> batch = {"data": np.ones((4, 1, 8, 8), np.float32), "label": np.ones(4, np.float32)}
        >>> mixer(batch, Draws(1, 0))
        >>> batch["label"].tolist()
        [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]
    """

    def __init__(self, augmentations: Sequence[BatchAugmentation], tops: Sequence[str]) -> None:
        """Take augmentations in their order, and the tops of the layer.

        Raises:
            TorrefyError: one of them can't work on such tops.
        """
        self.augmentations = list(augmentations)
        self.label_classes: dict[str, int] = {}
        """The tops whose labels must be class numbers before, and below how many."""
        for one in self.augmentations:
            for top, classes in one.label_classes(tops).items():
                self.label_classes[top] = min(classes, self.label_classes.get(top, classes))

    def __call__(self, batch: Batch, draws: Draws) -> None:
        """Change a batch of float32 arrays by top, the pictures first."""
        count = len(next(iter(batch.values())))
        for one in self.augmentations:
            whole = one.probability >= 1
            chosen = np.array([whole or draws.chance(one.probability) for _ in range(count)])
            one.mix(batch, chosen, draws)
