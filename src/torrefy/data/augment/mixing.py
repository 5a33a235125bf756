"""Augmentations that make one picture of two, and one label of theirs: Mixup and CutMix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from torrefy.data.augment.augmentation import Batch, BatchAugmentation, augmentation
from torrefy.errors import TorrefyError, did_you_mean
from torrefy.schema.fields import field

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from torrefy.data.draws import Draws


class Mixing(BatchAugmentation):
    """Each chosen picture is mixed with one of its batch, and so is its label.

    Class numbers become probabilities, N×classes, which SoftmaxWithLoss takes, and Accuracy by
    the likeliest. Targets, as SigmoidCrossEntropyLoss and EuclideanLoss take them, are mixed as
    they are. A subclass declares `alpha` and gives `pictures`.
    """

    alpha: float
    """Shares are drawn of beta(alpha, alpha): 1 for any alike, near 0 for hardly any mixture."""
    labels: Literal["CLASSES", "TARGETS"] = field(
        "CLASSES", doc="what labels are: class numbers, or numbers that are mixed as they are"
    )
    classes: int = field(0, doc="how many classes there are, for CLASSES", at_least=0)
    top: str = field("", doc="where the labels are; empty: in the second top")

    def setup(self) -> None:
        """Classes have a number."""
        if self.labels == "CLASSES" and self.classes < 2:
            told = f"classes must be 2 or more, found {self.classes}"
            raise TorrefyError(
                told if self.classes else "classes is missing",
                hint="Give classes: …, or labels: TARGETS where labels are no class numbers.",
            )

    def label_classes(self, tops: Sequence[str]) -> dict[str, int]:
        """The labels' top, if they are classes; all of the layer's tops must be mixed."""
        if len(tops) < 2:
            return {}
        others = list(tops[1:])
        if self.top and self.top not in others:
            raise TorrefyError(
                f'the layer has no top "{self.top}" that could hold labels',
                hint=did_you_mean(self.top, others),
            )
        top = self.top or others[0]
        others.remove(top)
        if others:
            raise TorrefyError(
                f'pictures are mixed with their labels in "{top}", but the layer has also '
                f'"{others[0]}"'
            )
        return {top: self.classes} if self.labels == "CLASSES" else {}

    def mix(self, batch: Batch, chosen: NDArray[np.bool_], draws: Draws) -> None:
        """Mix the pictures with those of an order that is drawn, then their labels as much."""
        import numpy as np

        from torrefy.data.draws import permutation

        first, *others = batch
        count = len(batch[first])
        partners = permutation(count, draws.below(1 << 62))
        given = np.array([draws.beta(self.alpha, self.alpha) for _ in range(count)])
        shares = self.pictures(batch[first], partners, np.where(chosen, given, 1.0), draws)
        for top in others:  # one, that of the labels
            rows = self._rows(batch[top], top).astype(np.float32, copy=False)
            own = shares.astype(np.float32).reshape(-1, *[1] * (rows.ndim - 1))
            batch[top] = own * rows + (1 - own) * rows[partners]

    def pictures(
        self, pictures: NDArray[Any], partners: NDArray[Any], shares: NDArray[Any], draws: Draws
    ) -> NDArray[Any]:
        """Mix pictures where they are.

        Args:
            pictures: N×…
            partners: the row that each is mixed with.
            shares: how much of itself each keeps, N; 1: all.
            draws: where chance comes from.

        Returns:
            How much of itself each has kept, N.
        """
        raise NotImplementedError

    def _rows(self, labels: NDArray[Any], top: str) -> NDArray[Any]:
        """Labels as they can be mixed."""
        import numpy as np

        count = len(labels)
        if self.labels == "TARGETS" or labels.shape == (count, self.classes):
            return labels  # of classes where they have been mixed before
        if labels.size != count:
            shape = "x".join(map(str, labels.shape[1:]))
            raise TorrefyError(
                f'{self.type_name}: "{top}" holds {shape} numbers for each picture, which are no '
                "class",
                hint="Give labels: TARGETS where they are mixed as they are.",
            )
        return np.eye(self.classes, dtype=np.float32)[labels.reshape(count).astype(np.int64)]


@augmentation("Mixup")
class Mixup(Mixing):
    """λ of a picture and 1 − λ of another, λ of beta(alpha, alpha) for each (Zhang et al. 2017).

    arXiv:1710.09412, equation 1. The authors' code draws one λ for a whole batch.
    """

    example = "mixup_param { classes: 10 }"
    alpha: float = field(0.2, doc="of the beta law that shares are drawn of", above=0)

    def pictures(
        self, pictures: NDArray[Any], partners: NDArray[Any], shares: NDArray[Any], draws: Draws
    ) -> NDArray[Any]:
        """Add up both parts."""
        own = shares.astype(pictures.dtype).reshape(-1, *[1] * (pictures.ndim - 1))
        other = pictures[partners]
        other *= 1 - own
        pictures *= own
        pictures += other
        return shares


@augmentation("CutMix")
class CutMix(Mixing):
    """A rectangle of a picture is taken from another; its area is the other label's share.

    Yun et al. 2019, arXiv:1905.04899, equations 1 and 2: 1 − λ of the area, λ of beta(alpha,
    alpha) for each picture, around a centre anywhere and cut at the edges, of the picture's
    aspect.
    """

    example = "cut_mix_param { classes: 10 }"
    alpha: float = field(1.0, doc="of the beta law that shares are drawn of", above=0)

    def pictures(
        self, pictures: NDArray[Any], partners: NDArray[Any], shares: NDArray[Any], draws: Draws
    ) -> NDArray[Any]:
        """Copy rectangles."""
        if pictures.ndim < 4:
            found = "x".join(map(str, pictures.shape[1:]))
            raise TorrefyError(f"CutMix cuts pictures of CxHxW, found {found}")
        height, width = pictures.shape[-2:]
        before = pictures.copy()
        kept = shares.copy()
        for i, share in enumerate(shares):
            y, x = draws.below(height), draws.below(width)
            side = math.sqrt(1 - share)
            down, across = int(height * side) // 2, int(width * side) // 2
            top, bottom = max(0, y - down), min(height, y + down)
            left, right = max(0, x - across), min(width, x + across)
            part = (..., slice(top, bottom), slice(left, right))
            pictures[i][part] = before[partners[i]][part]
            kept[i] = 1 - (bottom - top) * (right - left) / (height * width)
        return kept


BUILT_IN = (Mixup, CutMix)
