"""Where a net's batches come from: its data layers' sources, or what a program hands over."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torrefy.data.augment.read import augmentation_problems
from torrefy.data.labels import label_limits
from torrefy.data.loader import Loader
from torrefy.data.open import open_loader, source_types
from torrefy.errors import DataError, Problem, TorrefyError
from torrefy.layers.base import Shape
from torrefy.net.net import Net
from torrefy.schema import Definition

Array = Tensor | NDArray[Any]
Batch = Mapping[str, Array] | Sequence[Array]
"""The inputs of one pass: by blob, or in the order of the net's inputs."""
ONE = "A single batch is given as a list of it: feeds=[batch]."


@runtime_checkable
class Feed(Protocol):
    """An endless run of batches that knows where it is.

    One epoch follows the other. What `state_dict` gives is as JSON can hold it. `Arrays` is one,
    and `torrefy.data.loader.Loader`.
    """

    def __next__(self) -> Mapping[str, Tensor]:
        """The next batch by blob."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where it is."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where another one was."""
        ...


def as_floats(array: Array) -> Tensor:
    """An array as Caffe's blobs are: floats.

    Raises:
        TorrefyError: it is no array of numbers.
    """
    try:
        return torch.as_tensor(array).to(torch.get_default_dtype())
    except (TypeError, ValueError, RuntimeError):
        raise TorrefyError(
            f"a batch holds arrays of numbers, found {type(array).__name__}"
        ) from None


