"""DummyData: tops that fillers make."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from torrefy.layers.base import MOST_ELEMENTS, Layer, Shape, layer
from torrefy.layers.fillers import fill, unfit

LEGACY = ("num", "channels", "height", "width")


@layer("DummyData")
class DummyData(Layer):
    """Data from fillers: one `data_filler` for each top, one for all, or none for zeros.

    Shapes come from `shape`, or from num, channels, height and width, given once or for each
    top. A constant filler fills once; any other anew at each pass, from torch's random numbers
    (`torch.manual_seed`). The tops are data, not params: they are in no file of weights.
    """

    param = "dummy_data_param"
    example = (
        "dummy_data_param {\n"
        '  shape { dim: 10 dim: 3 } data_filler { type: "gaussian" std: 0.1 }\n'
        "}"
    )
    bottoms = (0, 0)
    tops = (1, None)

    def setup(self, *bottoms: Shape) -> None:
        """Read shapes and fillers."""
        fillers = list(self.p.data_filler)
        if len(fillers) not in (0, 1, self.num_tops):
            raise self.error(
                f"{self.num_tops} tops but {len(fillers)} data_filler: give one for all, one for "
                "each, or none",
                field="data_filler",
            )
        self.sizes = self.read_sizes()
        self.fillers: list[Any] = (fillers or [0.0]) * (1 if len(fillers) > 1 else self.num_tops)
        for filler, size in zip(self.fillers, self.sizes, strict=True):
            reason = unfit(filler, size)
            if reason:
                raise self.error(reason[0], field=f"data_filler.{reason[2]}", hint=reason[1])
        self.values: list[float | None] = [
            f if isinstance(f, float) else f.value if f.type == "constant" else None
            for f in self.fillers
        ]
        # It holds nothing, and is where the net is.
        self.register_buffer("anchor", torch.empty(0, device="meta"), persistent=False)
        for i in range(self.num_tops):
            self.register_buffer(f"top{i}", None, persistent=False)

    def read_sizes(self) -> list[Shape]:
        """The tops' shapes.

        Raises:
            LayerError: none, too few of them, or one that holds too much.
        """
        legacy = {name: list(getattr(self.p, name)) for name in LEGACY}
        if any(legacy.values()):
            if self.p.shape:
                raise self.error(
                    "both shape and num, channels, height, width are given", field="shape"
                )
            for name, values in legacy.items():
                self.check_count(name, len(values))
            columns = [v * (1 if len(v) > 1 else self.num_tops) for v in legacy.values()]
            sizes = list(zip(*columns, strict=True))
        else:
            self.check_count("shape", len(self.p.shape))
            sizes = [tuple(shape.dim) for shape in self.p.shape]
            sizes *= 1 if len(sizes) > 1 else self.num_tops
        for size in sizes:
            if any(dim < 0 for dim in size):
                raise self.error(f"a shape can't have the dim {min(size)}", field="shape")
            if math.prod(size) >= MOST_ELEMENTS:
                raise self.error(
                    f"a top of {math.prod(size):,} elements; a blob holds fewer than "
                    f"{MOST_ELEMENTS:,}",
                    field="shape",
                )
        return sizes

    def check_count(self, name: str, count: int) -> None:
        """Refuse a field that is not given once or for each top."""
        if not count:
            hint = "Give dummy_data_param { shape { dim: … } }." if name == "shape" else ""
            raise self.error(f"{name} is missing", field=name, hint=hint)
        if count not in (1, self.num_tops):
            raise self.error(
                f"{self.num_tops} tops but {count} {name}: give one for all or one for each",
                field=name,
            )

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Fill."""
        tops = tuple(self.top(i) for i in range(self.num_tops))
        return tops[0] if self.num_tops == 1 else tops

    def top(self, i: int) -> Tensor:
        """One top; a constant one is kept."""
        anchor: Tensor = self.anchor  # type: ignore[assignment]
        value = self.values[i]
        if value is None:
            top: Tensor = self.filled(i, anchor)
            return top
        kept: Tensor | None = getattr(self, f"top{i}")
        if kept is None or kept.device != anchor.device:
            kept = anchor.new_full(self.sizes[i], value)
            if not kept.is_meta and not torch.compiler.is_exporting():
                setattr(self, f"top{i}", kept)
        return kept

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def filled(self, i: int, anchor: Tensor) -> Tensor:
        """A top of new random numbers, on the anchor's device."""
        top = anchor.new_empty(self.sizes[i])
        fill(top, self.fillers[i])
        return top
