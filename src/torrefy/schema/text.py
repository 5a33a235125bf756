"""Prototxt: text to message, with the place of every field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from torrefy.errors import DefinitionError, Problem, did_you_mean
from torrefy.plugins import chosen_dialect, disputed, manager
from torrefy.schema.compose import new_message, schema
from torrefy.schema.source import Definition, Mark, Source, decode, read_source

DEEPEST = 64
"""Messages nested deeper than this are refused (Caffe's own nest 6 deep)."""
MOST_PROBLEMS = 50
"""After this many problems a text is read no further."""

_TOKEN = re.compile(
    r"""(?:[ \t\r\n\f\v]+|\#[^\n]*)*
    (?:(?P<word>[A-Za-z_][\w]*)
    |(?P<number>\.?[0-9](?:[eE][+-]?[0-9]+|[\w.])*)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<sign>[{}<>\[\]:;,/-])
    |(?P<end>\Z)
    |(?P<other>.))""",
    re.VERBOSE | re.DOTALL,
)
_WORD, _NUMBER, _TEXT, _SIGN, _END, _OTHER = 1, 2, 3, 4, 5, 6
_INTEGER = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*")
_FLOAT = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?")
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL
)
_SIMPLE = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "'": "'", '"': '"', "?": "?",
}  # fmt: skip
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1, "a 32-bit integer"),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1, "a 64-bit integer"),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1, "an integer of 0 or more"),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1, "an integer of 0 or more"),
}
_BOOLS = {
    "true": True, "True": True, "t": True, "1": True,
    "false": False, "False": False, "f": False, "0": False,
}  # fmt: skip
_CLOSES = {"{": "}", "<": ">"}
_DIALECT = re.compile(
    r"""(?m)^(?:[^"'#\n]++|"(?:[^"\\\n]|\\.)*+"|'(?:[^'\\\n]|\\.)*+')*+  # no comment, then one
    \#[ \t]*torrefy:[ \t]*dialect[ \t]*=[ \t]*([\w.-]+)""",
    re.VERBOSE,
)


def read_text(path: Path | str, message: str = "caffe.NetParameter") -> Definition:
    """Read a prototxt file.

    Raises:
        DefinitionError: with every independent problem of the text (unknown fields, wrong
            values), or the one syntax error at which reading had to stop.
    """
    return parse(read_source(path), message)


def parse_text(
    text: str | bytes, message: str = "caffe.NetParameter", file: str = "<text>"
) -> Definition:
    """Read a prototxt from memory; `file` is what errors call it."""
    source = Source(file, text) if isinstance(text, str) else decode(text, file)
    return parse(source, message)


def parse(source: Source, message: str = "caffe.NetParameter") -> Definition:
    """Read a text that is in memory already."""
    dialect = _dialect(source)
    parser, definition = _parsed(source, message, dialect)
    if parser.undecided and not dialect and len(parser.present) == 1:
        # Names that only one dialect has tell which one the disputed names are of.
        parser, definition = _parsed(source, message, next(iter(parser.present)))
    if parser.problems:
        raise DefinitionError(parser.problems)
    return definition


def _parsed(source: Source, message: str, dialect: str) -> tuple[_Parser, Definition]:
    target = new_message(message)
    parser = _Parser(source, dialect)
    root = Mark(0)
    try:
        parser.fields(target, root, "", 0)
    except _Stop:
        pass
    return parser, Definition(target, source, root, dialect=dialect)


def _dialect(source: Source) -> str:
    """The dialect that a comment in the text names, else the one chosen for the process.

    Raises:
        DefinitionError: there is no plugin of that name.
    """
    match = _DIALECT.search(source.text)
    if match is None:
        return chosen_dialect()
    names = [plugin.name for plugin in manager().used() if not plugin.built_in]
    if match[1] not in names:
        hint = did_you_mean(match[1], names) or "Is its plugin installed?"
        place = source.place(match.start(1))
        raise DefinitionError(Problem(f'there is no dialect "{match[1]}"', place, hint=hint))
    return match[1]


class _Stop(Exception):  # noqa: N818
    """Reading can't go on after a syntax error."""


