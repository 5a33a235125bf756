"""The parameters of what the definition language names by its type, as its page has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from torrefy.plugins import owner_of
from torrefy.schema.compose import new_message, schema
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


def parameters_of(
    cls: type[Any], documented: type[Any], message: str, hook: str
) -> tuple[Parameter, ...]:
    """The fields of a type's parameters.

    Args:
        cls: the class; its `param` names the field that holds them.
        documented: the class that declares them, with a line on each.
        message: the full name of the message that has `param`.
        hook: where plugins give such classes.
    """
    if not cls.param:
        return ()
    name = schema().own_name(message, cls.param, owner_of(hook, cls))
    inner = new_message(message).DESCRIPTOR.fields_by_name[name].message_type
    docs = {name: _doc(one) for name, one in declared(documented).items()}
    fields = inner.fields
    if docs:  # in the order of the class, not of the numbers
        fields = [inner.fields_by_name[name] for name in docs if name in inner.fields_by_name]
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
