"""Batches for a data layer, made ahead by worker processes, the same whatever their number."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from torrefy.data.ahead import cores
from torrefy.data.draws import Draws, mixed, named
from torrefy.data.labels import LabelLimit
from torrefy.data.order import Order
from torrefy.data.sources.source import Item, Source
from torrefy.errors import DataError, PictureError, RecordError, TorrefyError

if TYPE_CHECKING:
    from torrefy.data.augment.batch import BatchAugmenter
    from torrefy.data.augment.versions import Versions

Transform = Callable[[Item, Draws], Item]
"""Makes of an item what the net sees."""

PARENT_LOOKED_FOR = 0.5
"""Seconds after which a worker looks whether the process that trains is still there."""


@runtime_checkable
class BatchTransform(Protocol):
    """A transform whose last step is done to all pictures of a batch at once, which is faster."""

    def __call__(self, item: Item, draws: Draws) -> Item:
        """All of it, to an item."""
        ...

    def each(self, item: Item, draws: Draws) -> Item:
        """All but the last step, to an item; the picture is float32."""
        ...

    def whole(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """The last step, to a batch of what `each` made."""
        ...


MOST_SKIPPED = 1000
"""How many bad items in a row are passed over before the source counts as broken."""


class Loader:
    """An endless iterator over batches: a dict from top to tensor, all float32 as in Caffe.

    What stands at a position of the stream depends on the seed and the layer's name alone, not on
    the number of workers or what was read before: `load_state_dict` goes on at once, and a
    resumed run sees what it would have seen. After the last item it goes on with the first, in
    the midst of a batch as Caffe does.

    Of `world` processes, each has a loader with its rank and takes every world-th batch.

    Example:
        >>> from torrefy.data.sources.memory import ArraySource
        >>> loader = Loader(ArraySource([[1], [2], [3]]), batch_size=2, tops=["data"])
        >>> next(loader)["data"].tolist(), next(loader)["data"].tolist()
        ([[1.0], [2.0]], [[3.0], [1.0]])
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        tops: Sequence[str],
        transform: Transform | None = None,
        name: str = "",
        seed: int = 0,
        workers: int | None = None,
        prefetch: int = 2,
        pin: bool = False,
        rank: int = 0,
        world: int = 1,
        bad: str = "fail",
        labels: Mapping[str, LabelLimit] | None = None,
        mix: BatchAugmenter | None = None,
    ) -> None:
        """Say what batches are made of; nothing is read before the first is asked for.

        Args:
            source: where items come from.
            batch_size: items in a batch.
            tops: names for the parts of an item, in their order; fewer than it has is fine.
            transform: what is done to each item; None: nothing.
            name: the layer's, for messages, and so that each layer draws on its own.
            seed: of the order, of crops and of mirroring.
            workers: processes that make batches; 0: this one does, when a batch is asked for.
                None: where items are pictures or large, one for each core but one and 4 at most
                (torchrun's processes share the cores); else 0.
            prefetch: batches that each worker makes ahead.
            pin: whether tensors lie in pinned memory, from which a GPU takes them by itself.
            rank: which of the processes this is.
            world: how many processes there are.
            bad: "fail": an item that can't be used is an error. "skip": the next one is taken in
                its place, and `bad` and `skipped` count.
            labels: which labels are right, by the name of the top; None: any.
            mix: what is done to each batch, after its labels were looked at; None: nothing.

        Raises:
            DataError: an argument is wrong, or the source can't serve batches of this size.
        """
        if batch_size < 1 or not 0 <= rank < world:
            raise DataError(f"batch_size {batch_size}, rank {rank} of {world}: not possible")
        if bad not in ("fail", "skip"):
            raise DataError(f'bad is "fail" or "skip", found "{bad}"')
        self.source = source
        self.batch_size = batch_size
        self.name = name
        self.seed = seed
        self.workers = workers if workers is not None else _workers() if source.heavy else 0
        self.prefetch = prefetch
        self.pin = pin
        self.rank, self.world = rank, world
        self.bad: dict[str, str] = {}
        """What could not be used: where items are named, and what is wrong with each."""
        self.skips = bad == "skip"
        """Whether another item is taken in place of a bad one."""
        self.skipped = 0
        """How often another item was taken in place of a bad one."""
        self.versions: Versions | None = None
        """What the transform makes of each picture, if it makes several of one."""
        self._position = 0
        try:
            self._making = _Making(
                source,
                batch_size,
                tops=tuple(tops),
                transform=transform,
                skip=self.skips,
                labels=labels or {},
                mix=mix,
                name=name,
            )
        except TorrefyError as error:
            raise error.within(layer=name) from None
        self._batches: Iterator[_Batch] | None = None

    def __iter__(self) -> Loader:
        return self

    def __next__(self) -> dict[str, Tensor]:
        """The next batch.

        Raises:
            TorrefyError: an item can't be used, or too many in a row; a worker died. The loader
                stays where it is, and tries again when it is asked again.
        """
        if self._batches is None:
            self._batches = self._start()
        try:
            batch = next(self._batches)
        except RuntimeError as error:
            self.close()
            if "DataLoader worker" not in str(error):
                raise
            raise DataError(
                "a process that makes batches ended before its time",
                layer=self.name,
                hint="It may have run out of memory: use fewer workers.",
            ) from error
        if batch.error is not None:
            self.close()
            raise batch.error
        self.bad.update(batch.bad)
        self.skipped += batch.skipped
        self._position += self.batch_size * self.world
        return batch.tensors

    def expect_labels(
        self, classes: int | None, ignore_label: int | None = None, *, top: str = ""
    ) -> None:
        """Say which labels are right from now on; what was made ahead is made again.

        Args:
            classes: labels are from 0 to below it; None: they may be anything.
            ignore_label: one that is right too.
            top: where they are; empty: in the second top.

        `torrefy.data.labels.label_limits` tells what a net takes.
        """
        for name in [top] if top else self._making.tops[1:2]:
            self._making.labels.pop(name, None)
            if classes is not None:
                self._making.labels[name] = LabelLimit(classes, ignore_label)
        self._making.known.clear()
        self.close()

    def sample(self, most: int, seconds: float) -> tuple[int, list[TorrefyError]]:
        """Make some items without taking them, to see whether they can be used.

        Args:
            most: how many, spread over the source by chance.
            seconds: after which no other one is begun.

        Returns:
            How many were made, and the errors of those that can't be used, in the source's order.

        Raises:
            DataError: the source can't be read.
        """
        end = time.monotonic() + seconds
        count = len(self.source)
        chosen = list(range(count))
        if count > most:
            chosen = list({mixed(i) % count: None for i in range(most)})
        if not self.source.heavy:
            chosen.sort()  # their files are loaded whole
        bad: dict[int, TorrefyError] = {}
        done = 0
        for index in chosen:
            done += 1
            try:
                self._making.made(index, 0)
            except (PictureError, RecordError) as error:
                bad[index] = error.within(layer=self.name)
            except TorrefyError as error:
                raise error.within(layer=self.name) from None
            if time.monotonic() > end:
                break
        return done, [bad[index] for index in sorted(bad)]

    @property
    def number(self) -> int:
        """The number of the next batch, counted over all processes."""
        return self._position // self.batch_size + self.rank

    @property
    def epoch(self) -> float:
        """How many times the source has been gone through, by all processes together."""
        return self._position / len(self.source)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands: plain numbers, to be kept in a snapshot."""
        return {
            "position": self._position,
            "seed": self.seed,
            "count": len(self.source),
            "skipped": self.skipped,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a loader stood, by its `state_dict`; its seed is taken over.

        The number of workers, of processes, and the batch size may be others.

        Raises:
            DataError: the source has another number of items than it had.
        """
        if state["count"] != len(self.source):
            raise DataError(
                f"the data have changed: there are {len(self.source)} items, and there were "
                f"{state['count']} when the state was kept",
                layer=self.name,
            )
        self.close()
        self._position = int(state["position"])
        self.seed = int(state["seed"])
        self.skipped = int(state["skipped"])

    def close(self) -> None:
        """End the workers and close the source's files. The loader can go on."""
        self._batches = None
        self.source.close()

    def _start(self) -> Iterator[_Batch]:
        self._making.begin(named(self.seed, self.name))
        starts = itertools.count(
            self._position + self.rank * self.batch_size, self.batch_size * self.world
        )
        pin = self.pin and torch.cuda.is_available()
        if not self.workers:
            made = map(self._making.__getitem__, starts)
            return (batch.pin_memory() for batch in made) if pin else made
        with _signals_held(), warnings.catch_warnings():
            # More workers than cores are what was asked for.
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
            loader: DataLoader[_Batch] = DataLoader(
                self._making,
                batch_size=None,
                sampler=starts,  # any iterable will do
                collate_fn=_as_it_is,
                num_workers=self.workers,
                prefetch_factor=self.prefetch,
                pin_memory=pin,
                worker_init_fn=_begin_worker,
                generator=torch.Generator(),  # else it would draw from the net's
            )
            return iter(loader)


