"""Versions of one picture, whose answers are averaged: test-time augmentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from torrefy.data.augment.augmentation import Augmentation, augmentation_types
from torrefy.data.augment.pipeline import Augmenter
from torrefy.data.augment.read import read_augmentations
from torrefy.data.augment.recipes import RECIPES, read_recipe
from torrefy.data.augment.warp import Warp
from torrefy.data.draws import Draws, mixed
from torrefy.errors import Place, TorrefyError, did_you_mean
from torrefy.schema import parse_text

COUNT = 8
"""How many versions there are of what is drawn, where nobody says."""


@dataclass(frozen=True)
class Version:
    """One way to see a picture."""

    corner: tuple[float, float] = (0.5, 0.5)
    """Where its crop is, down and across: 0 at the top or left, 0.5 in the middle, 1 at the end."""
    mirrored: bool = False
    """Whether left and right change, of the crop."""
    number: int = 0
    """Of what is drawn for it; 0: the picture is as it is."""

    def place(self, size: Sequence[int], crop: Sequence[int]) -> tuple[int, int]:
        """The crop's top and left in a picture of that height and width; halves rounded down."""
        down, across = (
            int((whole - part) * where)
            for whole, part, where in zip(size, crop, self.corner, strict=True)
        )
        return down, across


FLIP = (Version(), Version(mirrored=True))
"""A picture, and mirrored."""
OVERSAMPLE = tuple(
    Version(corner, mirrored)
    for mirrored in (False, True)
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))
)
"""Crops at the four corners and in the middle, then these mirrored: pycaffe's, in its order."""
FIXED = {"flip": FLIP, "oversample": OVERSAMPLE}
"""Versions of which nothing is drawn, by their names."""


class Versions:
    """What versions of each picture are made.

    Those that are drawn are drawn alike for every picture, so that the answer for one does not
    depend on the others.

    Example:
        >>> len(read_versions("oversample"))
        10
        >>> len(read_versions(["Rotation min: -10 max: 10", "Flip"], count=4))
        4
    """

    def __init__(
        self,
        name: str,
        versions: Sequence[Version],
        augmenter: Augmenter | None = None,
        seed: int = 0,
    ) -> None:
        """Take versions; see `read_versions` for the usual way.

        Args:
            name: what they are called where results are shown.
            versions: the versions, one at least.
            augmenter: what is drawn for those with a number above 0.
            seed: of what is drawn.
        """
        self.name = name
        self.all = tuple(versions)
        self.augmenter = augmenter
        self.seed = seed

    def __len__(self) -> int:
        return len(self.all)

    @property
    def crops(self) -> bool:
        """Whether there are crops that are not in the middle."""
        return any(version.corner != (0.5, 0.5) for version in self.all)

    def of(self, picture: NDArray[Any]) -> Iterator[tuple[NDArray[Any], Version]]:
        """Each version with the picture that it is to be cropped from and mirrored.

        Args:
            picture: C×H×W, as `Sample.picture` is.
        """
        for version in self.all:
            if version.number and self.augmenter is not None:
                draws = Draws(mixed(self.seed, version.number), 0)
                yield self.augmenter.sample(picture, draws).picture, version
            else:
                yield picture, version


def read_versions(
    given: Versions | str | Sequence[str], count: int | None = None, seed: int = 0
) -> Versions:
    """The versions that names mean.

    Args:
        given: "flip", "oversample" (ten crops of a picture that is larger than the net's input); a
            recipe; or augmentations with their fields, "Rotation min: -10 max: 10", done one after
            the other. Versions stay as they are.
        count: how many versions there are of what is drawn, the first being the picture as it is;
            None: COUNT.
        seed: of what is drawn.

    Raises:
        TorrefyError: nothing has such a name, a field is wrong, or a count is given for versions
            that are not drawn.
    """
    if isinstance(given, Versions):
        return given
    names = [given] if isinstance(given, str) else list(given)
    if not names:
        raise TorrefyError("no version of a picture is named", hint=f"There are {_known()}.")
    fixed = [name for name in names if name in FIXED]
    if fixed:
        if len(names) > 1:
            raise TorrefyError(f'"{fixed[0]}" stands alone, found {len(names)} names')
        if count is not None:
            raise TorrefyError(
                f'"{fixed[0]}" is {len(FIXED[fixed[0]])} versions: a count is for augmentations '
                "that are drawn"
            )
        return Versions(fixed[0], FIXED[fixed[0]])
    count = COUNT if count is None else count
    if count < 2:
        raise TorrefyError(f"there must be 2 versions or more, found {count}")
    messages: list[Any] = []
    warp = None
    for name in names:
        if name in RECIPES:
            recipe = read_recipe(name)
            messages += recipe.augmentation
            warp = Warp.from_message(recipe.warp)
        else:
            messages.append(parse_augmentation(name))
    made = []
    for one in read_augmentations(messages):
        if not isinstance(one, Augmentation):
            raise TorrefyError(
                f"{one.type_name} mixes pictures, so there are no versions of one by it"
            )
        made.append(one)
    versions = [Version(number=number) for number in range(count)]
    return Versions(", ".join(names), versions, Augmenter(made, warp), seed)


def parse_augmentation(text: str) -> Any:
    """The message of an augmentation as a command line names it: "Rotation min: -10 max: 10".

    Raises:
        TorrefyError: there is none of that name, or a field is wrong.
    """
    name, _, fields = text.strip().partition(" ")
    types = augmentation_types()
    if name not in types:
        hint = did_you_mean(name, [*FIXED, *RECIPES, *types]) or f"There are {_known()}."
        raise TorrefyError(f'nothing makes versions called "{name}"', hint=hint)
    inner = f"{types[name].param} {{ {fields} }}" if fields.strip() else ""
    source = f'augmentation {{ type: "{name}" {inner} }}'
    told = f'"{text}"'
    try:
        read = parse_text(source, "caffe.TransformationParameter", told)
    except TorrefyError as error:  # its columns are those of the source
        problems = [replace(problem, place=Place(told)) for problem in error.problems]
        raise TorrefyError(problems) from None
    return read.message.augmentation[0]


def _known() -> str:
    return ", ".join([*FIXED, *RECIPES, *augmentation_types()])
