"""Parameters as annotated fields of a class: what plugins add to the definition language.

    class SnakeParameter(Fields):
        a: float = field(1.0, doc="frequency", above=0)

`schema.compose` makes protobuf messages of such classes, so that they are text like any other's;
`Fields.read` makes plain Python values of a message.
"""

from __future__ import annotations

import enum
import inspect
import math
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Union, get_args, get_origin

from google.protobuf.message import Message

from torrefy.errors import PluginError, did_you_mean

Filler = typing.NewType("Filler", object)
"""The kind of a field that holds a FillerParameter; its value is the protobuf message."""


class _Nothing:
    def __repr__(self) -> str:
        return "nothing"


NOTHING = _Nothing()
"""There is no default."""
_LARGEST = sys.float_info.max
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Field:
    """One field of a message: its name, kind, default and limits."""

    name: str = ""
    kind: Any = None
    """bool, int, float, str, bytes, `Filler`, a subclass of `Fields`, or an enum's values by their
    names."""
    repeated: bool = False
    optional: bool = False
    default: Any = NOTHING
    doc: str = ""
    above: float = -math.inf
    below: float = math.inf
    at_least: float = -math.inf
    at_most: float = math.inf

    @property
    def required(self) -> bool:
        """Whether a definition must give it."""
        message = self.kind is Filler or (isinstance(self.kind, type) and is_fields(self.kind))
        return self.default is NOTHING and not (self.repeated or self.optional or message)

    @property
    def limits(self) -> str:
        """The values that it takes, in words: "above 0"; empty: any."""
        words = [
            f"{word} {limit:g}"
            for word, limit in (
                ("above", self.above), ("at least", self.at_least),
                ("below", self.below), ("at most", self.at_most),
            )
            if not math.isinf(limit)
        ]  # fmt: skip
        return " and ".join(words)

    def takes(self, value: Any) -> bool:
        """Whether a number is within the limits (NaN is not, where there are any)."""
        if not isinstance(value, (int, float)) or not self.limits:
            return True
        return self.above < value < self.below and self.at_least <= value <= self.at_most

    def same_as(self, other: Field, above: tuple[tuple[Any, Any], ...] = ()) -> bool:
        """Whether a text means the same by both: their kinds and defaults agree.

        `above`: the pairs of messages that they stand in, for messages that hold themselves.
        """
        if (self.repeated, self.default, self.required) != (
            other.repeated, other.default, other.required,
        ):  # fmt: skip
            return False
        if is_fields(self.kind) and is_fields(other.kind):
            pair = (self.kind, other.kind)
            mine, theirs = self.kind.declared(), other.kind.declared()
            return pair in above or all(
                mine[n].same_as(theirs[n], (*above, pair)) for n in mine.keys() & theirs.keys()
            )
        return bool(self.kind == other.kind)


def field(
    default: Any = NOTHING,
    *,
    doc: str = "",
    above: float = -math.inf,
    below: float = math.inf,
    at_least: float = -math.inf,
    at_most: float = math.inf,
) -> Any:
    """Declare a field; its annotation says what it holds.

    `bool`, `int`, `float`, `str`, `bytes`; `Literal["MAX", "AVE"]` or an `enum.IntEnum`; `Filler`;
    another `Fields` class; `list[…]` of these, or `… | None`. Without a default the definition
    must give the field, unless it is a list, a message, or may be None.

    Args:
        default: what it is where the definition doesn't say; an enum's by its name.
        doc: one line for `torrefy layers`: what it is, and in which unit.
        above: numbers must be greater than this.
        below: and less than this.
        at_least: or this and greater.
        at_most: or this and less.
    """
    return Field(
        default=default, doc=doc, above=above, below=below, at_least=at_least, at_most=at_most
    )


