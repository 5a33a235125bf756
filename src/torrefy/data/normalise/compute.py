"""Statistics computed: one pass over a source, in memory that its length doesn't change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.draws import Draws, permutation
from torrefy.data.loader import Loader, Transform
from torrefy.data.normalise.moments import Moments
from torrefy.data.normalise.spectrum import (
    MOST_COMPONENTS,
    MOST_EXACT,
    IncrementalSpectrum,
    Spectrum,
    exact_spectrum,
    most_components,
)
from torrefy.data.normalise.statistics import Statistics
from torrefy.data.sources.source import Item, Source
from torrefy.errors import DataError, Place, RecordError, TorrefyError
from torrefy.layers.base import shape_text

BATCH = 32
"""Pictures that a worker makes at once."""
CHUNK = 1 << 26
"""The bytes of pictures that are merged at once."""


def compute_statistics(
    source: Source,
    *,
    transform: Transform | None = None,
    whiten: bool = False,
    components: int | None = None,
    epsilon: float = 1e-5,
    sample: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    about: tuple[str, str] = ("", ""),
    told: Callable[[int], None] | None = None,
) -> Statistics:
    """The statistics of a source's pictures, each seen once.

    Of pictures of up to 4096 values (C·H·W) the whole covariance is made and decomposed; of
    larger ones the components are found by scikit-learn's IncrementalPCA. `Statistics.method`
    says which it was.

    Args:
        source: the pictures.
        transform: what the layer does to them, by no chance; None: nothing.
        whiten: whether eigenvalues and components are found.
        components: how many; None: all of small pictures, 256 of large ones.
        epsilon: what is added to eigenvalues before their root is divided by, in squares of
            the pictures' values.
        sample: how many pictures are seen, drawn by `seed`; None: all.
        seed: of the sample.
        workers: processes that read, as `Loader` takes it.
        about: what the file says of the transform and of the source.
        told: called with the number of pictures seen.

    Raises:
        DataError: a number is out of range, or would take more than 4 GiB.
        RecordError: a picture has another size than the first, or values that are not finite.
        TorrefyError: an item can't be read.
    """
    chosen = _Chosen(source, sample, seed)
    shape = _first_shape(chosen, transform)
    size, count = math.prod(shape), len(chosen)
    if not 0 <= epsilon < math.inf:
        raise DataError(f"epsilon must be 0 or more, found {epsilon:g}")
    exact = whiten and size <= MOST_EXACT
    number = _components(components, size, count, exact) if whiten else 0
    moments = Moments(shape, covariance=exact)
    incremental = IncrementalSpectrum(size, number) if whiten and not exact else None
    least = incremental.rows if incremental is not None else 1
    loading = Loader(
        chosen,
        batch_size=min(BATCH, count),
        tops=["data"],
        transform=_OneSize(transform, shape),
        workers=workers,
    )
    for rows in _chunks(loading, size, least, told):
        moments.add(rows)
        if incremental is not None:
            incremental.add(rows)
    spectrum: Spectrum | None = None
    if incremental is not None:
        spectrum = incremental.spectrum()
    elif exact:
        spectrum = exact_spectrum(moments.covariance, number)
    return Statistics(
        count=count,
        mean=moments.mean,
        std=np.sqrt(moments.variance),
        channel_mean=moments.channel_mean,
        channel_std=np.sqrt(moments.channel_variance),
        eigenvalues=spectrum.eigenvalues if spectrum else None,
        components=spectrum.components.reshape(-1, *shape) if spectrum else None,
        epsilon=float(epsilon),
        method=incremental.method if incremental else "exact" if exact else "",
        transform=about[0],
        source=about[1],
        seed=seed,
    )


def first_pictures(source: Source, transform: Transform | None, count: int) -> NDArray[np.float32]:
    """The first pictures of a source as a net would get them, N×C×H×W."""
    made = [_made(source, i, transform) for i in range(min(count, len(source)))]
    return np.stack([np.asarray(picture, np.float32) for picture in made])


def _components(given: int | None, size: int, count: int, exact: bool) -> int:
    if exact:
        number, most, what = given or size, size, f"a picture has {size} values"
    else:
        number = given or min(MOST_COMPONENTS, count, most_components(size))
        most, what = min(size, count), f"there are {count} pictures"
    if not 1 <= number <= most:
        raise DataError(f"{number} components are asked for, but {what}")
    return number


def _chunks(
    loader: Loader, size: int, least: int, told: Callable[[int], None] | None
) -> Iterator[NDArray[np.float64]]:
    """All pictures as rows, in the order of the source; the first chunk has `least` or more."""
    count, batch = len(loader.source), loader.batch_size
    kept = np.empty((min(count, max(least, CHUNK // (8 * size), 1)), size))
    filled = 0
    try:
        for start in range(0, count, batch):
            # After the last item a loader goes on with the first: those are left out.
            rows = next(loader)["data"].numpy()[: count - start].reshape(-1, size)
            while len(rows):
                taken = rows[: len(kept) - filled]
                kept[filled : filled + len(taken)] = taken
                filled, rows = filled + len(taken), rows[len(taken) :]
                if filled == len(kept):
                    yield kept
                    filled = 0
            if told is not None:
                told(min(start + batch, count))
        if filled:
            yield kept[:filled]
    finally:
        loader.close()


class _Chosen(Source):
    """A source's items in order, or a sample of them."""

    def __init__(self, source: Source, sample: int | None, seed: int) -> None:
        self.source = source
        self.indices: NDArray[np.int64] | None = None
        if not len(source):
            raise DataError("there is no picture to take statistics of")
        if sample is not None and sample < len(source):
            self.indices = np.sort(permutation(len(source), seed)[:sample])

    def _index(self, index: int) -> int:
        return index if self.indices is None else int(self.indices[index])

    def __len__(self) -> int:
        return len(self.source) if self.indices is None else len(self.indices)

    def item(self, index: int) -> Item:
        return self.source.item(self._index(index))

    def key(self, index: int) -> str:
        return self.source.key(self._index(index))

    @property
    def heavy(self) -> bool:
        return self.source.heavy

    def close(self) -> None:
        self.source.close()


class _OneSize:
    """A transform that refuses pictures of another size than the first, and infinite values."""

    def __init__(self, transform: Transform | None, shape: tuple[int, ...]) -> None:
        self.transform = transform
        self.shape = shape

    def __call__(self, item: Item, draws: Draws) -> Item:
        if self.transform is not None:
            item = self.transform(item, draws)
        picture = item[0]
        if picture.shape != self.shape:
            raise RecordError(
                f"the picture is {shape_text(picture.shape)}, and the first one "
                f"{shape_text(self.shape)}; statistics take pictures of one size",
                hint="Take them from a layer with crop_size, or resize the pictures.",
            )
        if picture.dtype.kind == "f" and not np.isfinite(picture).all():
            raise RecordError("the picture holds values that are no finite numbers")
        return (picture,)


def _made(source: Source, index: int, transform: Transform | None) -> NDArray[Any]:
    """A picture as the transform makes it."""
    try:
        item = source.item(index)
        return (transform(item, Draws(0, index)) if transform is not None else item)[0]
    except TorrefyError as error:
        raise error.within(place=Place(source.key(index))) from None


def _first_shape(source: Source, transform: Transform | None) -> tuple[int, int, int]:
    shape = _made(source, 0, transform).shape
    if len(shape) != 3:
        raise DataError("its items are no pictures", place=Place(source.key(0)))
    return shape
