"""The checks of one augmentation: its page and text, its draws, what it does to a sample.

Each failure is an AssertionError of one sentence that begins with the augmentation's type.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.augment.affine import Affine
from torrefy.data.augment.augmentation import (
    Augmentation,
    Drawn,
    Sample,
    augmentation_types,
)
from torrefy.data.augment.pipeline import Augmenter
from torrefy.data.augment.read import read_augmenter
from torrefy.data.augment.targets import GONE, Target
from torrefy.data.augment.warp import Warp
from torrefy.data.draws import Draws
from torrefy.data.loader import Loader
from torrefy.data.sources.memory import ArraySource
from torrefy.data.transform import Transformer
from torrefy.errors import RecordError
from torrefy.plugins import added, hookimpl
from torrefy.schema import parse_text, write_text
from torrefy.schema.fields import declared
from torrefy.testing.failure import fail, told

ROUNDS = 16
"""How many draws are tried on each picture."""
HEIGHT, WIDTH, RADIUS = 60, 80, 6
CENTRES = ((12, 10), (30, 22), (52, 12), (22, 42), (44, 41), (68, 35))
"""A scene: bright discs, at these places of x and y, none where another would be mirrored."""
APART = 0.75
"""Pixels between a point and the centre of its disc that are too many."""
LIKENESS = 0.3
"""The correlation of the picture with the mask below which they have come apart."""


def check_augmentation(cls: type[Augmentation], params: str = "") -> None:
    """Check all that holds for a sound augmentation.

    It has a docstring and a `doc` for each of its fields; its text reads back as it was written;
    the same draws give the same finite numbers, and the same numbers the same picture; bytes stay
    bytes and floats finite floats, of as many channels; a grey picture works or is refused by a
    RecordError; what it is given is not written into; points, boxes and masks lie where the pixels
    do; and it can be pickled, and gives the same in a worker process.

    Args:
        cls: the class, which need not be given by any plugin yet.
        params: its parameters as text, "solarize_param { above: 64 }"; empty: its example.

    Raises:
        AssertionError: one sentence about what is wrong.

    Example:
        check_augmentation(Solarize, "solarize_param { above: 64 }")
    """
    _check_docs(cls)
    with _offered(cls), told(cls.type_name):
        one = _read(cls, params or cls.example)
        for position in range(ROUNDS):
            _check_draw(one, position)
        bytes_, floats = _scene(np.uint8), _scene(np.float32)
        likeness = []
        for position in range(ROUNDS):
            _applied(one, floats, position)
            with contextlib.suppress(RecordError):
                _applied(one, floats[:1], position)
                _applied(one, bytes_[:1], position)
            likeness.append(_check_targets(one, _applied(one, bytes_, position)))
        seen = [value for value in likeness if value is not None]
        if seen and sum(seen) / len(seen) < LIKENESS:
            fail(
                cls.type_name,
                "the picture and its mask come apart; where pixels move, sample.targets must, too",
            )
        _check_process(one, bytes_)


def _check_docs(cls: type[Augmentation]) -> None:
    if not cls.type_name:
        fail(cls.__name__, 'it has no type; make it with @augmentation("Type")')
    if not inspect.cleandoc(cls.__doc__ or "") or cls.__doc__ == Augmentation.__doc__:
        fail(cls.type_name, "the class has no docstring; say what it does, and the source")
    for name, one in declared(cls).items():
        if not one.doc:
            fail(cls.type_name, f"the field {name} has no doc; say what it is, and in which unit")


def _read(cls: type[Augmentation], params: str) -> Augmentation:
    text = (
        'layer { name: "data" type: "Data" top: "data" top: "label" transform_param { '
        f'augmentation {{ type: "{cls.type_name}" {params} }} }} }}'
    )
    message = parse_text(text).message
    again = parse_text(write_text(message)).message
    if again != message:
        fail(cls.type_name, "written as text and read again, it has changed")
    (made,) = read_augmenter(again.layer[0]).augmentations
    if type(made) is not cls:
        fail(cls.type_name, f"its type makes a {type(made).__module__}.{type(made).__qualname__}")
    return made


def _drawn(one: Augmentation, position: int) -> Drawn:
    return one.draw_around(Draws(7, position), (HEIGHT, WIDTH), lambda: _targets()[1].values)


def _check_draw(one: Augmentation, position: int) -> None:
    drawn = _drawn(one, position)
    if drawn != _drawn(one, position):
        fail(one.type_name, "the same draws give other numbers; all chance must come from `draws`")
    for name, value in drawn.items():
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            fail(one.type_name, f'what it draws as "{name}" is no finite number: {value!r}')


def _applied(one: Augmentation, picture: NDArray[Any], position: int) -> Sample:
    """A sample after the augmentation, for what was drawn at a position."""
    name = one.type_name
    drawn = _drawn(one, position)
    made = [_once(one, picture, drawn) for _ in range(2)]
    found = made[0].picture
    if found.dtype != picture.dtype:
        fail(name, f"it makes {found.dtype} of {picture.dtype}")
    if found.ndim != 3 or len(found) != len(picture) or not found.size:
        shapes = ["x".join(map(str, shape)) for shape in (found.shape, picture.shape)]
        fail(name, f"it makes {shapes[0]} of a picture of {shapes[1]}")
    if not np.isfinite(found).all():
        fail(name, "the picture has numbers that are not finite")
    if not np.array_equal(found, made[1].picture):
        fail(name, "the same numbers give another picture; all chance must be in what is drawn")
    return made[0]


def _once(one: Augmentation, picture: NDArray[Any], drawn: Drawn) -> Sample:
    sample = Sample(picture.copy(), _targets())
    for array in (sample.picture, *(target.values for target in sample.targets)):
        array.flags.writeable = False
    try:
        if isinstance(one, Affine):
            matrix, canvas = one.matrix(drawn, sample.size), one.canvas(drawn, sample.size)
            # A border of its own: one that reflects would show discs twice.
            Warp(border="CONSTANT").sample(sample, matrix, canvas)
        else:
            one.apply(sample, drawn)
    except ValueError as error:
        if "read-only" in str(error):
            fail(one.type_name, "it writes into the sample's arrays; they are to be replaced")
        raise
    return sample


def _scene(dtype: Any) -> NDArray[Any]:
    """Discs of several colours on a dark ground."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.stack([40 + 20 * x / WIDTH, 50 + 10 * y / HEIGHT, 45 + 0 * x])
    for i, (across, down) in enumerate(CENTRES):
        inside = np.hypot(x - across, y - down) <= RADIUS
        picture[:, inside] = np.array([[220 - 10 * i], [200], [180 + 10 * i]])
    return picture.round().astype(dtype)


