"""How passes are run: in which precision and memory format, compiled, always alike."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torrefy.errors import TorrefyError, did_you_mean
from torrefy.layers.base import Layer
from torrefy.net.net import Net

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What convolutions and products are computed in."""
HALVES = (torch.bfloat16, torch.float16)
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""The variable that cuBLAS must find before it computes alike each time."""

Forward = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""One pass of a net: inputs by name, on any device, to its outputs."""


@dataclass(frozen=True)
class Execution:
    """How a net's passes are run on a device. Its params stay in fp32 whatever is chosen.

    Example:
        execution = Execution(net.device, precision="bf16", channels_last=True)
        forward = execution.prepare(net)
        with execution.running():
            outputs = forward({"data": pictures})
    """

    device: torch.device
    precision: str = "fp32"
    """"fp32", "bf16" or "fp16": what torch's autocast computes in where that is safe. Layers that
    count in the loss compute in fp32 always."""
    compile: bool = False
    """Whether nets are compiled by torch.compile at their first pass."""
    channels_last: bool = False
    """Whether pictures and kernels lie in memory with their channels last, as NHWC."""
    deterministic: bool = False
    """Whether two runs give the same bits; what torch can't do so is refused."""

    def __post_init__(self) -> None:
        """Refuse what torch can't do.

        Raises:
            TorrefyError: there is no such precision, or not on this device.
        """
        if self.precision not in PRECISIONS:
            raise TorrefyError(
                f'there is no precision "{self.precision}"',
                hint=did_you_mean(self.precision, PRECISIONS) or "It is fp32, bf16 or fp16.",
            )
        kind = self.device.type
        if self.precision != "fp32" and not torch.amp.is_autocast_available(kind):
            raise TorrefyError(f'torch has no mixed precision on "{kind}"', hint="Take fp32.")
        if self.precision == "bf16" and kind == "cuda" and not torch.cuda.is_bf16_supported():
            raise TorrefyError("this GPU does not compute in bf16", hint="Take fp16.")

    @property
    def mixed(self) -> bool:
        """Whether something is computed in fewer than 32 bits."""
        return self.precision != "fp32"

    def prepare(self, net: Net) -> Forward:
        """Set a net's memory format, and make what runs its passes."""
        if self.channels_last:
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.mixed:
            for layer in net.layers.values():
                if any(layer.loss_weights):
                    layer.register_forward_pre_hook(_widened)
        call: Callable[..., dict[str, Tensor]] = torch.compile(net) if self.compile else net
        names = tuple(net.graph.inputs)

        def forward(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
            fed = {name: self.place(batch[name]) for name in names}
            if not self.mixed:
                return call(**fed)
            with self.autocast():
                return call(**fed)

        return forward

    def place(self, x: Tensor) -> Tensor:
        """An input on the device, in the memory format."""
        x = x.to(self.device, non_blocking=True)
        if self.channels_last and x.dim() == 4:
            return x.contiguous(memory_format=torch.channels_last)
        return x

    def autocast(self) -> torch.autocast:
        """What a pass is made in."""
        # torch knows no autocast to fp32, not even one that is switched off, on every device.
        dtype = PRECISIONS[self.precision] if self.mixed else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=self.mixed)

    def scaler(self) -> torch.amp.GradScaler:
        """What keeps small gradients above fp16's smallest number; it does nothing for others."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """What passes are run in: torch's global flags are as they were afterwards.

        Raises:
            TorrefyError: torch can't compile the net, or not compute it alike each time.
        """
        try:
            with _alike() if self.deterministic else contextlib.nullcontext():
                yield
        except RuntimeError as error:
            told = self._told(error)
            if told is None:
                raise
            raise told from error

    def _told(self, error: RuntimeError) -> TorrefyError | None:
        """A failure of torch's that one of the options is the reason of."""
        if self.deterministic and "deterministic" in str(error):
            first = str(error).splitlines()[0].partition(", but")[0]
            return TorrefyError(
                f"torch can't compute this alike each time: {first}",
                hint="Run it without deterministic.",
            )
        if self.compile and isinstance(error, torch._dynamo.exc.TorchDynamoException):
            inner = getattr(error, "inner_exception", error)
            first = (str(inner).strip().splitlines() or [type(inner).__name__])[0]
            return TorrefyError(
                f"torch.compile can't compile the net: {first}",
                hint="Run it without compile; torch.compile needs a C++ compiler here.",
            )
        return None


def widened(x: Tensor) -> Tensor:
    """A tensor in fp32, if it was in half of it."""
    return x.float() if x.dtype in HALVES else x


def _widened(_: Layer, bottoms: tuple[Any, ...]) -> tuple[Any, ...]:
    """A layer's bottoms, with digits enough for a loss."""
    return tuple(map(widened, bottoms))


@contextlib.contextmanager
def _alike() -> Iterator[None]:
    """Let torch choose what gives the same bits each time."""
    cudnn = torch.backends.cudnn
    strict, warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    flags = cudnn.deterministic, cudnn.benchmark
    workspace = os.environ.get(WORKSPACE)
    os.environ.setdefault(WORKSPACE, ":4096:8")  # as cuBLAS's guide has it
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warns)
        cudnn.deterministic, cudnn.benchmark = flags
        if workspace is None:
            os.environ.pop(WORKSPACE, None)
