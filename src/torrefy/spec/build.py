"""Definitions written in Python, in the way of pycaffe's NetSpec.

A layer type's class says which field holds its parameters and what its docstring is, so that
naming a type (`L.Convolution`) imports the layers, and torch with them; `import torrefy` and
`NetSpec()` do not.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torrefy.errors import TorrefyError, did_you_mean
from torrefy.plugins import Named, cached, chosen_dialect, named, owner_of
from torrefy.schema import new_message, schema, write_text


@cached
def _classes() -> Named:
    """The layer classes by type."""
    schema()  # first: a plugin whose fields can't be has no layers either
    return named("torrefy_layers", "type_name", "layer type")


class Top:
    """One top of a layer call; it becomes a blob when the spec is written."""

    def __init__(self, call: Call, index: int) -> None:
        """The top of that index."""
        self.call = call
        self.index = index


class Call:
    """One layer: its type, its bottoms and its parameters."""

    def __init__(self, kind: str, bottoms: tuple[Top, ...], options: dict[str, Any]) -> None:
        """Take what `L.Convolution(bottom, num_output=…)` was given.

        Raises:
            TorrefyError: a bottom that is no top, or an option that the type doesn't have.
        """
        self.kind = kind
        self.ntop = options.pop("ntop", 1)
        self.in_place = options.pop("in_place", False)
        self.name = options.pop("name", "")
        self.bottoms = bottoms
        for bottom in bottoms:
            if not isinstance(bottom, Top):
                found = "several tops" if isinstance(bottom, tuple) else type(bottom).__name__
                raise TorrefyError(f"L.{kind}: a bottom must be one top of a layer, found {found}")
        if self.in_place and (len(bottoms) != 1 or self.ntop != 1):
            raise TorrefyError(f"L.{kind}: in_place takes one bottom and one top")
        self.tops = tuple(Top(self, i) for i in range(self.ntop))
        self.layer = new_message("caffe.LayerParameter")
        self.layer.type = kind
        for key, value in options.items():
            _put(self._owner(key), key, value, f"L.{kind}")

    def _owner(self, key: str) -> Any:
        """The message that has an option: the layer's own, or its type's parameters."""
        field = _field_of(_classes()[self.kind])
        mine = self.layer.DESCRIPTOR.fields_by_name
        own = mine[field].message_type.fields_by_name if field else {}
        if field and _own_name(getattr(self.layer, field), key) in own:
            return getattr(self.layer, field)
        if _own_name(self.layer, key) not in mine:
            names = [*own, *mine, "ntop", "in_place", "name"]
            raise TorrefyError(
                f"L.{self.kind} has no parameter {key}", hint=did_you_mean(key, names)
            )
        return self.layer


def _put(message: Any, key: str, value: Any, what: str) -> None:
    """Set a field from Python: dicts are messages, lists repeat, texts name enum values."""
    inside = f"{what}.{key}"
    given, key = key, _own_name(message, key)
    field = message.DESCRIPTOR.fields_by_name.get(key)
    if field is None:
        names = message.DESCRIPTOR.fields_by_name
        raise TorrefyError(f"{what} has no field {given}", hint=did_you_mean(given, names))
    if hasattr(value, "tolist"):
        value = value.tolist()  # numpy's numbers and arrays
    if field.is_repeated:
        items = value if isinstance(value, list | tuple) else [value]
        for item in items:
            if field.message_type is not None:
                _fill(getattr(message, key).add(), item, inside)
            else:
                _guarded(inside, getattr(message, key).append, _scalar(field, item, inside))
    elif field.message_type is not None:
        _fill(getattr(message, key), value, inside)
    else:
        _guarded(inside, functools.partial(setattr, message, key), _scalar(field, value, inside))


def _own_name(message: Any, name: str) -> str:
    """A field's name in the message: where plugins differ, that of the chosen dialect's."""
    return schema().own_name(message.DESCRIPTOR.full_name, name, chosen_dialect())


def _fill(message: Any, value: Any, what: str) -> None:
    if isinstance(value, type(message)):
        message.CopyFrom(value)
        return
    if not isinstance(value, Mapping):
        raise TorrefyError(f"{what} takes a dict of its fields, found {value!r}")
    message.SetInParent()
    for key, item in value.items():
        _put(message, key, item, what)


def _scalar(field: Any, value: Any, what: str) -> Any:
    if field.enum_type is not None and isinstance(value, str):
        values = field.enum_type.values_by_name
        if value not in values:
            raise TorrefyError(
                f"{what} takes one of {', '.join(values)}; found {value}",
                hint=did_you_mean(value, values),
            )
        return values[value].number
    return value


def _guarded(what: str, put: Any, value: Any) -> None:
    try:
        put(value)
    except (TypeError, ValueError) as error:
        raise TorrefyError(f"{what} can't be {value!r}: {error}") from None


class LayerFunctions:
    """`L`: one function a layer type, plugins' types among them.

    `L.Convolution(bottom, num_output=8, kernel_size=3)` gives a top; `ntop=2` gives two, `ntop=0`
    the call itself. Keywords are fields of the type's parameters (`num_output`), or of the layer
    (`param=[dict(lr_mult=1)]`, `include=dict(phase=P.Phase.TRAIN)`, `loss_weight=2`); dicts are
    messages, lists repeat. `in_place=True` overwrites the bottom, `name` names the layer.
    """

    def __getattr__(self, kind: str) -> Any:
        """The function of a layer type.

        Raises:
            TorrefyError: there is no such type; the nearest is told.
        """
        if kind.startswith("_"):
            raise AttributeError(kind)
        if kind not in _classes():
            raise TorrefyError(
                f'there is no layer type "{kind}"', hint=did_you_mean(kind, _classes())
            )
        return _function(kind)

    def __dir__(self) -> list[str]:
        """All types, for an editor."""
        return sorted(_classes())


def _field_of(cls: Any) -> str:
    """The field of LayerParameter that holds a type's parameters; empty: it has none."""
    if not cls.param:
        return ""
    return schema().own_name("caffe.LayerParameter", cls.param, owner_of("torrefy_layers", cls))


