"""What a file in fewer bits is, and how well it agrees with fp32."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torrefy.data.recipe import PREFIX
from torrefy.export.precision.compare import Agreement
from torrefy.export.precision.sensitivity import LayerNoise

SHOWN = 5
"""The noisiest layers that are told of."""


@dataclass(frozen=True)
class PrecisionReport:
    """What a file in fewer bits is, and how well it agrees with fp32."""

    path: Path
    precision: str
    bytes: int
    bytes_fp32: int
    """The size of the file in fp32."""
    output: str
    """The output that was compared."""
    calibration: Agreement | None
    """On the pictures that calibrated; None: none did."""
    held_out: Agreement
    """On others; without pictures on noise."""
    least_agreement: float
    """What was asked for on those held out."""
    layers: tuple[LayerNoise, ...] = ()
    """Of int8: the layers, the noisiest first."""
    kept: tuple[str, ...] = ()
    """The layers, or values, that stay in fp32 though they could be in fewer bits."""
    weight_bits: int = 0
    """Of int8: 8, or 7 for CPUs without VNNI."""
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "file": str(self.path),
            "precision": self.precision,
            "bytes": self.bytes,
            "bytes_fp32": self.bytes_fp32,
            "output": self.output,
            "calibration": self.calibration.as_json() if self.calibration else None,
            "held_out": self.held_out.as_json(),
            "least_agreement": self.least_agreement,
            "layers": [layer.as_json() for layer in self.layers],
            "kept": list(self.kept),
            "weight_bits": self.weight_bits,
            "notes": list(self.notes),
        }


def metadata(
    precision: str,
    calibration: Agreement | None,
    held_out: Agreement,
    kept: tuple[str, ...],
) -> dict[str, str]:
    """What the file itself says of it."""
    told: dict[str, Any] = {"held_out": held_out.as_json(), "kept": list(kept)}
    if calibration:
        told["calibration"] = calibration.as_json()
    return {PREFIX + "precision": precision, PREFIX + "precision_report": json.dumps(told)}