class _Batch(NamedTuple):
    """What a worker sends."""

    tensors: dict[str, Tensor]
    bad: dict[str, str]
    skipped: int
    error: TorrefyError | None = None

    def pin_memory(self) -> _Batch:
        """The batch in pinned memory."""
        pinned = {name: tensor.pin_memory() for name, tensor in self.tensors.items()}
        return self._replace(tensors=pinned)


class _Making(Dataset[_Batch]):
    """Batches by the position of their first item."""

    def __init__(
        self,
        source: Source,
        batch_size: int,
        *,
        tops: tuple[str, ...],
        transform: Transform | None,
        skip: bool,
        labels: Mapping[str, LabelLimit],
        mix: BatchAugmenter | None,
        name: str,
    ) -> None:
        self.source = source
        self.batch_size = batch_size
        self.tops = tops
        self.transform = transform
        self.whole: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None
        if isinstance(transform, BatchTransform):
            self.transform, self.whole = transform.each, transform.whole
        self.skip = skip
        mixed_labels = mix.label_classes if mix else {}
        self.labels = {top: LabelLimit(n, None) for top, n in mixed_labels.items()} | dict(labels)
        self.mix = mix
        self.name = name
        self.chance = 0
        """The seed of crops and mirroring."""
        self.order: Order = source.order(0, batch_size)
        self.known: dict[int, str] = {}
        """What is wrong with items that were tried before."""

    def begin(self, seed: int) -> None:
        self.chance = mixed(seed, 3)
        self.order = self.source.order(seed, self.batch_size)

    def __getitem__(self, start: int) -> _Batch:
        bad: dict[str, str] = {}
        try:
            made, indices, skipped = [], [], 0
            for position in range(start, start + self.batch_size):
                item, index, passed = self._item(position, bad)
                made.append(item)
                indices.append(index)
                skipped += passed
            tensors = self._stacked(made, indices)
            if self.mix is not None:
                self._mix(self.mix, tensors, Draws(mixed(self.chance, 1), start))
            return _Batch(tensors, bad, skipped)
        except TorrefyError as error:
            return _Batch({}, bad, 0, error.within(layer=self.name))

    def _item(self, position: int, bad: dict[str, str]) -> tuple[Item, int, bool]:
        """The item at a position, its number, and whether it stands there for a bad one."""
        first = index = self.order.index(position)
        for tried in range(min(len(self.source), MOST_SKIPPED)):
            if index not in self.known:
                try:
                    return self.made(index, position), index, tried > 0
                except (PictureError, RecordError) as error:
                    if not self.skip:
                        raise
                    self.known[index] = str(error)
            bad[str(self.source.place(index))] = self.known[index]
            index = self.source.instead(index)
        raise DataError(
            f"none of {min(len(self.source), MOST_SKIPPED)} items in a row can be used; the "
            f"first: {self.known[first]}"
        )

    def made(self, index: int, position: int) -> Item:
        """An item as it would be at a position.

        Raises:
            TorrefyError: it can't be used.
        """
        try:
            item = self.source.item(index)
            for top, part in zip(self.tops, item, strict=False):
                if top in self.labels:
                    _check_label(part, self.labels[top])
            if self.transform is not None:
                item = self.transform(item, Draws(self.chance, position))
            if len(item) < len(self.tops):
                raise DataError(
                    f"there are {len(self.tops)} tops, but an item has {len(item)} part"
                    f"{'s' * (len(item) > 1)}"
                )
        except TorrefyError as error:
            raise error.within(place=self.source.place(index)) from None
        return item

    def _stacked(self, items: list[Item], indices: list[int]) -> dict[str, Tensor]:
        tensors = {}
        for i, top in enumerate(self.tops):
            parts = [item[i] for item in items]
            for part, index in zip(parts, indices, strict=True):
                if part.shape != parts[0].shape:
                    first, other = ("x".join(map(str, one.shape)) for one in (parts[0], part))
                    raise DataError(
                        f'the items of a batch differ in their shapes: "{top}" is {other} here, '
                        f"and {first} in {self.source.place(indices[0])}",
                        place=self.source.place(index),
                        hint="Crop or resize them, or take batches of 1.",
                    )
            if i == 0 and self.whole is not None:
                parts = list(self.whole(np.stack(parts)))
            tensors[top] = _empty((len(parts), *parts[0].shape))
            batch = tensors[top].numpy()
            for place, part in enumerate(parts):
                batch[place] = part
        return tensors

    def _mix(self, mix: BatchAugmenter, tensors: dict[str, Tensor], draws: Draws) -> None:
        arrays = {top: tensor.numpy() for top, tensor in tensors.items()}
        made = dict(arrays)
        mix(made, draws)
        for top, array in made.items():
            if array is not arrays[top]:
                tensors[top] = _empty(array.shape)
                tensors[top].numpy()[...] = array


