"""What a layer type says of itself: its page in `torrefy layers`, from its one class."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from torrefy.layers.base import Layer
from torrefy.schema.describe import Parameter, parameters_of


@dataclass(frozen=True)
class Description:
    """A layer type's page."""

    type: str
    summary: str
    """The first line of its docstring."""
    text: str
    """The whole docstring: formula, blobs and shapes, differences to PyTorch."""
    bottoms: str
    """How many: "1", "2 or more"."""
    tops: str
    in_place: bool
    field: str
    """The field of LayerParameter that holds its parameters: "convolution_param"."""
    parameters: tuple[Parameter, ...]
    example: str
    """A layer of this type as prototxt."""
    onnx: str
    """Why it can't be exported to ONNX; empty where it can."""
    origin: str
    """The module that defines it: "torrefy.layers.pooling", or a plugin's."""


def describe(cls: type[Layer]) -> Description:
    """A layer class's page."""
    text = inspect.cleandoc(cls.__doc__ or "")
    return Description(
        type=cls.type_name,
        summary=" ".join(text.split("\n\n", 1)[0].split()),
        text=text,
        bottoms=_count(cls.bottoms),
        tops=_count(cls.tops),
        in_place=cls.in_place,
        field=cls.param,
        parameters=parameters_of(cls, cls.fields or cls, "caffe.LayerParameter", "torrefy_layers"),
        example=_example(cls),
        onnx=cls.no_onnx,
        origin=cls.__module__,
    )


def _count(limits: tuple[int, int | None]) -> str:
    low, high = limits
    if high is None:
        return f"{low} or more" if low else "any number"
    return f"{low}" if low == high else f"{low} to {high}"


def _example(cls: type[Layer]) -> str:
    """A layer with the fewest bottoms and tops that the type takes."""
    name = cls.type_name.lower()
    ends = [f'bottom: "{"abcdefgh"[i]}"' for i in range(cls.bottoms[0])]
    tops = max(cls.tops[0], 1 if cls.tops[1] != 0 else 0)
    ends += [f'top: "{name if tops == 1 else f"{name}{i + 1}"}"' for i in range(tops)]
    inside = "".join(f"\n  {line}" for line in cls.example.splitlines())
    return f'layer {{\n  name: "{name}" type: "{cls.type_name}"\n  {" ".join(ends)}{inside}\n}}'
