"""What a data layer's text says of augmentation, and the place of each mistake in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torrefy.data.augment.augmentation import (
    Augmentation,
    BatchAugmentation,
    augmentation_types,
)
from torrefy.data.augment.recipes import read_recipe
from torrefy.errors import DataError, Place, Problem, TorrefyError, did_you_mean
from torrefy.schema import Definition, schema
from torrefy.schema.fields import FieldError

if TYPE_CHECKING:
    from torrefy.data.augment.pipeline import Augmenter
    from torrefy.data.augment.targets import Tracked

Either = Augmentation | BatchAugmentation
Placed = Callable[..., Place | None]
"""Where a part of the transform_param stands: `placed("augmentation", 0, "type")`."""
UNREAD = ("HDF5Data", "MemoryData", "WindowData")
"""Layer types whose pictures are not augmented."""
OWN = ("augmentation", "recipe", "target", "warp")
"""The fields of a transform_param that are about it."""


def asks(spec: Any) -> bool:
    """Whether a LayerParameter says anything of augmentation."""
    given = spec.transform_param
    return any(field.name in OWN for field, _ in given.ListFields())


def read_augmenter(spec: Any, *, train: bool = True, placed: Placed | None = None) -> Augmenter:
    """What a data layer's `transform_param` says is done to its pictures.

    Args:
        spec: the LayerParameter.
        train: whether the augmentations are used; else targets only move with Caffe's crop.
        placed: tells where its parts stand in the text.

    Raises:
        DataError: with all that is wrong.
    """
    from torrefy.data.augment.pipeline import Augmenter
    from torrefy.data.augment.warp import Warp

    made, tracked, warp, problems = _read(spec, placed or (lambda *path: None))
    if problems:
        raise DataError(problems)
    single = [one for one in made if isinstance(one, Augmentation)]
    return Augmenter(single if train else [], Warp.from_message(warp), tracked)


def read_batch_augmentations(spec: Any) -> list[BatchAugmentation]:
    """What a data layer's `transform_param` says is done to its batches.

    Raises:
        DataError: with all that is wrong.
    """
    made, _, _, problems = _read(spec, lambda *path: None)
    if problems:
        raise DataError(problems)
    return [one for one in made if isinstance(one, BatchAugmentation)]


def read_augmentations(messages: Iterable[Any]) -> list[Either]:
    """The augmentations of messages that stand in no layer.

    Raises:
        DataError: with all that is wrong.
    """
    made: list[Either] = []
    problems: list[Problem] = []
    for message in messages:
        try:
            made.append(_augmentation(message))
        except _WrongError as wrong:
            problems += [problem for _, problem in wrong.told]
    if problems:
        raise DataError(problems)
    return made


def augmentation_problems(definition: Definition, index: int) -> list[Problem]:
    """All that is wrong with what a layer says of augmentation; no data are opened.

    Args:
        definition: the net's, upgraded.
        index: the layer's number in it.
    """
    spec = definition.message.layer[index]
    if not asks(spec):
        return []

    def placed(*path: str | int) -> Place:
        return definition.place("layer", index, "transform_param", *path)

    problems = _read(spec, placed)[3]
    return [replace(problem, layer=spec.name) for problem in problems]


def _read(spec: Any, placed: Placed) -> tuple[list[Either], list[Tracked], Any, list[Problem]]:
    given = spec.transform_param
    made: list[Either] = []
    problems: list[Problem] = []
    if spec.type in UNREAD:
        first = next(f.name for f, _ in given.ListFields() if f.name in OWN)
        told = f"a layer of the type {spec.type} augments nothing, and it has {first}"
        hint = "Read the pictures with a Data or an ImageData layer."
        return [], [], given.warp, [Problem(told, placed(first), hint=hint)]
    warp = given.warp
    if given.HasField("recipe"):
        try:
            recipe = read_recipe(given.recipe)
        except DataError as error:
            problems += error.within(place=placed("recipe")).problems
        else:
            made += [_augmentation(message) for message in recipe.augmentation]
            warp = recipe.warp if not given.HasField("warp") else warp
    tracked: list[Tracked] = []
    for name, messages in (("augmentation", given.augmentation), ("target", given.target)):
        for i, message in enumerate(messages):
            try:
                if name == "augmentation":
                    made.append(_augmentation(message))
                else:
                    tracked.append(_tracked(message, list(spec.top)))
            except _WrongError as wrong:
                problems += [replace(p, place=placed(name, i, *path)) for path, p in wrong.told]
    return made, tracked, warp, problems


class _WrongError(Exception):
    """What is wrong with a part, each with its path within."""

    def __init__(self, *told: tuple[tuple[str, ...], Problem]) -> None:
        super().__init__(*told)
        self.told = told


def _augmentation(message: Any) -> Either:
    known = augmentation_types()
    name = message.type
    if not name:
        hint = f"There are {', '.join(known)}."
        raise _WrongError(((), Problem("an augmentation has no type", hint=hint)))
    if name not in known:
        hint = did_you_mean(name, known) or f"There are {', '.join(known)}."
        raise _WrongError((("type",), Problem(f'there is no augmentation "{name}"', hint=hint)))
    told = list(_misplaced(message, known[name]))
    try:
        made: Either = known[name].from_message(message)
    except FieldError as error:
        told.append(((error.path,), Problem(f"{name}: {error}", hint=error.hint)))
    except TorrefyError as error:
        path = (known[name].param,)
        told += [(path, Problem(f"{name}: {p.message}", hint=p.hint)) for p in error.problems]
    if told:
        raise _WrongError(*told)
    made.probability = message.probability
    return made


def _misplaced(message: Any, cls: type[Either]) -> Iterator[tuple[tuple[str, ...], Problem]]:
    """Numbers that no share has, and parameters of another type."""
    if not 0 <= message.probability <= 1:
        what = f"{cls.type_name}: probability must be from 0 to 1, found {message.probability:g}"
        yield ("probability",), Problem(what)
    for one, _ in message.ListFields():
        called = schema().called(one.name)
        if one.message_type is not None and called != cls.param:
            takes = f"takes {cls.param}" if cls.param else "takes no parameters"
            yield (one.name,), Problem(f"{cls.type_name} {takes}, found {called}")


def _tracked(message: Any, tops: list[str]) -> Tracked:
    from torrefy.data.augment.targets import Tracked

    if message.top not in tops[1:]:
        told = f'the layer has no top "{message.top}" that could move with its picture'
        hint = did_you_mean(message.top, tops[1:])
        raise _WrongError((("top",), Problem(told, hint=hint)))
    swap = list(message.swap)
    if len(swap) % 2 or len(set(swap)) < len(swap):
        told = f'swap of "{message.top}" names each point once, two and two'
        raise _WrongError((("swap",), Problem(told)))
    return Tracked(
        tops.index(message.top),
        message.top,
        message.Kind.Name(message.kind),
        tuple(zip(swap[::2], swap[1::2], strict=True)),
        message.fraction,
        message.visible,
        message.fill,
    )