class FieldError(ValueError):
    """A value that a field doesn't take; `path` is its place in the message."""

    def __init__(self, path: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.hint = hint


class Fields:
    """A message by its fields; a subclass declares them by annotation.

    `class Extra(Fields, extends="caffe.PoolingParameter")` adds its fields to an existing message.
    """

    extends: ClassVar[str] = ""
    """The full name of the message that it adds to; empty: it is a message of its own."""

    def __init_subclass__(cls, extends: str = "", **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.extends = extends

    @classmethod
    def declared(cls) -> dict[str, Field]:
        """Its fields by their names, in the order of the class."""
        return declared(cls)

    @classmethod
    def read(cls, message: Any, path: str = "") -> Any:
        """An object with the fields' values as attributes: a message's, or the defaults.

        Args:
            message: a protobuf message that has these fields.
            path: where it stands, for errors: "distort_param.".

        Raises:
            FieldError: a field is missing or out of its limits.
        """
        made = cls()
        for name, value in values(cls, message, path):
            setattr(made, name, value)
        return made


def is_fields(kind: Any) -> bool:
    """Whether it is a class of fields."""
    return isinstance(kind, type) and issubclass(kind, Fields)


def declared(cls: type[Any]) -> dict[str, Field]:
    """The fields that a class and its parents declare, by their names.

    Raises:
        PluginError: an annotation is no kind of field, or a default doesn't fit.
    """
    if "__torrefy_fields__" not in vars(cls):
        found: dict[str, Field] = {}
        for parent in reversed(cls.__mro__):
            for name, value in vars(parent).items():
                if isinstance(value, Field):
                    found[name] = _resolved(parent, name, value)
        cls.__torrefy_fields__ = found
    own: dict[str, Field] = vars(cls)["__torrefy_fields__"]
    return own


def has_fields(cls: type[Any]) -> bool:
    """Whether a class or a parent of it declares fields."""
    return any(isinstance(v, Field) for parent in cls.__mro__ for v in vars(parent).values())


def look_through(cls: type[Any], above: tuple[type[Any], ...] = ()) -> None:
    """Look at every class of fields inside one, for what can't be a message.

    Args:
        cls: the class.
        above: the classes that it stands in.

    Raises:
        PluginError: an annotation or a default is wrong; or a class always holds itself, so
            that its defaults have no end.
    """
    if cls in above:
        return
    for one in declared(cls).values():
        if is_fields(one.kind):
            look_through(one.kind, (*above, cls))
    inside = [cls]
    for kind in inside:
        always = [f.kind for f in declared(kind).values() if not (f.repeated or f.optional)]
        inside += [one for one in always if is_fields(one) and one not in inside]
        if cls in always:
            raise PluginError(
                f"{cls.__module__}.{cls.__qualname__} always holds another of itself; "
                f"let the field be {cls.__name__} | None"
            )


def _resolved(cls: type[Any], name: str, given: Field) -> Field:
    where = f"{cls.__module__}.{cls.__qualname__}.{name}"
    if (
        not _NAME.fullmatch(name)
        or hasattr(Message, name)
        or (is_fields(cls) and hasattr(Fields, name))
    ):
        raise PluginError(
            f"{where}: a field can't have this name; it begins with a letter, goes on in letters, "
            "digits and _, and is no name of protobuf's or of Fields"
        )
    kind = _evaluated(cls, inspect.get_annotations(cls).get(name), where)
    repeated = optional = False
    if get_origin(kind) is list:
        kind, repeated = next(iter(get_args(kind)), None), True
    elif get_origin(kind) in (Union, types.UnionType):
        kinds = [k for k in get_args(kind) if k is not type(None)]
        kind, optional = (kinds[0] if len(kinds) == 1 else None), len(kinds) < len(get_args(kind))
    kind = _evaluated(cls, kind, where)
    if get_origin(kind) is Literal:
        kind = _enum({value: i for i, value in enumerate(get_args(kind))}, where)
    elif isinstance(kind, type) and issubclass(kind, enum.IntEnum):
        kind = _enum({name: int(member) for name, member in kind.__members__.items()}, where)
    elif kind not in (bool, int, float, str, bytes, Filler) and not is_fields(kind):
        raise PluginError(
            f"{where}: a field is annotated as bool, int, float, str, bytes, Literal[…], an "
            "IntEnum, Filler, a class of Fields, a list of these, or one of them | None"
        )
    found = replace(given, name=name, kind=kind, repeated=repeated, optional=optional)
    return replace(found, default=_default(found, where))


def _evaluated(cls: type[Any], note: Any, where: str) -> Any:
    """An annotation, or a part of it, that may be written as a text."""
    scope = {**vars(sys.modules.get(cls.__module__, types)), cls.__name__: cls}
    for _ in range(2):  # a text in quotes, of which `from __future__ import annotations` makes two
        note = note.__forward_arg__ if isinstance(note, typing.ForwardRef) else note
        if isinstance(note, str):
            try:
                note = eval(note, scope)  # noqa: S307  the plugin's own code
            except Exception as error:
                raise PluginError(f"{where}: its annotation can't be read: {error}") from error
    return note


def _enum(values: dict[Any, int], where: str) -> dict[str, int]:
    if not values or not all(
        isinstance(name, str) and _NAME.fullmatch(name) and -(2**31) <= number < 2**31
        for name, number in values.items()
    ):
        raise PluginError(
            f"{where}: an enum's values are words, of letters, digits and _, that stand for 32-bit "
            f"integers; found {', '.join(f'{n!r} = {i}' for n, i in values.items()) or 'none'}"
        )
    return values


def _default(one: Field, where: str) -> Any:
    default = one.default
    if isinstance(default, enum.IntEnum):
        default = default.name if isinstance(one.kind, Mapping) else int(default)
    if default is NOTHING or (one.optional and default is None):
        return NOTHING if not one.optional else None
    if one.repeated or one.kind is Filler or is_fields(one.kind):
        raise PluginError(f"{where}: a list or a message has no default")
    if not _fits(one.kind, default) or not one.takes(default):
        raise PluginError(f"{where}: it doesn't take its own default {default!r}")
    return float(default) if one.kind is float else default


def _fits(kind: Any, value: Any) -> bool:
    """Whether a field of that kind can hold a value."""
    if isinstance(kind, Mapping):
        return value in list(kind)
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if isinstance(value, int):
        low, high = (-(2**63), 2**63 - 1) if kind is int else (-_LARGEST, _LARGEST)
        return kind in (int, float) and low <= value <= high
    if isinstance(value, str):
        return kind is str and not any("\ud800" <= letter <= "\udfff" for letter in value)
    return isinstance(value, kind)


def values(cls: type[Any], message: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a class with a message's values: names and plain Python values.

    Lists are tuples, enums their names, nested messages objects of their classes; what is
    optional and absent is None. Without a message (None) all is as if nothing were given.

    Raises:
        FieldError: a field is missing or out of its limits.
    """
    for name, one in declared(cls).items():
        place = f"{path}{name}"
        if message is None:
            yield name, _absent(one, place)
        elif one.repeated:
            given = enumerate(getattr(message, name))
            yield name, tuple(_value(one, value, f"{place}.{i}") for i, value in given)
        elif message.HasField(name):
            yield name, _value(one, getattr(message, name), place)
        elif one.kind is Filler and not one.optional:
            yield name, getattr(message, name)
        else:
            yield name, _absent(one, place)


def _absent(one: Field, place: str) -> Any:
    """What a field is that nothing gives.

    Raises:
        FieldError: it must be given.
    """
    if one.required:
        raise FieldError(place, f"{one.name} is missing", f"Give {one.name}: …")
    if one.repeated:
        return ()
    if one.optional or one.kind is Filler:
        return one.default if one.default is not NOTHING else None
    return one.kind.read(None, f"{place}.") if is_fields(one.kind) else one.default


def given_values(cls: type[Any], given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields of a class with values given in Python: as `values` gives a message's.

    Raises:
        FieldError: a field is unknown or missing, or doesn't take its value.
    """
    fields = declared(cls)
    for name in given:
        if name not in fields:
            hint = did_you_mean(name, fields) or f"There are {', '.join(fields) or 'none'}."
            raise FieldError(name, f'there is no field "{name}"', hint)
    for name, one in fields.items():
        yield name, _checked(one, given[name]) if name in given else _absent(one, name)


def _checked(one: Field, value: Any) -> Any:
    """A value given in Python, as a message's would be."""
    if value is None and one.optional:
        return None
    items = tuple(value) if one.repeated and not isinstance(value, (str, bytes)) else (value,)
    for item in items:
        fits = item.__class__ is one.kind if is_fields(one.kind) else _fits(one.kind, item)
        if not fits:
            kinds = list(one.kind) if isinstance(one.kind, Mapping) else [one.kind.__name__]
            raise FieldError(one.name, f"{one.name} must be {' or '.join(kinds)}, found {item!r}")
        if not one.takes(item):
            raise FieldError(one.name, f"{one.name} must be {one.limits}, found {item:g}")
    made = tuple(float(item) if one.kind is float else item for item in items)
    return made if one.repeated else made[0]


def snake_case(name: str) -> str:
    """A type's name as Caffe calls its parameters: PriorBox is prior_box, ReLU6 relu6."""
    name = re.sub(r"[A-Z]*ReLU", lambda match: match[0].capitalize(), name)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _value(one: Field, value: Any, place: str) -> Any:
    if isinstance(one.kind, Mapping):
        return next(name for name, number in one.kind.items() if number == value)
    if is_fields(one.kind):
        return one.kind.read(value, f"{place}.")
    if not one.takes(value):
        raise FieldError(place, f"{one.name} must be {one.limits}, found {value:g}")
    return value