@cached
def _function(kind: str) -> Any:
    """`L.Convolution`, with a signature and a docstring of its own."""

    def call(*bottoms: Top, **options: Any) -> Any:
        made = Call(kind, bottoms, options)
        if made.ntop == 0:
            return made
        return made.tops[0] if made.ntop == 1 else made.tops

    cls = _classes()[kind]
    layer = new_message("caffe.LayerParameter").DESCRIPTOR
    own = layer.fields_by_name[_field_of(cls)].message_type.fields if cls.param else []
    keyword, empty = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.empty
    parameters = [inspect.Parameter("bottoms", inspect.Parameter.VAR_POSITIONAL)]
    parameters += [inspect.Parameter(f.name, keyword, default=_default(f, empty)) for f in own]
    call.__name__ = call.__qualname__ = kind
    call.__doc__ = inspect.cleandoc(cls.__doc__ or "")
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call


def _default(field: Any, empty: Any) -> Any:
    return field.default_value if field.has_default_value else None


class Enums:
    """`P`: the values of enums, `P.Pooling.MAX`, `P.Phase.TRAIN`."""

    def __getattr__(self, name: str) -> Any:
        """The enums of a message by its name without "Parameter", or an enum of its own.

        Raises:
            TorrefyError: there is none of that name; the nearest is told.
        """
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in enums():
            raise TorrefyError(f"P has no {name}", hint=did_you_mean(name, enums()))
        return _Values(name, enums()[name])

    def __dir__(self) -> list[str]:
        """All that have values, for an editor."""
        return sorted(enums())


@cached
def enums() -> dict[str, dict[str, int]]:
    """Every enum that a layer can hold: the message's name, the values by their names."""
    layer = new_message("caffe.LayerParameter").DESCRIPTOR
    found: dict[str, dict[str, int]] = {}
    seen = {layer.full_name}
    waiting = [layer]
    while waiting:
        message = waiting.pop()
        for field in message.fields:
            enum, inner = field.enum_type, field.message_type
            if enum is not None:
                holder = enum.containing_type
                name = (holder.name if holder else enum.name).removesuffix("Parameter")
                found.setdefault(name, {}).update((v.name, v.number) for v in enum.values)
            if inner is not None and inner.full_name not in seen:
                seen.add(inner.full_name)
                waiting.append(inner)
    return found