class IterableFeed:
    """Batches of any iterable: a list, a torch DataLoader.

    It is run through again and again. To resume, the run that was broken off is begun anew with
    torch's random numbers as they were, and what had been taken is passed over: so a DataLoader
    that shuffles gives the same order.
    """

    def __init__(self, batches: Iterable[Batch], names: Sequence[str]) -> None:
        """Take batches, which are dicts or in the order of `names`.

        Raises:
            TorrefyError: these are no batches, but perhaps a single one.
        """
        if isinstance(batches, Mapping) or not isinstance(batches, Iterable):
            raise TorrefyError(
                f"feeds are batches one after another, found {type(batches).__name__}", hint=ONE
            )
        self.batches = batches
        self.names = tuple(names)
        self.taken = 0
        self._random: Tensor = torch.get_rng_state()
        self._run: Iterator[Batch] | None = None

    def _begin(self) -> Iterator[Batch]:
        self._random = torch.get_rng_state()
        self.taken = 0
        self._run = iter(self.batches)
        return self._run

    def _batch(self) -> Batch:
        ran = self._run is not None
        run = self._run if self._run is not None else self._begin()
        try:
            return next(run)
        except StopIteration:
            pass
        if ran and not isinstance(self.batches, Iterator):
            try:
                return next(self._begin())
            except StopIteration:
                pass
        elif ran:
            raise TorrefyError(
                "the batches given as feeds have come to an end",
                hint="Give something that can be run through again, as a list or a DataLoader.",
            )
        raise TorrefyError("what is given as feeds has no batches")

    def __next__(self) -> dict[str, Tensor]:
        """The next batch.

        Raises:
            TorrefyError: there is none, or it lacks an input.
        """
        batch = self._batch()
        self.taken += 1
        if isinstance(batch, Mapping):
            missing = [name for name in self.names if name not in batch]
            if missing:
                raise TorrefyError(
                    f'a batch has nothing for the input "{missing[0]}"',
                    hint=f"It has {', '.join(map(str, batch)) or 'nothing'}.",
                )
            return {name: as_floats(batch[name]) for name in self.names}
        if isinstance(batch, str) or not hasattr(batch, "__len__"):
            raise TorrefyError(
                f"a batch is a dict or a tuple of arrays, found {type(batch).__name__}", hint=ONE
            )
        if len(batch) != len(self.names):
            raise TorrefyError(
                f"a batch has {len(batch)} arrays, but the net {len(self.names)} inputs: "
                f"{', '.join(self.names)}",
                hint="" if isinstance(batch, (tuple, list)) else ONE,
            )
        return {name: as_floats(a) for name, a in zip(self.names, batch, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        """The batches taken of this run, and torch's random numbers when it began."""
        return {"taken": self.taken, "random": bytes(self._random.numpy()).hex()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin the run anew and pass over what was taken.

        Raises:
            TorrefyError: the batches are an iterator's, which has no beginning to go back to; or
                they are fewer than were taken.
        """
        if isinstance(self.batches, Iterator):
            raise TorrefyError(
                "batches of an iterator can't be found again to resume",
                hint="Give something that can be run through again, as a list or a DataLoader.",
            )
        random = np.frombuffer(bytes.fromhex(state["random"]), np.uint8).copy()
        torch.set_rng_state(torch.from_numpy(random))
        run = self._begin()
        for _ in range(state["taken"]):
            if next(run, None) is None:
                raise TorrefyError("there are fewer batches than when the snapshot was made")
        self.taken = state["taken"]


class Arrays:
    """Batches of arrays in memory, row by row; a batch goes on over the end of an epoch.

    As Caffe's HDF5Data and MemoryData walk through theirs. Of several processes that train
    together, each of which has it, each gets every world-th batch.

    Example:
        torrefy.Solver("solver.prototxt", feeds=Arrays({"data": x, "label": y}, 64, shuffle=True))
    """

    def __init__(
        self,
        arrays: Mapping[str, Array],
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        """Take arrays by blob, all of as many rows.

        Args:
            arrays: N×… each.
            batch_size: rows of a batch.
            shuffle: whether each epoch has an order of its own.
            seed: of these orders.

        Raises:
            TorrefyError: they differ in their rows or have none, or batch_size is below 1.
        """
        rows = {len(array) for array in arrays.values()}
        if len(rows) != 1 or not min(rows):
            found = ", ".join(f"{name}: {len(array)}" for name, array in arrays.items())
            raise TorrefyError(f"arrays must have as many rows each, and some; found {found}")
        if batch_size < 1:
            raise TorrefyError(f"batch_size must be 1 or more, found {batch_size}")
        self.arrays = {name: torch.as_tensor(array) for name, array in arrays.items()}
        self.rows = rows.pop()
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.row = 0
        """Rows given since the first epoch began, by all processes together."""
        self.rank, self.world = 0, 1
        self._order: tuple[int, Tensor] | None = None

    def order(self, epoch: int) -> Tensor:
        """The rows of an epoch in their order."""
        if self._order is None or self._order[0] != epoch:
            if self.shuffle:
                generator = torch.Generator().manual_seed(self.seed + epoch)
                self._order = epoch, torch.randperm(self.rows, generator=generator)
            else:
                self._order = epoch, torch.arange(self.rows)
        return self._order[1]

    def __next__(self) -> dict[str, Tensor]:
        """The next batch. It may lie in the arrays' own memory: it is for reading."""
        start = (self.row + self.rank * self.batch_size) % self.rows
        end = start + self.batch_size
        if not self.shuffle and end <= self.rows:  # nothing to gather: see benchmarks/train.py
            self.row += self.world * self.batch_size
            return {name: as_floats(array[start:end]) for name, array in self.arrays.items()}
        rows = self._rows()
        return {name: as_floats(array[rows]) for name, array in self.arrays.items()}

    def _rows(self) -> Tensor:
        """The next batch's rows, which may be of several epochs."""
        pieces = []
        row, left = self.row + self.rank * self.batch_size, self.batch_size
        while left:
            epoch, start = divmod(row, self.rows)
            piece = self.order(epoch)[start : start + left]
            pieces.append(piece)
            row += len(piece)
            left -= len(piece)
        self.row += self.world * self.batch_size
        return torch.cat(pieces)

    def divide(self, rank: int, world: int) -> None:
        """Give every world-th batch, from number `rank` on."""
        self.rank, self.world = rank, world

    @property
    def number(self) -> int:
        """The number of the next batch, counted over all processes."""
        return self.row // self.batch_size + self.rank

    def state_dict(self) -> dict[str, Any]:
        """The rows given so far."""
        return {"row": self.row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind that many rows."""
        self.row = int(state["row"])


class Joined:
    """Several feeds as one: a batch has the blobs of all."""

    def __init__(self, feeds: Mapping[str, Feed], tops: Mapping[str, Sequence[str]]) -> None:
        """Take feeds; without any, batches are empty.

        Args:
            feeds: by the names of their layers.
            tops: the blobs that each gives.
        """
        self.feeds = dict(feeds)
        self.tops = {layer: tuple(names) for layer, names in tops.items()}

    def __next__(self) -> dict[str, Tensor]:
        """A batch of each."""
        return {name: array for feed in self.feeds.values() for name, array in next(feed).items()}

    def state_dict(self) -> dict[str, Any]:
        """Of each feed by its layer."""
        return {layer: feed.state_dict() for layer, feed in self.feeds.items()}

    def close(self) -> None:
        """End the processes that make batches; the next batch starts them again."""
        for feed in self.feeds.values():
            if isinstance(feed, Loader):
                feed.close()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Each feed for itself; one that the state doesn't know stays where it is."""
        for layer, feed in self.feeds.items():
            if layer in state:
                feed.load_state_dict(state[layer])


class Peeked:
    """A feed whose next batch can be looked at before it is taken: a net is built to its shapes."""

    def __init__(self, feed: Feed) -> None:
        """Take a feed."""
        self.feed = feed
        self._next: Mapping[str, Tensor] | None = None
        self._before: dict[str, Any] = {}
        self._copied: torch.cuda.Event | None = None

    @property
    def parts(self) -> list[Feed]:
        """The feed, or those that it joins."""
        return list(self.feed.feeds.values()) if isinstance(self.feed, Joined) else [self.feed]

    @property
    def rows(self) -> int:
        """How many rows of batches make an epoch; 0: not known."""
        known = [
            len(one.source) if isinstance(one, Loader) else one.rows
            for one in self.parts
            if isinstance(one, (Loader, Arrays))
        ]
        return known[0] if known else 0

    def divided(self, world: int) -> bool:
        """Whether each of so many processes gets other batches: every world-th of one stream.

        What a program hands over otherwise is its own business.
        """
        return all(isinstance(one, (Loader, Arrays)) and one.world == world for one in self.parts)

    def number(self, world: int) -> int:
        """The number of the next batch of a divided feed, counted over all processes."""
        numbers = [one.number for one in self.parts if isinstance(one, (Loader, Arrays))]
        return (numbers or [0])[0] - world * (self._next is not None)

    def shapes(self) -> dict[str, Shape]:
        """The shape of each blob of the next batch."""
        if self._next is None:
            self._before = self.feed.state_dict()
            self._next = next(self.feed)
        return {name: tuple(array.shape) for name, array in self._next.items()}

    def __next__(self) -> Mapping[str, Tensor]:
        """The next batch."""
        batch, self._next = self._next, None
        if batch is None:
            return next(self.feed)
        if self._copied is not None:
            stream = torch.cuda.current_stream()
            stream.wait_event(self._copied)
            for array in batch.values():
                array.record_stream(stream)
            self._copied = None
        return batch

    def prefetch(self, place: Callable[[Tensor], Tensor]) -> None:
        """Take the next batch ahead, and let `place` bring it to a GPU while that computes.

        What is wrong with it is told when it is asked for.
        """
        if self._next is not None:
            return
        before = self.feed.state_dict()
        try:
            batch = next(self.feed)
        except TorrefyError:
            with contextlib.suppress(TorrefyError):  # an iterator's end comes again by itself
                self.feed.load_state_dict(before)
            return
        cuda: Any = torch.cuda
        stream = cuda.Stream() if torch.cuda.is_available() else None
        with torch.cuda.stream(stream):
            self._next = {name: place(array) for name, array in batch.items()}
            self._before = before
            self._copied = stream.record_event() if stream is not None else None

    def expect_labels(self, net: Net) -> None:
        """Refuse labels that the net has no class for, where a data layer's loader reads them.

        Such a label would train a wrong class in Caffe, or read memory that is not its own.
        """
        if not isinstance(self.feed, Joined):
            return
        if self._next is not None:
            self._next = None
            self.feed.load_state_dict(self._before)  # what was looked at is not checked yet
        limits = label_limits(net)
        for layer, feed in self.feed.feeds.items():
            for top in self.feed.tops[layer]:
                if isinstance(feed, Loader) and top in limits:
                    classes, ignore_label = limits[top]
                    feed.expect_labels(classes, ignore_label, top=top)

    @property
    def loaders(self) -> list[Loader]:
        """What reads the sources of data layers; none where a program hands batches over."""
        return [one for one in self.parts if isinstance(one, Loader)]

    def close(self) -> None:
        """End the processes that make batches; the next batch starts them again."""
        if isinstance(self.feed, Joined):
            self.feed.close()

    def state_dict(self) -> dict[str, Any]:
        """Where the feed is; what was only looked at is still to come."""
        return self.feed.state_dict() if self._next is None else self._before

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go elsewhere."""
        self._next = self._copied = None
        self.feed.load_state_dict(state)


def feeds_for(
    definition: Definition,
    layers: Sequence[Any],
    phase: str,
    seed: int,
    options: Mapping[str, Any] | None = None,
) -> Feed:
    """What the feeding layers of a net name as their data.

    Args:
        definition: the net's, for places.
        layers: the LayerParameters that feed it.
        phase: "train" or "test": whether crops are drawn.
        seed: of orders, crops and mirroring.
        options: what else `torrefy.data.open.open_loader` takes: workers, bad, pin.

    Raises:
        TorrefyError: with every layer whose data can't be read, or that names none.
    """
    feeds: dict[str, Feed] = {}
    problems: list[Problem] = []
    for layer in layers:
        index = _index(definition, layer)
        place = definition.place("layer", index)
        if layer.type not in source_types():
            hint = "Give the batches as feeds, or as test_feeds."
            told = f"its type, {layer.type}, names no data"
            problems.append(Problem(told, place, layer.name, hint))
            continue
        wrong = augmentation_problems(definition, index)
        if wrong:
            problems.extend(wrong)
            continue
        try:
            feeds[layer.name] = open_loader(layer, phase, seed=seed, **(options or {}))
        except TorrefyError as error:
            problems.extend(error.within(place=place, layer=layer.name).problems)
    if problems:
        raise DataError(problems)
    return Joined(feeds, {layer.name: layer.top for layer in layers})


def _index(definition: Definition, layer: Any) -> int:
    return next(i for i, one in enumerate(definition.message.layer) if one == layer)