def _check_label(label: NDArray[Any], limit: LabelLimit) -> None:
    """Hold one item's labels against what a net takes.

    Raises:
        RecordError: one is no class.
    """
    wrong = (label < 0) | (label >= limit.classes)
    if limit.ignore_label is not None:
        wrong &= label != limit.ignore_label
    if np.any(wrong):
        found = float(np.asarray(label)[wrong].flat[0])
        raise RecordError(
            f"the label is {found:g}, but there are {limit.classes} classes, from 0 to "
            f"{limit.classes - 1}"
        )


def _empty(shape: tuple[int, ...]) -> Tensor:
    """A tensor to be filled; in a worker it lies where the training process sees it."""
    if get_worker_info() is None:
        return torch.empty(shape)
    # As torch's own collate does: else the batch would be copied once more when it is sent.
    size = 4 * math.prod(shape)
    storage: Any = torch.UntypedStorage
    tensor: Any = torch.empty(0)
    filled: Tensor = tensor.set_(storage._new_shared(size, device="cpu"), 0, shape)
    return filled


def _workers() -> int:
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's processes on this machine
    return max(0, min(4, cores() // sharing - 1))


def _as_it_is(batch: Any) -> Any:
    return batch


_LEFT = [getattr(signal, name) for name in ("SIGINT", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]
"""The signals that are for the process that trains: it says when workers end."""


def _begin_worker(_: int) -> None:
    if "cv2" in sys.modules:
        # One thread a worker. 1 would wait for threads that a fork doesn't have, for ever.
        sys.modules["cv2"].setNumThreads(0)
    for number in _LEFT:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when the one that trains has ended, killed perhaps.

    torch's workers look for that when they wait for work, every 5 s; not while they read.
    """
    while os.getppid() == parent:
        time.sleep(PARENT_LOOKED_FOR)
    os._exit(1)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Workers that begin in here get none of these signals; for this process they wait."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