class _Values:
    """Some named numbers."""

    def __init__(self, name: str, values: dict[str, int]) -> None:
        self._name = name
        self._values = values

    def __getattr__(self, name: str) -> int:
        if name.startswith("__") or name not in self._values:
            raise AttributeError(
                f"P.{self._name} has no {name}. {did_you_mean(name, self._values)}".strip()
            )
        return self._values[name]

    def __dir__(self) -> list[str]:
        return list(self._values)


class NetSpec:
    """A net in the making: a top that is assigned to an attribute is a blob of that name.

    Example:
        n = NetSpec()
        n.data = L.Input(shape=dict(dim=[1, 1, 28, 28]))
        n.conv1 = L.Convolution(n.data, num_output=20, kernel_size=5)
        n.relu1 = L.ReLU(n.conv1, in_place=True)
        n.a, n.b = L.Slice(n.conv1, ntop=2)
        net = torrefy.load_net(n.to_proto())
    """

    _named: dict[str, Top | Call]

    def __init__(self, name: str = "") -> None:
        """Begin a net, with a name of its own."""
        object.__setattr__(self, "_named", {})
        object.__setattr__(self, "_name", name)

    def __setattr__(self, name: str, value: Top | Call) -> None:
        """Name a top (or a call without tops)."""
        if not isinstance(value, Top | Call):
            found = "several tops" if isinstance(value, tuple) else repr(value)
            raise TorrefyError(f"{name} must be a top of a layer, found {found}")
        self._named[name] = value

    def __getattr__(self, name: str) -> Any:
        """The top of a name."""
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self._named:
            raise AttributeError(
                f"the spec has no top {name}. {did_you_mean(name, self._named)}".strip()
            )
        return self._named[name]

    __setitem__ = __setattr__
    __getitem__ = __getattr__

    def __dir__(self) -> list[str]:
        """Methods and tops, for an editor."""
        return [*super().__dir__(), *self._named]

    def to_proto(self) -> Any:
        """The NetParameter: layers in the order of assignment, what they need before them.

        A layer has the name of its first top; what was never assigned is called "Convolution1".
        """
        return _message(self._name, self._named, self._named.values())

    def to_text(self) -> str:
        """The net as prototxt."""
        return write_text(self.to_proto())


def to_proto(*tops: Top | Call) -> Any:
    """The NetParameter of some tops and what they need, called as "Convolution1"."""
    return _message("", {}, tops)


def _message(name: str, named: Mapping[str, Top | Call], made: Iterable[Top | Call]) -> Any:
    message = new_message("caffe.NetParameter")
    if name:
        message.name = name
    names: dict[Top | Call, str] = {}
    for own, value in named.items():
        names.setdefault(value, own)
    numbers: dict[str, Iterator[int]] = {}
    blobs: dict[Top, str] = {}
    for call in _calls(made):
        given = [names[top] for top in (*call.tops, call) if top in names]
        while not given:
            own = f"{call.kind}{next(numbers.setdefault(call.kind, itertools.count(1)))}"
            given = [own] if own not in named else []
        layer = message.layer.add()
        layer.name = call.name or given[0]
        layer.MergeFrom(call.layer)
        layer.bottom.extend(blobs[bottom] for bottom in call.bottoms)
        for top in call.tops:
            own = names.get(top) or (given[0] if call.ntop == 1 else f"{given[0]}_{top.index}")
            blobs[top] = blobs[call.bottoms[0]] if call.in_place else own
            layer.top.append(blobs[top])
    return message


def _calls(made: Iterable[Top | Call]) -> Iterator[Call]:
    """Every call once, after those that it needs."""
    waiting = [thing.call if isinstance(thing, Top) else thing for thing in made][::-1]
    done: set[Call] = set()
    while waiting:
        call = waiting[-1]
        needed = [bottom.call for bottom in call.bottoms if bottom.call not in done]
        if call in done:
            waiting.pop()
        elif needed:
            waiting.extend(reversed(needed))
        else:
            done.add(call)
            yield waiting.pop()