class _Parser:
    """A recursive descent over the tokens, directed by the descriptors."""

    def __init__(self, source: Source, dialect: str) -> None:
        self.source = source
        self.dialect = dialect
        self.schema = schema()
        self.present: set[str] = set()
        """Plugins that alone have a name that is used."""
        self.undecided = False
        """Whether a name is used that several plugins mean differently."""
        self.text = source.text
        self.problems: list[Problem] = []
        self.layer = ""
        """The name of the layer that is being read, once it is known; likewise its type."""
        self.type = ""
        self.position = 0
        self.kind = _END
        self.token = ""
        self.start = 0
        self.next()

    def next(self) -> None:
        match = _TOKEN.match(self.text, self.position)
        if match is None:  # can't be: the last alternatives take anything
            raise _Stop
        self.kind = match.lastindex or _END
        self.token = match[self.kind]
        self.start = match.start(self.kind)
        self.position = match.end()

    def problem(self, message: str, offset: int | None = None, hint: str = "") -> None:
        place = self.source.place(self.start if offset is None else offset)
        self.problems.append(Problem(message, place, self.layer, hint))
        if len(self.problems) >= MOST_PROBLEMS:
            raise _Stop

    def stop(self, expected: str) -> _Stop:
        """A syntax error at the current token."""
        hint = ""
        if self.kind == _END:
            found = "the end of the file"
        elif self.kind == _OTHER and self.token in "\"'":
            found = "a text that is not closed on its line"
        else:
            found = f'"{self.token}"'
            if self.text.startswith(("<<<<<<<", "=======", ">>>>>>>"), self.start):
                hint = "This is a merge conflict left in the file."
            elif self.token in "${" or self.token == "%":
                hint = "Is this a template that was never filled in?"
        self.problem(f"expected {expected}, found {found}", hint=hint)
        return _Stop()

    def fields(self, target: Any, mark: Mark, close: str, depth: int) -> None:
        """The fields of a message up to its closing bracket (or the end, for the outermost)."""
        descriptor: Descriptor = target.DESCRIPTOR
        if depth == 1:
            self.layer = self.type = ""
        while True:
            if self.kind == _WORD:
                self.field(target, descriptor, mark, depth)
                if self.kind == _SIGN and self.token in ";,":
                    self.next()
            elif (self.kind == _SIGN and self.token == close) or (self.kind == _END and not close):
                break
            else:
                raise self.stop(f'a field\'s name or "{close}"' if close else "a field's name")
        if not target.IsInitialized():
            for required in descriptor.fields:
                if required.is_required and not target.HasField(required.name):
                    self.problem(
                        f'the required field "{required.name}" of {descriptor.name} is missing',
                        mark.offset,
                    )
        if depth == 1:
            self.layer = self.type = ""

    def field(self, target: Any, descriptor: Descriptor, mark: Mark, depth: int) -> None:
        name, offset = self.token, self.start
        field = descriptor.fields_by_name.get(name) or self.variant(descriptor, name)
        self.next()
        if field is None:
            if (descriptor.full_name, name) in self.schema.disputed:
                self.undecided = True
                self.skip(depth)
                return
            if self.kind == _SIGN and self.token in ":{<[":
                hint = did_you_mean(name, [f.name for f in descriptor.fields])
                if not hint and depth == 1 and self.type:
                    hint = f'Does its type, "{self.type}", need a plugin?'
                self.problem(f'{descriptor.name} has no field "{name}"', offset, hint)
                self.skip(depth)
                return
            raise self.stop(f'":" or "{{" after "{name}"')
        colon = self.kind == _SIGN and self.token == ":"
        if colon:
            self.next()
        owner = self.schema.owners.get((descriptor.full_name, name))
        if (
            owner
            and not owner.built_in
            and (descriptor.full_name, name) not in self.schema.disputed
        ):
            self.present.add(owner.name)
        inner = field.message_type
        if inner is None and not colon:
            raise self.stop(f'":" after "{name}"')
        if inner is not None and not (self.kind == _SIGN and self.token in "{<["):
            raise self.stop(f'"{{" after "{name}", which is a message ({inner.name})')
        marks = mark.fields.setdefault(name, [])
        if not field.is_repeated:
            if marks:
                first = self.source.place(marks[0].offset)
                self.problem(f'"{name}" is given twice; the first is in line {first.line}', offset)
                self.skip(depth)
                return
            self.one(target, field, marks, offset, depth)
        elif self.kind == _SIGN and self.token == "[":
            self.next()
            while not (self.kind == _SIGN and self.token == "]"):
                self.one(target, field, marks, self.start, depth)
                if self.kind == _SIGN and self.token == ",":
                    self.next()
                elif not (self.kind == _SIGN and self.token == "]"):
                    raise self.stop('"," or "]"')
            self.next()
        else:
            self.one(target, field, marks, offset, depth)

    def variant(self, descriptor: Descriptor, name: str) -> FieldDescriptor | None:
        """A field that several plugins have: the dialect's; None where there is none to choose."""
        variants = self.schema.disputed.get((descriptor.full_name, name))
        if not variants:
            return None
        if self.dialect in variants:
            return descriptor.fields_by_name[variants[self.dialect]]
        plugins = [plugin for plugin in manager().plugins if plugin.name in variants]
        problem = disputed(f'field "{name}" of {descriptor.name}', plugins).problems[0]
        self.problem(problem.message, hint=problem.hint)
        return None

    def one(
        self, target: Any, field: FieldDescriptor, marks: list[Mark], offset: int, depth: int
    ) -> None:
        """One value of a field, put into the message."""
        if field.message_type is not None:
            if depth >= DEEPEST:
                self.problem(f"messages are nested more than {DEEPEST} deep")
                raise _Stop
            if not (self.kind == _SIGN and self.token in _CLOSES):
                raise self.stop(f'"{{" to open {field.message_type.name}')
            inner = Mark(offset)
            marks.append(inner)
            close = _CLOSES[self.token]
            self.next()
            if field.is_repeated:
                value = getattr(target, field.name).add()
            else:
                value = getattr(target, field.name)
                value.SetInParent()
            self.fields(value, inner, close, depth + 1)
            self.next()
            return
        inner = Mark(self.start)
        marks.append(inner)
        value = self.scalar(field)
        if value is None:
            return
        if field.is_repeated:
            getattr(target, field.name).append(value)
            return
        setattr(target, field.name, value)
        if depth == 1 and field.name == "name":
            self.layer = value
        elif depth == 1 and field.name == "type" and isinstance(value, str):
            self.type = value

    def scalar(self, field: FieldDescriptor) -> Any:
        """One scalar value by the field's type; None after a problem was noted."""
        kind, name = field.cpp_type, self.schema.called(field.name)
        if kind == FieldDescriptor.CPPTYPE_STRING:
            return self.string(field)
        start, minus = self.start, False
        if self.kind == _SIGN and self.token == "-":
            minus = True
            self.next()
        token, token_kind = self.token, self.kind
        if token_kind not in (_WORD, _NUMBER, _TEXT):
            raise self.stop(f'a value for "{name}"')
        self.next()
        written = ("-" if minus else "") + token
        if token_kind != _TEXT:
            if kind in _RANGES:
                low, high, what = _RANGES[kind]
                if token_kind == _NUMBER and _INTEGER.fullmatch(token):
                    number = _integer(token)
                    number = -number if minus else number
                    if low <= number <= high:
                        return number
                self.problem(f'"{name}" takes {what}, found {written}', start)
                return None
            if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
                value = _float(token)
                if value is not None:
                    return -value if minus else value
                self.problem(f'"{name}" takes a number, found {written}', start)
                return None
            if kind == FieldDescriptor.CPPTYPE_BOOL and not minus and token in _BOOLS:
                return _BOOLS[token]
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            self.problem(f'"{name}" takes true or false, found {written}', start)
        elif kind == FieldDescriptor.CPPTYPE_ENUM:
            return self.enum(field, written, token_kind, start)
        else:
            self.problem(f'"{name}" takes a number, found {written}', start)
        return None

    def enum(self, field: FieldDescriptor, written: str, kind: int, start: int) -> Any:
        name = self.schema.called(field.name)
        kinds: Any = field.enum_type
        values = kinds.values_by_name
        if kind == _WORD and written in values:
            return values[written].number
        if kind == _NUMBER and _INTEGER.fullmatch(written):
            number = _integer(written)
            if number in kinds.values_by_number:
                return number
        bare = written.strip("\"'")
        names = list(values)
        if bare in values:
            hint = f"Write {bare} without quotes."
        else:
            hint = did_you_mean(bare, names)
        listed = ", ".join(names if len(names) <= 8 else [*names[:8], "…"])
        self.problem(f'"{name}" takes one of {listed}; found {written}', start, hint)
        return None

    def string(self, field: FieldDescriptor) -> Any:
        name = self.schema.called(field.name)
        if self.kind != _TEXT:
            if self.kind in (_WORD, _NUMBER):
                self.problem(
                    f'"{name}" takes a text in quotes, found {self.token}',
                    hint=f'Write "{self.token}".',
                )
                self.next()
                return None
            raise self.stop(f'a text in quotes for "{name}"')
        parts = []
        start = self.start
        while self.kind == _TEXT:
            parts.append(self.token[1:-1])
            self.next()
        text = "".join(parts)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self.bytes(text, start)
        if "\\" not in text:
            return text
        return self.unescape(text, start)

    def unescape(self, text: str, start: int) -> str | None:
        raw = self.bytes(text, start)
        if raw is None:
            return None
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            self.problem("the escapes in this text do not make UTF-8", start)
            return None

    def bytes(self, text: str, start: int) -> bytes | None:
        wrong: list[str] = []

        def replace(match: re.Match[str]) -> str:
            x, octal, u4, u8, simple = match.groups()
            if x or octal:
                value = int(x, 16) if x else int(octal, 8)
                if value > 255:
                    wrong.append(match[0])
                    return ""
                # One byte, carried through the text as a lone surrogate.
                return chr(value) if value < 128 else chr(0xDC00 + value)
            if u4 or u8:
                value = int(u4 or u8, 16)
                if value > 0x10FFFF or 0xD800 <= value < 0xE000:
                    wrong.append(match[0])
                    return ""
                return chr(value)
            if simple in _SIMPLE:
                return _SIMPLE[simple]
            wrong.append(match[0])
            return ""

        replaced = _ESCAPE.sub(replace, text)
        if wrong:
            hint = 'In a Windows path write "/" or "\\\\".' if ":" in text[:3] else ""
            self.problem(f"{wrong[0]} is no escape that a prototxt knows", start, hint)
            return None
        return replaced.encode("utf-8", "surrogateescape")

    def skip(self, depth: int) -> None:
        """Pass over the value of a field that nobody knows, its brackets balanced."""
        if self.kind == _SIGN and self.token == ":":
            self.next()
        if self.kind == _SIGN and self.token in "{<[":
            stack = []
            while True:
                if self.kind == _SIGN and self.token in "{<[":
                    stack.append({"{": "}", "<": ">", "[": "]"}[self.token])
                elif self.kind == _SIGN and self.token in "}>]":
                    if self.token != stack.pop():
                        raise self.stop("the brackets to be balanced")
                elif self.kind in (_END, _OTHER):
                    raise self.stop(f'"{stack[-1]}"')
                self.next()
                if not stack:
                    return
        if self.kind == _SIGN and self.token == "-":
            self.next()
        if self.kind not in (_WORD, _NUMBER, _TEXT):
            raise self.stop("a value")
        text = self.kind == _TEXT
        self.next()
        while text and self.kind == _TEXT:
            self.next()


def _integer(token: str) -> int:
    if token[:2] in ("0x", "0X"):
        return int(token, 16)
    if len(token) > 40:  # no number: beyond any field's range, and slow to convert
        return 1 << 80
    if token[0] == "0" and len(token) > 1:
        return int(token, 8)
    return int(token)


def _float(token: str) -> float | None:
    if _FLOAT.fullmatch(token):
        return float(token.rstrip("fF"))
    if token.lower() in ("inf", "infinity"):
        return float("inf")
    if token.lower() == "nan":
        return float("nan")
    if _INTEGER.fullmatch(token):
        return float(_integer(token))
    return None
