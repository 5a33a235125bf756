"""What a layer type says of itself: its page in `torrefy layers`, from its one class."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from torrefy.layers.base import Layer
from torrefy.plugins import owner_of
from torrefy.schema import new_message, schema
from torrefy.schema.fields import Field, declared

_KINDS = {
    FieldDescriptor.CPPTYPE_BOOL: "bool",
    FieldDescriptor.CPPTYPE_DOUBLE: "number",
    FieldDescriptor.CPPTYPE_FLOAT: "number",
    FieldDescriptor.CPPTYPE_INT32: "integer",
    FieldDescriptor.CPPTYPE_INT64: "integer",
    FieldDescriptor.CPPTYPE_UINT32: "integer",
    FieldDescriptor.CPPTYPE_UINT64: "integer",
    FieldDescriptor.CPPTYPE_STRING: "text",
}


@dataclass(frozen=True)
class Parameter:
    """One field of a type's parameters."""

    name: str
    kind: str
    """"integer", "MAX | AVE | STOCHASTIC", "FillerParameter"."""
    repeated: bool
    default: str
    """As a prototxt has it; empty where there is none."""
    doc: str = ""
    """What it is and the values that it takes, where the class says so."""


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
        parameters=_parameters(cls),
        example=_example(cls),
        onnx=cls.no_onnx,
        origin=cls.__module__,
    )


def _count(limits: tuple[int, int | None]) -> str:
    low, high = limits
    if high is None:
        return f"{low} or more" if low else "any number"
    return f"{low}" if low == high else f"{low} to {high}"


def _parameters(cls: type[Layer]) -> tuple[Parameter, ...]:
    if not cls.param:
        return ()
    name = schema().own_name("caffe.LayerParameter", cls.param, owner_of("torrefy_layers", cls))
    message = new_message("caffe.LayerParameter").DESCRIPTOR.fields_by_name[name].message_type
    docs = {name: _doc(one) for name, one in declared(cls.fields or cls).items()}
    fields = message.fields
    if docs:  # in the order of the class, not of the numbers
        fields = [message.fields_by_name[name] for name in docs if name in message.fields_by_name]
    return tuple(
        Parameter(
            schema().called(f.name), _kind(f), f.is_repeated, _default(f), docs.get(f.name, "")
        )
        for f in fields
    )


def _doc(one: Field) -> str:
    needs = "; must be given" if one.required else ""
    return f"{one.doc}{f', {one.limits}' if one.limits else ''}{needs}".removeprefix("; ")


def _kind(field: Any) -> str:
    if field.message_type is not None:
        return str(field.message_type.name)
    if field.enum_type is not None:
        return " | ".join(value.name for value in field.enum_type.values)
    return _KINDS.get(field.cpp_type, "bytes")


def _default(field: Any) -> str:
    if field.is_repeated or field.message_type is not None or not field.has_default_value:
        return ""
    value = field.default_value
    if field.enum_type is not None:
        return str(field.enum_type.values_by_number[value].name)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _example(cls: type[Layer]) -> str:
    """A layer with the fewest bottoms and tops that the type takes."""
    name = cls.type_name.lower()
    ends = [f'bottom: "{"abcdefgh"[i]}"' for i in range(cls.bottoms[0])]
    tops = max(cls.tops[0], 1 if cls.tops[1] != 0 else 0)
    ends += [f'top: "{name if tops == 1 else f"{name}{i + 1}"}"' for i in range(tops)]
    inside = "".join(f"\n  {line}" for line in cls.example.splitlines())
    return f'layer {{\n  name: "{name}" type: "{cls.type_name}"\n  {" ".join(ends)}{inside}\n}}'
