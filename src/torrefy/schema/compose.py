"""The message classes: Caffe's and Torrefy's own, and the fields that plugins add to them.

They are composed at start-up from a descriptor set; nothing is generated, and no protoc is run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto
from google.protobuf.message import Message

from torrefy.errors import PluginError
from torrefy.plugins import Plugin, cached, contributions
from torrefy.schema.fields import (
    NOTHING,
    Field,
    Fields,
    Filler,
    declared,
    has_fields,
    is_fields,
    look_through,
)

DESCRIPTORS = "schema.binpb"
"""protos/*.proto, compiled once (`make protos`); a test holds it in step with the texts."""
LAYER = "caffe.LayerParameter"
ONE_CLASS = {
    "torrefy_layers": (LAYER, False),
    "torrefy_train_callbacks": ("caffe.CallbackParameter", True),
    "torrefy_augmentations": ("caffe.AugmentationParameter", True),
    "torrefy_heads": ("caffe.HeadParameter", True),
}
"""Hooks that give classes whose fields are parameters: the message that these are added to, and
whether it is so for the built-in ones, too (those of Caffe's layers stand in protos/)."""
FIRST, LAST = 20_000_000, (1 << 29) - 1
"""Plugins' field numbers. No fork of Caffe has numbers as high; protobuf has none higher."""

_TYPES = {
    bool: FieldDescriptorProto.TYPE_BOOL,
    int: FieldDescriptorProto.TYPE_INT64,
    float: FieldDescriptorProto.TYPE_DOUBLE,  # so that 0.1 is Python's 0.1, within its limits
    str: FieldDescriptorProto.TYPE_STRING,
    bytes: FieldDescriptorProto.TYPE_BYTES,
}


@dataclass(frozen=True)
class Claim:
    """A field that a plugin adds to a message."""

    plugin: Plugin
    message: str
    """The message's full name, "caffe.LayerParameter"."""
    field: Field


class Schema:
    """A pool of message types in which plugins' fields stand beside Caffe's own.

    The pool is private: another package that registers its own `caffe.NetParameter` with
    protobuf's default pool (pycaffe does) is not in the way.
    """

    def __init__(
        self, descriptors: descriptor_pb2.FileDescriptorSet, claims: Iterable[Claim] = ()
    ) -> None:
        self.disputed: dict[tuple[str, str], dict[str, str]] = {}
        """Fields that plugins mean differently: a message and a name to each plugin's own field."""
        self.owners: dict[tuple[str, str], Plugin] = {}
        """Plugins' fields: a message and a name to the plugin that adds it."""
        self.renamed: dict[str, tuple[str, str]] = {}
        """Disputed fields' names in messages, what texts call them, and whose they are."""
        self._compose(descriptors, list(claims))
        self._pool = descriptor_pool.DescriptorPool()
        for file in descriptors.file:
            self._pool.Add(file)
        self._classes: dict[str, type[Message]] = {}

    def message_class(self, name: str) -> type[Message]:
        """The class of a message by its full name, "caffe.NetParameter"."""
        if name not in self._classes:
            descriptor = self._pool.FindMessageTypeByName(name)
            self._classes[name] = message_factory.GetMessageClass(descriptor)
        return self._classes[name]

    def own_name(self, message: str, name: str, plugin: str) -> str:
        """A field's name in the message: that of a disputed one is the plugin's own."""
        return self.disputed.get((message, name), {}).get(plugin, name)

    def called(self, name: str) -> str:
        """What texts call a field, by its name in the message."""
        return self.renamed[name][0] if name in self.renamed else name

    def part(self, message: Any, name: str) -> Any:
        """A field of a message by its name in a text; of a disputed one what is given."""
        variants = self.disputed.get((message.DESCRIPTOR.full_name, name))
        if not variants:
            return getattr(message, name)
        given = [own for own in variants.values() if message.HasField(own)]
        return getattr(message, given[0] if given else next(iter(variants.values())))

    def _compose(self, descriptors: descriptor_pb2.FileDescriptorSet, claims: list[Claim]) -> None:
        homes = {
            f"{file.package}.{message.name}": (file, message)
            for file in descriptors.file
            for message in file.message_type
        }
        base = {
            (full, field.name): field
            for full, (_, message) in homes.items()
            for field in message.field
        }
        together: dict[tuple[str, str], list[Claim]] = {}
        for claim in claims:
            key = (claim.message, claim.field.name)
            problem = self._unfit(claim, homes, base)
            if problem:
                claim.plugin.fail(problem)
            else:
                together.setdefault(key, []).append(claim)
        numbers: dict[tuple[str, int], Claim] = {}
        holders: dict[str, _Holder] = {}
        for (full, name), claimed in together.items():
            for claim in claimed:
                if any(
                    not claim.field.same_as(c.field) for c in claimed if c.plugin is claim.plugin
                ):
                    claim.plugin.fail(
                        f'its field "{name}" of {full} is declared twice, with different meanings; '
                        "rename one"
                    )
            claimants = [claim for claim in claimed if not claim.plugin.error]
            if not claimants:
                continue
            first, *rest = claimants
            self.owners[full, name] = first.plugin
            alike = all(first.field.same_as(other.field) for other in rest)
            variants = [claimants] if alike else [[claim] for claim in claimants]
            for variant in variants:
                plugin = variant[0].plugin
                own = name if alike else f"{name}__{_identifier(plugin.name)}"
                if not alike:
                    self.disputed.setdefault((full, name), {})[plugin.name] = own
                    self.renamed[own] = (name, plugin.name)
                number = number_of(own)
                other = numbers.setdefault((full, number), variant[0])
                if other is not variant[0]:
                    plugin.fail(
                        f'its field "{name}" of {full} has by chance the number of '
                        f'"{other.field.name}" of plugin {other.plugin.title}; rename one'
                    )
                    continue
                file, message = homes[full]
                holder = holders.setdefault(
                    plugin.name,
                    _Holder(file.message_type, f"plugin_{_identifier(plugin.name)}", "caffe"),
                )
                _add_field(message, [c.field for c in variant], own, holder)

    @staticmethod
    def _unfit(claim: Claim, homes: Mapping[str, Any], base: Mapping[tuple[str, str], Any]) -> str:
        where = f'its field "{claim.field.name}" of {claim.message}'
        if claim.message not in homes:
            return f"{where}: there is no such message"
        if (claim.message, claim.field.name) in base:
            inner = base[claim.message, claim.field.name].type_name.lstrip(".")
            advice = f'; add to that by extends="{inner}"' if inner else ""
            return f"{where}: the message has a field of that name already{advice}"
        if is_fields(claim.field.kind):
            try:
                look_through(claim.field.kind)
            except PluginError as error:
                return str(error)
        return ""


class _Holder:
    """The message in which a plugin's messages are nested, so that their names are its own."""

    def __init__(self, messages: Any, name: str, package: str) -> None:
        self.messages = messages
        self.name = name
        self.package = package
        self.made: dict[type[Any], DescriptorProto] = {}
        """The messages of classes of fields; a class has the message in which it came first."""
        self.merged: dict[str, list[type[Any]]] = {}
        """The messages' names, and the classes whose fields they have."""

    def nest(self, fields: list[Field]) -> str:
        """Add a message of what several classes of fields declare; its full name."""
        first = fields[0].kind
        if first not in self.made:
            self.made[first] = self._holder().nested_type.add(name=self._free(first.__name__))
        made = self.made[first]
        merged = self.merged.setdefault(made.name, [])
        new = [one.kind for one in fields if one.kind not in merged]
        merged += new
        for inner in {name: None for kind in new for name in kind.declared()}:
            ones = [kind.declared()[inner] for kind in merged if inner in kind.declared()]
            if all(field.name != inner for field in made.field):
                _add_field(made, ones, inner, self)
            elif is_fields(ones[0].kind):
                self.nest(ones)
        return f".{self.package}.{self.name}.{made.name}"

    def _holder(self) -> DescriptorProto:
        found: list[DescriptorProto] = [m for m in self.messages if m.name == self.name]
        return found[0] if found else self.messages.add(name=self.name)

    def _free(self, name: str) -> str:
        """A name that no other class's message has: the second Window is Window2."""
        name = _identifier(name)
        count = 1
        while (free := name if count == 1 else f"{name}{count}") in self.merged:
            count += 1
        return free


def _add_field(message: DescriptorProto, fields: list[Field], name: str, holder: _Holder) -> None:
    one = fields[0]
    made = message.field.add(name=name, number=number_of(name), json_name=name)
    made.label = (
        FieldDescriptorProto.LABEL_REPEATED if one.repeated else FieldDescriptorProto.LABEL_OPTIONAL
    )
    if one.kind is Filler:
        made.type = FieldDescriptorProto.TYPE_MESSAGE
        made.type_name = ".caffe.FillerParameter"
    elif is_fields(one.kind):
        made.type = FieldDescriptorProto.TYPE_MESSAGE
        made.type_name = holder.nest(fields)
    elif isinstance(one.kind, Mapping):
        # An enum's values are names of what it stands in: each enum stands alone.
        shell = message.nested_type.add(name=f"{name}_values")
        values = shell.enum_type.add(name="_Value")
        values.options.allow_alias = len(set(one.kind.values())) < len(one.kind)
        for value, number in one.kind.items():
            values.value.add(name=value, number=number)
        made.type = FieldDescriptorProto.TYPE_ENUM
        made.type_name = f"{shell.name}.{values.name}"
    else:
        made.type = _TYPES[one.kind]
    if one.default is not NOTHING and one.default is not None:
        made.default_value = _default_text(one.default)


def _default_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return "".join(f"\\{byte:03o}" for byte in value)
    return repr(value) if isinstance(value, float) else str(value)


def _identifier(name: str) -> str:
    """A plugin's name as protobuf takes it; those of two plugins differ as their names do."""
    return re.sub(r"[^A-Za-z0-9_]", lambda match: f"_{ord(match[0]):x}", name)


def number_of(name: str) -> int:
    """The number of a plugin's field: a hash of its name, so that it is the same everywhere."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return FIRST + int.from_bytes(digest, "big") % (LAST - FIRST + 1)


def _claims() -> list[Claim]:
    """What plugins add: by `torrefy_schema_fields`, and as the fields of one-class things."""
    found = []
    for given in contributions("torrefy_schema_fields", built_in=False):
        kind = given.thing
        if not (is_fields(kind) and kind.extends):
            given.plugin.fail(
                f"what it gives to torrefy_schema_fields must be a class of Fields with "
                f'extends="…", found {kind!r}'
            )
            continue
        found += _declared(given.plugin, kind, kind.extends)
    for hook, (message, built_in) in ONE_CLASS.items():
        for given in contributions(hook, built_in):
            cls = given.thing
            if not isinstance(cls, type):
                continue  # a Lazy, or a mistake that is told where such things are made
            param = str(getattr(cls, "param", ""))
            if has_fields(cls) and param:
                try:
                    whole = Field(param, _parameters_of(cls))
                except PluginError as error:
                    given.plugin.fail(str(error))
                    continue
                found.append(Claim(given.plugin, message, whole))
    return found


def _declared(plugin: Plugin, cls: type[Any], message: str) -> list[Claim]:
    try:
        return [Claim(plugin, message, one) for one in declared(cls).values()]
    except PluginError as error:
        plugin.fail(str(error))
        return []


def _parameters_of(cls: type[Any]) -> type[Any]:
    """The fields of a class as a class of their own, called as Caffe calls parameters."""
    made = type(f"{cls.__name__}Parameter", (Fields,), {"__module__": cls.__module__})
    made.__torrefy_fields__ = declared(cls)  # type: ignore[attr-defined]
    return made


@cached
def schema() -> Schema:
    """The schema of this process, composed on first use."""
    data = files("torrefy.schema").joinpath(DESCRIPTORS).read_bytes()
    claims = _claims()
    try:
        return Schema(descriptor_pb2.FileDescriptorSet.FromString(data), claims)
    except (TypeError, ValueError):  # as protobuf tells what it doesn't take
        return _without_the_unfit(data, claims)


def _without_the_unfit(data: bytes, claims: list[Claim]) -> Schema:
    """The schema of those plugins whose fields protobuf takes; the others are told."""
    made = Schema(descriptor_pb2.FileDescriptorSet.FromString(data))
    taken: list[Claim] = []
    for name in dict.fromkeys(claim.plugin.name for claim in claims):
        own = [claim for claim in claims if claim.plugin.name == name]
        try:
            made = Schema(descriptor_pb2.FileDescriptorSet.FromString(data), [*taken, *own])
        except (TypeError, ValueError) as error:
            own[0].plugin.fail(f"protobuf doesn't take its fields: {error}")
        else:
            taken += own
    return made


def new_message(name: str) -> Any:
    """An empty message by its full name, "caffe.LayerParameter"."""
    return schema().message_class(name)()
