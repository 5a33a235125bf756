"""ONNX files in OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torrefy.errors import Place, TorrefyError
from torrefy.runtime.base import Runtime, Shape, check_names

from torrefy_openvino.pooling import mend_average_pooling

if TYPE_CHECKING:
    from torrefy.runtime.runnable import Runnable

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
"""What OpenVINO calls what it computes in."""


class OpenVino(Runtime):
    """ONNX files in OpenVINO, which computes in bf16 where the processor does, too.

    A file in int8 is computed in int8.
    """

    name = "openvino"

    def missing(self, device: str, precision: str) -> str:
        """It computes in what the processor says that it is able to."""
        name = device.upper()
        try:
            core = _core()
        except (ImportError, RuntimeError) as error:
            return f"OpenVINO does not start: {_reason(error)}"
        if name not in core.available_devices:
            there = ", ".join(core.available_devices)
            return f'OpenVINO has no device "{device}", but {there}'
        able = core.get_property(name, "OPTIMIZATION_CAPABILITIES")
        if precision.upper() not in able:
            return f"this {name} does not compute in {precision}"
        return ""

    def version(self) -> str:
        """OpenVINO's."""
        import openvino

        return str(openvino.__version__)

    def open(self, model: Runnable, device: str, precision: str, threads: int) -> OpenVinoSession:
        """Compile the file; a net is exported first."""
        from openvino.frontend import FrontEndManager

        file = model.file()
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",  # one batch after another, each by all threads
            "INFERENCE_PRECISION_HINT": HINTS[precision],
        }
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            # By the reader of ONNX alone: the core would try all that it has.
            reader = FrontEndManager().load_by_framework("onnx")
            read = reader.convert(reader.load(str(file)))
            mend_average_pooling(read)
            compiled = _core().compile_model(read, device.upper(), options)
        except TorrefyError as error:
            raise error.within(place=Place(str(file))) from None
        except Exception as error:  # noqa: BLE001  its readers have no one class of errors
            raise TorrefyError(
                f"OpenVINO can't take this file: {_reason(error)}", place=Place(str(file))
            ) from None
        # The compiled model's names may be those of values that it has made the same.
        given, made = ([min(p.names) for p in ports] for ports in (read.inputs, read.outputs))
        return OpenVinoSession(compiled, given, made, str(file))


class OpenVinoSession:
    """A file that OpenVINO has compiled."""

    def __init__(self, compiled: Any, inputs: list[str], outputs: list[str], file: str) -> None:
        """Take an `openvino.CompiledModel`, and what its inputs and outputs are called."""
        self.compiled = compiled
        self._file = file
        self._inputs = dict(zip(inputs, compiled.inputs, strict=True))
        self._outputs = dict(zip(outputs, compiled.outputs, strict=True))
        self._kinds = {name: one.element_type.to_dtype() for name, one in self._inputs.items()}
        self.inputs: dict[str, Shape] = {name: _shape(one) for name, one in self._inputs.items()}
        """The inputs and their shapes."""
        self.outputs: dict[str, Shape] = {name: _shape(one) for name, one in self._outputs.items()}
        """The outputs and their shapes."""

    def run(
        self, inputs: Mapping[str, NDArray[Any]], blobs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Compute outputs by name.

        Args:
            inputs: an array for each input.
            blobs: the outputs wanted; None: all.

        Raises:
            TorrefyError: an input or output that the file doesn't have, or a wrong shape.
        """
        wanted = list(self.outputs) if blobs is None else list(blobs)
        check_names(wanted, self.outputs, Place(self._file))
        check_names(inputs, self.inputs, Place(self._file))
        given = {
            self._inputs[name]: np.ascontiguousarray(array, self._kinds[name])
            for name, array in inputs.items()
        }
        try:
            found = self.compiled(given)
        except RuntimeError as error:
            raise TorrefyError(
                f"OpenVINO failed: {_reason(error)}", place=Place(self._file)
            ) from None
        # Copies: the next run writes into the same memory.
        return {name: np.array(found[self._outputs[name]]) for name in wanted}


def _core() -> Any:
    import openvino

    return openvino.Core()


def _shape(port: Any) -> Shape:
    """Extents; one that may vary is called by its place, the first "batch"."""
    return tuple(
        extent.get_length() if extent.is_static else "batch" if i == 0 else f"extent_{i}"
        for i, extent in enumerate(port.partial_shape)
    )


def _reason(error: Exception) -> str:
    """What OpenVINO says, without the places in its own sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (told or lines or [type(error).__name__])[-1]
