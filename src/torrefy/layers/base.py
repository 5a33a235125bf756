"""What a layer is: one class that holds a layer type's whole truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from torrefy.errors import LayerError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Filled:
    """How one param comes to be: its attribute, its shape, and what fills it."""

    attribute: str
    shape: Shape
    filler: Any
    """A FillerParameter message, or a constant."""
    statistic: bool = False


class Layer(nn.Module):
    """One layer of a net.

    A subclass says its prototxt type with `@layer("Type")`, reads its parameters from
    `self.p`, makes its params in `setup` and computes in `forward`. Output shapes come from
    running `forward` on the meta device, so there is no second shape rule to keep in step.
    """

    type_name: ClassVar[str] = ""
    """The prototxt type; `@layer` sets it."""
    param: ClassVar[str] = ""
    """The field of LayerParameter that holds this type's parameters: "convolution_param"."""
    bottoms: ClassVar[tuple[int, int | None]] = (1, 1)
    """Fewest and most bottoms; None is no limit."""
    tops: ClassVar[tuple[int, int | None]] = (1, 1)
    """Fewest and most tops; None is no limit."""
    pairs: ClassVar[bool] = False
    """Whether every bottom makes one top (Convolution with several bottoms)."""
    in_place: ClassVar[bool] = True
    """Whether a top may have its bottom's name."""
    loss: ClassVar[bool] = False
    """Whether the first top is a loss, of weight 1 unless the definition says otherwise."""

    def __init__(self, spec: Any, num_tops: int = 1) -> None:
        """Take a LayerParameter message. Shapes are not known yet: `setup` gets them."""
        super().__init__()
        self.spec = spec
        self.name: str = spec.name
        self.num_tops = num_tops
        self.p: Any = getattr(spec, self.param) if self.param else None
        self.declared: list[Filled] = []

    def setup(self, *bottoms: Shape) -> None:
        """Check the parameters against the bottoms' shapes and make the params, in Caffe's order.

        Raises:
            LayerError: by `raise self.error(...)`, when parameters and shapes contradict.
        """

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute the top, or a tuple of tops when `num_tops` is not 1."""
        raise NotImplementedError

    def add_param(self, attribute: str, shape: Sequence[int], filler: Any = 0.0) -> None:
        """Declare the next blob as a learned `nn.Parameter` called `attribute`."""
        self._declare(Filled(attribute, tuple(shape), filler))
        self.register_parameter(attribute, nn.Parameter(torch.empty(tuple(shape), device="meta")))

    def add_statistic(self, attribute: str, shape: Sequence[int], value: float = 0.0) -> None:
        """Declare the next blob as a buffer: saved with the weights, not learned."""
        self._declare(Filled(attribute, tuple(shape), value, statistic=True))
        self.register_buffer(attribute, torch.empty(tuple(shape), device="meta"))

    def _declare(self, filled: Filled) -> None:
        self.declared.append(filled)

    @property
    def blobs(self) -> list[Tensor]:
        """The layer's params and statistics in Caffe's order."""
        return [getattr(self, filled.attribute) for filled in self.declared]

    def error(self, message: str, *, field: str = "", hint: str = "") -> LayerError:
        """An error about this layer. `field` names what is at fault ("kernel_size", "bottom")."""
        error = LayerError(message, layer=self.name, hint=hint)
        error.field = field
        return error

    def extra_repr(self) -> str:
        """The layer's name and type, for printing a net."""
        return f"{self.type_name} {self.name!r}"


LayerType = TypeVar("LayerType", bound=type[Layer])


def layer(type_name: str) -> Callable[[LayerType], LayerType]:
    """Give a Layer class its prototxt type: `@layer("Convolution")`."""

    def name_it(cls: LayerType) -> LayerType:
        cls.type_name = type_name
        return cls

    return name_it


def shape_text(shape: Sequence[int]) -> str:
    """A shape as error messages print it: 1x3x227x227."""
    return "x".join(map(str, shape)) if len(shape) else "scalar"
