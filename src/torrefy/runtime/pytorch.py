"""PyTorch as a runtime: nets as they are, or compiled."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from torrefy.errors import TorrefyError
from torrefy.runtime.base import Runtime, Shape, check_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from torrefy.net.net import Net
    from torrefy.runtime.runnable import Runnable


class PyTorch(Runtime):
    """Nets in PyTorch, layer by layer, as they are trained."""

    name = "pytorch"
    reads: ClassVar[Literal["net"]] = "net"
    compiled: ClassVar[bool] = False

    def missing(self, device: str, precision: str) -> str:
        """It computes wherever torch does; in bf16 and fp16 by autocast."""
        if device != "cpu":
            import torch

            try:
                kind = torch.device(device).type
            except RuntimeError:
                return f'torch knows no device "{device}"'
            if kind == "cuda" and not torch.cuda.is_available():
                return "torch finds no CUDA device"
        elif precision == "fp16":
            return "fp16 is slower than fp32 in torch on a CPU"
        return ""

    def version(self) -> str:
        """Torch's."""
        return importlib.metadata.version("torch")

    def open(self, model: Runnable, device: str, precision: str, threads: int) -> NetSession:
        """Load the net. The threads are the process's."""
        import torch

        from torrefy.train.execution import Execution

        if threads:
            torch.set_num_threads(threads)
        net = model.net(device)
        execution = Execution(net.device, precision, compile=self.compiled)
        return NetSession(net, execution)


class TorchCompile(PyTorch):
    """Nets that torch.compile has made kernels of, for the shapes that it sees."""

    name = "torch.compile"
    slow_to_open = True
    compiled = True

    def missing(self, device: str, precision: str) -> str:
        """It also wants a compiler of C++, where it computes on the CPU."""
        if device == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", ""), "g++"))):
            return "torch.compile needs a C++ compiler, and there is no g++"
        return super().missing(device, precision)


class NetSession:
    """A net in PyTorch that takes and gives numpy's arrays."""

    def __init__(self, net: Net, execution: Any) -> None:
        """Take a net in phase test."""
        self.net = net
        self._execution = execution
        fixed = not _takes_any_batch(net)

        def told(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Shape]:
            return {
                name: shape if fixed or not shape else ("batch", *shape[1:])
                for name, shape in shapes.items()
            }

        self.inputs: dict[str, Shape] = told(net.inputs)
        """The inputs and their shapes; the first extent varies, unless the net fixes it."""
        self.outputs: dict[str, Shape] = told(net.outputs)
        """The outputs and their shapes."""
        self._largest = 0
        self._compiled: dict[tuple[str, ...], Any] = {}

    def run(
        self, inputs: Mapping[str, NDArray[Any]], blobs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Compute blobs by name, of all that the net has.

        Args:
            inputs: an array for each input.
            blobs: the blobs wanted; None: the outputs.

        Raises:
            TorrefyError: an input or blob that the net doesn't have, or a wrong shape.
        """
        import torch

        wanted = list(self.outputs) if blobs is None else list(blobs)
        check_names(inputs, self.inputs)
        with torch.inference_mode(), self._execution.autocast(), self._told():
            given = {
                name: torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self.net.device)
                for name, array in inputs.items()
            }
            found = self._computed(given, wanted)
            return {blob: value.float().cpu().numpy() for blob, value in found.items()}

    def _computed(self, given: Mapping[str, Tensor], wanted: Sequence[str]) -> dict[str, Tensor]:
        if not self._execution.compile:
            return self.net.run(given, wanted)
        import torch

        key = tuple(wanted)
        if key not in self._compiled:
            self._compiled[key] = torch.compile(self.net.program(key), dynamic=False)
        # Each size of batch is compiled by itself: a batch that is cut short is filled up.
        count = next(iter(given.values())).shape[0]
        fill = self._largest - count if 1 < count < self._largest else 0
        self._largest = max(self._largest, count)
        if fill:
            given = {n: torch.cat([x, x[:1].expand(fill, *x.shape[1:])]) for n, x in given.items()}
        made = self._compiled[key](*(given[name] for name in self.net.inputs))
        found = dict(zip(wanted, made, strict=True))
        return {name: x[:count] for name, x in found.items()} if fill else found

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What torch can't do, in a line."""
        try:
            with self._execution.running():
                yield
        except (RuntimeError, IndexError, ValueError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise TorrefyError(f"PyTorch failed: {first}") from None


def _takes_any_batch(net: Net) -> bool:
    """Whether a net computes one picture more than its definition says, too."""
    import torch

    more = {
        name: torch.zeros((shape[0] + 1, *shape[1:]) if shape else (), device=net.device)
        for name, shape in net.inputs.items()
    }
    try:
        with torch.inference_mode():
            net.run(more)
    except (TorrefyError, RuntimeError, IndexError, ValueError):
        return False
    return True