def _targets() -> list[Target]:
    """The discs as points, boxes and a mask."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    mask = np.zeros((1, HEIGHT, WIDTH), np.uint8)
    for i, (across, down) in enumerate(CENTRES, 1):
        mask[0, np.hypot(x - across, y - down) <= RADIUS] = i
    points = np.array(CENTRES, np.float32)
    boxes = np.concatenate([points - RADIUS, points + RADIUS + 1], axis=1)
    return [Target("POINTS", points), Target("BOXES", boxes), Target("MASK", mask)]


def _check_targets(one: Augmentation, sample: Sample) -> float | None:
    """How like the picture and its mask are; None: the mask tells nothing."""
    points, boxes, mask = (target.values for target in sample.targets)
    if mask.shape[1:] != sample.size:
        fail(one.type_name, f"the picture is {sample.size}, and its mask {mask.shape[1:]}")
    height, width = sample.size
    for i in range(len(CENTRES)):
        rows, columns = np.nonzero(mask[0] == i + 1)
        whole = len(rows) >= 9 and rows.min() > 0 and columns.min() > 0
        if not whole or rows.max() == height - 1 or columns.max() == width - 1:
            continue
        x, y = columns.mean(), rows.mean()
        apart = math.hypot(x - points[i][0], y - points[i][1])
        if apart > APART * max(1, math.sqrt(len(rows)) / RADIUS):
            fail(one.type_name, f"a point lies {apart:.1f} pixels from what it marks")
        left, top, right, bottom = boxes[i]
        if (boxes[i] == GONE).all() or not (left <= x <= right and top <= y <= bottom):
            fail(one.type_name, "a box is not around what it marks")
    covered = mask[0] > 0
    if not 0.02 < covered.mean() < 0.9:
        return None
    bright = sample.picture.mean(axis=0)
    far = np.abs(bright - np.median(bright[~covered]))
    return float(np.corrcoef(far.ravel(), covered.ravel())[0, 1]) if far.std() > 1e-6 else 0.0


def _check_process(one: Augmentation, picture: NDArray[Any]) -> None:
    """It travels to another process, and does there what it does here."""
    try:
        copy = pickle.loads(pickle.dumps(one))  # noqa: S301  what was just written
    except Exception as error:  # noqa: BLE001  an author's code
        fail(one.type_name, f"it can't be pickled, as for worker processes: {error}", error)
    if _drawn(copy, 0) != _drawn(one, 0):
        fail(one.type_name, "a pickled copy draws other numbers")
    source = ArraySource(np.stack([picture, picture[:, ::-1]]), np.zeros(2, np.float32))
    made = []
    for workers in (0, 1):
        loader = Loader(
            source,
            batch_size=1,
            tops=["data"],
            transform=Transformer(augmenter=Augmenter([one])),
            workers=workers,
        )
        made.append([next(loader)["data"].numpy() for _ in range(3)])
        loader.close()
    if not all(np.array_equal(a, b) for a, b in zip(*made, strict=True)):
        fail(one.type_name, "a worker process gives other pictures than this one")


class _Giver:
    """A plugin that gives one augmentation class."""

    def __init__(self, cls: type[Augmentation]) -> None:
        self.cls = cls

    @hookimpl
    def torrefy_augmentations(self) -> list[type[Augmentation]]:
        """The class."""
        return [self.cls]


@contextlib.contextmanager
def _offered(cls: type[Augmentation]) -> Iterator[None]:
    """Within it, a class is an augmentation of this process, whether a plugin gives it or not."""
    known = augmentation_types()
    if cls.type_name in known and known[cls.type_name] is cls:
        yield
    else:
        with added(_Giver(cls), "under-test"):
            yield
