"""An augmentation in one class, and those that a data layer's text names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from torrefy.plugins import Contribution, Named, cached, contributions
from torrefy.schema.typed import Typed, typed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from torrefy.data.augment.targets import Target
    from torrefy.data.draws import Draws

Drawn = dict[str, float]
"""What was drawn for one picture, by name."""
Batch = dict[str, "NDArray[Any]"]
"""The arrays of a batch by their tops, the pictures' first."""


@dataclass
class Sample:
    """A picture on its way to the net, and what moves with it."""

    picture: NDArray[Any]
    """CxHxW, bytes or float32 of 0..255; channels are blue, green, red, or one of grey."""
    targets: list[Target] = field(default_factory=list)
    """Points, boxes and masks in its pixels."""
    drawn: list[tuple[str, Drawn | None]] = field(default_factory=list)
    """What was drawn so far: each augmentation's type and numbers, for those who look; None: it
    was not done to this picture."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.picture.shape[-2:]
        return height, width


class Augmentation(Typed):
    """One thing that is done to a picture by chance.

    A data layer's text names it, `transform_param { augmentation { type: "Solarize" … } }`, with
    the parameters that its annotated fields are. It draws its numbers apart from using them, so
    that they can be shown, and all chance comes from `draws`, so that a run can be repeated,
    whatever the number of processes. A plugin's is returned by the hook `torrefy_augmentations`;
    it must be importable without numpy or torch, which its methods may import.

    Example:
        @augmentation("Solarize")
        class Solarize(Augmentation):
            "Turns bright pixels dark (Cubuk et al. 2019, arXiv:1805.09501)."
            above: float = field(128.0, doc="the darkest value that is turned")

            def apply(self, sample, drawn):
                import numpy as np
                picture = sample.picture
                sample.picture = np.where(picture < self.above, picture, 255 - picture)
    """

    probability: float = 1.0
    """The share of pictures that it is done to; the text's `probability`."""
    example: ClassVar[str] = ""
    """Its parameters as text, "resize_param { height: 8 width: 8 }", where some must be given."""

    def draw(self, draws: Draws, size: tuple[int, int]) -> Drawn:
        """The numbers for one picture.

        Args:
            draws: where chance comes from.
            size: the picture's height and width.
        """
        return {}

    def draw_around(
        self, draws: Draws, size: tuple[int, int], boxes: Callable[[], NDArray[Any]]
    ) -> Drawn:
        """The numbers for one picture, where they depend on its boxes; else `draw`'s.

        Args:
            draws: where chance comes from.
            size: the picture's height and width.
            boxes: gives the boxes that are in it, Kx4 as left top right bottom, in pixels.
        """
        return self.draw(draws, size)

    def apply(self, sample: Sample, drawn: Drawn) -> None:
        """Change a sample by what was drawn for it. Its arrays are replaced, never written into.

        Raises:
            RecordError: it can't be done to such a picture.
        """
        raise NotImplementedError


class BatchAugmentation(Typed):
    """One thing that is done to a batch by chance, as its pictures go to the net: Mixup, CutMix.

    It is named in the text as an `Augmentation` is, wherever it stands there; it is done after
    all that is done to each picture, crop, mean and scale too. A plugin's is returned by the same
    hook.
    """

    example: ClassVar[str] = ""
    """What an example of use holds: "mixup_param { classes: 10 }"."""
    probability: float = 1.0
    """The share of pictures that it is done to; the text's `probability`."""

    def label_classes(self, tops: Sequence[str]) -> dict[str, int]:
        """The tops whose labels must be class numbers, below how many, before it is done.

        Args:
            tops: the layer's, the pictures first.

        Raises:
            TorrefyError: the layer has not the tops that it needs.
        """
        return {}

    def mix(self, batch: Batch, chosen: NDArray[np.bool_], draws: Draws) -> None:
        """Change a batch.

        Args:
            batch: float32 arrays by top, the pictures first; they may be written into or replaced.
            chosen: the pictures that it is done to, N.
            draws: where chance comes from.
        """
        raise NotImplementedError


Kind = TypeVar("Kind", bound=type[Augmentation] | type[BatchAugmentation])


def augmentation(type_name: str) -> Callable[[Kind], Kind]:
    """Give an augmentation class its type in the text: `@augmentation("Solarize")`."""
    return typed(type_name)


@cached
def augmentation_types() -> Named:
    """Every augmentation class, by its type."""
    given = contributions("torrefy_augmentations")
    return Named("augmentation", given, "type_name", check=_problem)


def _problem(given: Contribution) -> str:
    cls = given.load()
    if isinstance(cls, type) and issubclass(cls, (Augmentation, BatchAugmentation)):
        return ""
    return (
        "what it gives as an augmentation is no subclass of Augmentation or BatchAugmentation: "
        f"{cls!r}"
    )
