"""What computes a model: the interface that runtimes implement, and finding one by its name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias

from numpy.typing import NDArray

from torrefy.data.ahead import cores
from torrefy.errors import Place, TorrefyError, did_you_mean
from torrefy.plugins.manager import Named, cached, contributions

if TYPE_CHECKING:
    from torrefy.runtime.runnable import Runnable

Shape: TypeAlias = tuple[int | str, ...]
"""Extents; a text is the name of one that may vary ("batch")."""
DEFAULT = "onnxruntime"
"""The runtime that is taken where none is named."""
PRECISIONS = ("fp32", "bf16", "fp16")
"""What a runtime can be asked to compute in. int8 is a file's own: see `torrefy.lower_precision`.
"""
MOST_THREADS = 8
"""Threads for each processor, at most."""
APART = {"openvino": "torrefy-openvino"}
"""Runtimes of ours that are installed by themselves, and what they are in."""


class Session(Protocol):
    """A model that is ready to compute."""

    @property
    def inputs(self) -> Mapping[str, Shape]:
        """The inputs and their shapes."""

    @property
    def outputs(self) -> Mapping[str, Shape]:
        """The outputs; their shapes, or () where they aren't known before it has run."""

    def run(
        self, inputs: Mapping[str, NDArray[Any]], blobs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Compute outputs by name; of `blobs`, or all.

        Raises:
            TorrefyError: there is no such input or output, or a shape is wrong.
        """


class Runtime(ABC):
    """Computes models. It is made without arguments, and opens as many as it is asked to.

    A plugin's class is returned by the hook `torrefy_runtimes`. What is dear to import is imported
    in the methods.
    """

    name: ClassVar[str] = ""
    """What users call it: "openvino"."""
    reads: ClassVar[Literal["onnx", "net"]] = "onnx"
    """What it opens: an ONNX file (`Runnable.file`) or a net (`Runnable.net`)."""
    slow_to_open: ClassVar[bool] = False
    """Whether opening takes so long that "auto" doesn't try it."""
    concurrent: ClassVar[bool] = False
    """Whether several threads may run a session at once that was opened with one thread."""

    @abstractmethod
    def missing(self, device: str, precision: str) -> str:
        """Why it can't compute here: "OpenVINO is not installed"; empty: it can.

        Args:
            device: "cpu", "cuda", "cuda:1", ….
            precision: one of PRECISIONS.
        """

    @abstractmethod
    def version(self) -> str:
        """The version of what computes: "1.26.0"."""

    @abstractmethod
    def open(self, model: Runnable, device: str, precision: str, threads: int) -> Session:
        """Make a model ready.

        Args:
            model: what is to be computed.
            device: as for `missing`.
            precision: as for `missing`.
            threads: how many threads compute; 0: as it decides.

        Raises:
            TorrefyError: it can't be.
        """


@cached
def runtimes() -> Named:
    """The runtimes of this process by their names."""
    return Named("runtime", contributions("torrefy_runtimes"), "name")


def find_runtime(name: str) -> Runtime:
    """A runtime by its name.

    Raises:
        TorrefyError: there is none.
    """
    known = runtimes()
    if name not in known:
        raise TorrefyError(
            f'there is no runtime "{name}"',
            hint=(name in APART and f"It comes with the plugin {APART[name]}.")
            or did_you_mean(name, known)
            or f"There are {', '.join(sorted(known))}; a plugin can bring others.",
        )
    made: Runtime = known[name]()
    return made


def check_precision(precision: str) -> None:
    """Refuse what no runtime computes in.

    Raises:
        TorrefyError: there is no such precision.
    """
    if precision == "int8":
        raise TorrefyError(
            "int8 is a file's own, not a runtime's",
            hint="`torrefy export --precision int8 --calibrate PICTURES` makes one.",
        )
    if precision not in PRECISIONS:
        raise TorrefyError(
            f'there is no precision "{precision}"',
            hint=did_you_mean(precision, PRECISIONS) or f"There are {', '.join(PRECISIONS)}.",
        )


def check_threads(threads: int) -> None:
    """Refuse so many threads that they would only wait for each other.

    Raises:
        TorrefyError: they are more than MOST_THREADS for each processor.
    """
    if threads > MOST_THREADS * cores():
        raise TorrefyError(
            f"{threads} threads would wait for each other on {cores()} processors",
            hint=f"Take {cores()}, or leave it to the runtime.",
        )


def check_names(names: Iterable[str], known: Iterable[str], place: Place | None = None) -> None:
    """Refuse blobs that a session has not.

    Raises:
        TorrefyError: there is no such blob among those known.
    """
    had = list(known)
    for name in names:
        if name not in had:
            raise TorrefyError(
                f'the model has no blob "{name}"',
                place=place,
                hint=did_you_mean(name, had) or f"It has {', '.join(had)}.",
            )


def open_session(
    model: Runnable, runtime: str, device: str = "cpu", precision: str = "fp32", threads: int = 0
) -> Session:
    """Make a model ready in a runtime.

    Raises:
        TorrefyError: there is no such runtime or precision, it can't compute here, or can't take
            the model.
    """
    check_precision(precision)
    check_threads(threads)
    found = find_runtime(runtime)
    reason = found.missing(device, precision)
    if reason:
        raise TorrefyError(f"{runtime} can't compute this here: {reason}")
    return found.open(model, device, precision, threads)
