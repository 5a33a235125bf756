"""The processes that train one net together, as torchrun starts them: what passes between them."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from torrefy.errors import TorrefyError

STARTED_BY = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun, or whatever else starts the processes, leaves in the environment."""
NCCL = "cpu:gloo,cuda:nccl"
"""GPUs send to GPUs. What is agreed on lies on the CPU, so that no GPU is waited for."""
_AT = re.compile(r"^\[\S*\.\w+:\d+\] ")
"""Where in its own source gloo has met an error."""
_TOLD, _SNAPSHOT = "torrefy/told", "torrefy/snapshot"

SETTLED = 0.3
"""Seconds in which gloo's threads let go of tensors that they have sent. They need the interpreter
for it, and one that still waits when the interpreter ends aborts the process."""

Value = TypeVar("Value")


class LostError(TorrefyError):
    """Another process of the training has ended, so that this one can't go on."""


def join(device: str | torch.device) -> Processes:
    """Meet the other processes, where this one was started with others, and take a device.

    The environment says whether: `RANK`, `WORLD_SIZE`, `MASTER_ADDR` and `MASTER_PORT`, as
    torchrun sets them. A group that the program has made stays as it is. One that is made here is
    left when the program ends.

    Args:
        device: "cpu" or "cuda"; of the GPUs each process takes that of its `LOCAL_RANK`.

    Raises:
        TorrefyError: the others can't be met, or there are fewer GPUs than processes.
    """
    if not dist.is_available():
        return Processes(device)
    kind = str(device).partition(":")[0]
    if not dist.is_initialized():
        if not all(os.environ.get(name) for name in STARTED_BY):
            return Processes(device)
        try:
            from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

            store, rank, world = next(iter(rendezvous("env://")))
            # Of an earlier attempt the store still has the addresses.
            fresh = PrefixStore(f"torrefy/attempt{_attempt()}", store)
            backend = NCCL if kind == "cuda" and dist.is_nccl_available() else "gloo"
            dist.init_process_group(backend, store=fresh, rank=rank, world_size=world)
        except (RuntimeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise TorrefyError(f"the processes of this training can't meet: {reason}") from None
        atexit.register(leave)
    if kind == "cuda" and dist.get_world_size() > 1:
        device = own_gpu(str(device))
    return Processes(device)


def leave(*, failed: bool = False) -> None:
    """End what `join` has begun.

    Args:
        failed: whether others may wait in vain for this process: they are told at once. So it is
            where the program ends by an error that nobody caught.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    time.sleep(SETTLED)
    if failed or hasattr(sys, "last_value"):
        atexit.unregister(leave)
        with contextlib.suppress(RuntimeError):
            dist.group.WORLD.abort()  # type: ignore[union-attr]
        return
    dist.destroy_process_group()


def own_gpu(device: str) -> str:
    """The GPU of this process among those of its machine; NCCL takes it for its own, too.

    Raises:
        TorrefyError: there are fewer than processes, or one is named for all of them.
    """
    local, here = _environment("LOCAL_RANK", 0), _environment("LOCAL_WORLD_SIZE", 1)
    gpus = torch.cuda.device_count()
    if device != "cuda" and here > 1:
        raise TorrefyError(
            f'the device "{device}" is one GPU, but there are {here} processes on this machine',
            hint='Give "cuda": each process takes the GPU of its own number.',
        )
    if device == "cuda" and local >= gpus:
        raise TorrefyError(
            f"there are {here} processes on this machine, but {gpus} GPU{'s' * (gpus != 1)}",
            hint=f"Start as many: torchrun --nproc-per-node {gpus}." if gpus else "",
        )
    own = f"cuda:{local}" if device == "cuda" else device
    with contextlib.suppress(RuntimeError, ValueError):  # a device of no such name is told later
        torch.cuda.set_device(own)
    return own


def _environment(name: str, default: int) -> int:
    return int(os.environ.get(name, default=str(default)))


def _attempt() -> int:
    """How many times torchrun has started all processes anew."""
    return _environment("TORCHELASTIC_RESTART_COUNT", 0)


class Processes:
    """The processes of a training; one alone where `join` met no others.

    All of them must call a method that passes something between them, in the same order. Alone
    each gives what it would be with one.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        """Take those that `join` has met, or the program's own group; and a device."""
        self.device = device
        """Where this process trains."""
        joined = dist.is_available() and dist.is_initialized()
        self.rank: int = dist.get_rank() if joined else 0
        """Which one this is, from 0."""
        self.world: int = dist.get_world_size() if joined else 1
        """How many there are."""
        self.speaks = True
        """Whether this process is the one to tell why the training has failed."""
        self._joined = joined
        self._broken = False

    @property
    def leads(self) -> bool:
        """Whether this is the first one, which writes files and prints."""
        return self.rank == 0

    @property
    def together(self) -> bool:
        """Whether anything passes between processes: there are several, and none has failed."""
        return self.world > 1 and not self._broken

    @property
    def restarts(self) -> int:
        """How many times torchrun has started the training anew, after a process had ended."""
        return _attempt() if self._joined else 0

    # --- What passes between them ---

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag whether any process has set it."""
        if not self.together:
            return flags
        told = torch.tensor(flags, dtype=torch.int32)
        with self._meeting():
            dist.all_reduce(told, dist.ReduceOp.MAX)
        return tuple(map(bool, told.tolist()))

    def first(self, value: Value) -> Value:
        """What the first process has."""
        if not self.together:
            return value
        values = [value]
        with self._meeting():
            dist.broadcast_object_list(values, 0, device=torch.device("cpu"))
        return values[0]

    def all(self, value: Value) -> list[Value]:
        """What each process has, in their order."""
        if not self.together:
            return [value]
        values: list[Any] = [None] * self.world
        with self._meeting():
            dist.all_gather_object(values, value)
        return values

    def copy(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by those of the first process."""
        if not self.together:
            return
        with torch.no_grad(), self._meeting():
            for tensor in tensors:
                whole = tensor.detach().contiguous()
                dist.broadcast(whole, 0)
                tensor.copy_(whole)

    def wait(self) -> None:
        """Go on when all have come here."""
        self.any(False)

    def send(self, values: Tensor) -> dist.Work:
        """Begin to add up a tensor over all processes, in place; `receive` ends it."""
        with self._meeting():
            work: dist.Work = dist.all_reduce(values, async_op=True)
        return work

    def receive(self, work: dist.Work) -> None:
        """Wait for what `send` began; on a GPU its stream does."""
        with self._meeting():
            work.wait()

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, through which gradients pass."""
        if not self.together:
            return values
        with self._meeting():
            total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
        return total

    @contextlib.contextmanager
    def _meeting(self) -> Iterator[None]:
        """Tell in one way that another process has ended."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            told = _AT.sub("", str(error)).partition(". ")[0].splitlines()
            raise LostError(
                "another process of this training has ended or does not answer "
                f"({told[0] if told else type(error).__name__})",
                hint="If it didn't say why, the system may have killed it.",
            ) from error

    # --- When something fails ---

    def break_up(self) -> None:
        """Act alone from now on, since an error ends the training; the others learn of it at once.

        The first one to come here `speaks`.
        """
        if self.world == 1 or self._broken:
            return
        self._broken = True
        with contextlib.suppress(RuntimeError):  # the store may have been that of the lost one
            self.speaks = self._store().add(f"{_TOLD}{_attempt()}", 1) == 1
        leave(failed=True)

    def keep_snapshot(self, prefix: str, path: str) -> None:
        """Remember the newest snapshot of a run, for when torchrun starts the processes anew."""
        if self._joined and not self._broken and self.leads:
            with contextlib.suppress(RuntimeError):
                self._store().set(f"{_SNAPSHOT}/{prefix}", path)

    def kept_snapshot(self, prefix: str) -> str | None:
        """The newest snapshot that a run has written before torchrun started it anew."""
        if not self.restarts:
            return None
        store, key = self._store(), f"{_SNAPSHOT}/{prefix}"
        return store.get(key).decode() if store.check([key]) else None

    @staticmethod
    def _store() -> Any:
        """The store of torchrun's agent, which outlives the processes."""
        from torch.distributed import PrefixStore  # type: ignore[attr-defined]

        store: Any = dist.distributed_c10d._get_default_store()
        while isinstance(store, PrefixStore):
            store = store.underlying_store
        return store

    # --- Who does what ---

    def share(self, number: int, count: int) -> int:
        """How many of the next `count` batches are this process's, where each has every world-th.

        Args:
            number: of this process's next batch, counted over all processes. What all have taken
                so far ends where the lowest of these is.
            count: batches of all processes together.
        """
        end = min(self.all(number)) + count
        return len(range(number, end, self.world))

    def pack(
        self, feeds: Sequence[dict[str, Any]], random: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a snapshot keeps of all: where their feeds and their random numbers are.

        Returns:
            Facts and tensors. Those of the first process are called as they are where it is
            alone. After `break_up` they are all that there is.
        """
        told = self.all((list(feeds), dict(random)))
        facts: dict[str, Any] = {"feeds": told[0][0]}
        tensors = dict(told[0][1])
        if self.world > 1:
            facts["processes"] = {"count": self.world, "feeds": [one for one, _ in told[1:]]}
        for rank, (_, states) in enumerate(told[1:], 1):
            tensors |= {f"{name}.{rank}": state for name, state in states.items()}
        return facts, tensors

    def unpack(
        self, facts: Mapping[str, Any], tensors: Mapping[str, Any]
    ) -> tuple[list[dict[str, Any]], dict[str, Any], str]:
        """What `pack` kept of this process.

        Returns:
            The states of its feeds, those of its random numbers, and what the user may want to
            know of both. Of another number of processes the feeds' are those of the first one:
            the positions of loaders are the same for all.
        """
        feeds = list(facts.get("feeds", ()))
        kept = facts.get("processes") or {"count": 1, "feeds": []}
        count, others = int(kept["count"]), list(kept["feeds"])
        note = ""
        if count != self.world:
            note = (
                f"written by {count} process{'es' * (count > 1)}, gone on with by {self.world}: "
                "the data go on where they were, Dropout draws anew"
            )
        elif len(others) < self.world - 1:
            note = (
                "written when a process had failed: the random numbers of all but the first begin "
                "anew"
            )
        elif self.rank:
            feeds = others[self.rank - 1]
        suffix = f".{self.rank}" if self.rank else ""
        own = {
            name.removesuffix(suffix): state
            for name, state in tensors.items()
            if name.endswith(suffix) and name.removesuffix(suffix).count(".") == 1
        }
        return feeds, own, note


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        """Add up."""
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        """Add up the gradients."""
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total
