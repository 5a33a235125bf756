"""The layout of prototxts: of texts that have comments, and of messages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from google.protobuf import text_format

from torrefy.errors import DefinitionError, Place
from torrefy.schema.compose import schema
from torrefy.schema.source import Source
from torrefy.schema.text import parse

WIDTH = 100
"""Messages that fit on one line of this many columns stand on one, but for layers."""
BLOCKS = ("layer", "layers")
"""Messages that always have a line for each field."""

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\f\v]+)|(?P<line>\n)|(?P<comment>\#[^\n]*)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<sign>[{}<>\[\]:;,])|(?P<value>[^\s{}<>\[\]:;,\#"']+)""",
    re.VERBOSE,
)
_OPEN, _CLOSE = "{<", "}>"


@dataclass
class Field:
    """One field: its name, its value as written or the fields inside, and its comments."""

    name: str
    value: str = ""
    """As written; texts that stand behind one another have newlines between."""
    inside: list[Field] | None = None
    above: list[str] = field(default_factory=list)
    """Comments that stand on lines of their own above it; "" for an empty line among them."""
    blank: bool = False
    """Whether an empty line stood above it (and its comments)."""
    beside: str = ""
    """The comment behind it on its line."""
    below: list[str] = field(default_factory=list)
    """Comments before its closing bracket."""
    opening: str = ""
    """The comment behind its opening bracket."""


def format_text(source: Source, message: str = "caffe.NetParameter") -> str:
    """A text in Torrefy's layout: two spaces a level, one layer a block.

    Short messages inside layers stand on one line, empty lines between groups are kept as one,
    comments stay with what they stand at. The message and the comments are the same before and
    after; this is checked.

    Raises:
        DefinitionError: the text can't be read; or formatting would have changed it.
    """
    before = parse(source, message).message
    text = _layout(source.text)
    after = parse(Source(source.file, text), message).message
    same = _bytes(before) == _bytes(after) and _comments(source.text) == _comments(text)
    if not same:
        raise DefinitionError(
            "formatting would change what the text says; it stays as it is",
            place=Place(source.file),
            hint="This is a bug of Torrefy: please report it with the file.",
        )
    return text


def write_text(message: Any, dialect: str = "") -> str:
    """A message as prototxt in Torrefy's layout, fields in the order of their numbers.

    A comment names its dialect: the one given, or that of a name which plugins mean differently.
    """
    text = text_format.MessageToString(message, as_utf8=True)
    dialects = [dialect] if dialect else []
    for own, (name, plugin) in schema().renamed.items():
        text, count = re.subn(rf"(?m)^(\s*){re.escape(own)}(?=:| {{)", rf"\1{name}", text)
        if count and plugin not in dialects:
            dialects.append(plugin)
    # One text can't have two: it is left to its reader to choose.
    line = f"# torrefy: dialect={dialects[0]}\n" if len(dialects) == 1 else ""
    return line + _layout(text)


def _layout(text: str) -> str:
    fields, rest = _Reader(_tokens(text)).fields("")
    lines: list[str] = []
    _write(fields, 0, lines)
    lines.extend(rest)
    text = "\n".join(lines).strip("\n")
    return text + "\n" if text else ""


def _bytes(message: Any) -> bytes:
    """A message to compare: other than with `==`, a field that is nan equals itself."""
    return bytes(message.SerializePartialToString(deterministic=True))


def _tokens(text: str) -> list[tuple[str, str]]:
    found = []
    for match in _TOKEN.finditer(text):
        if match.lastgroup != "space":
            found.append((str(match.lastgroup), match[0].rstrip()))
    return found


def _comments(text: str) -> list[str]:
    return sorted(token for kind, token in _tokens(text) if kind == "comment")


class _Reader:
    """Tokens to fields; the text is known to be sound."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.at = 0

    def fields(self, close: str) -> tuple[list[Field], list[str]]:
        """The fields up to the closing bracket, and the comments behind the last of them."""
        found: list[Field] = []
        above: list[str] = []
        newlines, blank = 0, False
        while self.at < len(self.tokens):
            kind, token = self.tokens[self.at]
            if kind == "sign" and token == close:
                break
            if kind == "line":
                newlines += 1
                self.at += 1
                continue
            if newlines > 1 and above:
                above.extend([""] if above[-1] else [])
            elif newlines > 1:
                blank = bool(found)
            if kind == "comment" and newlines == 0 and found and not found[-1].beside:
                found[-1].beside = token
                self.at += 1
            elif kind == "comment":
                above.append(token)
                self.at += 1
            elif kind == "sign":  # a separator
                self.at += 1
            else:
                item = self.field()
                item.above = [
                    line for line, next_ in pairwise([*above, *item.above, ".."]) if line or next_
                ]  # empty lines of both sides are one
                item.blank = blank
                found.append(item)
                above, blank = [], False
            newlines = 0
        if above and not above[-1]:
            above.pop()
        if above and blank:
            above.insert(0, "")
        return found, above

    def field(self) -> Field:
        """One field from its name on."""
        item = Field(self.take()[1])
        self.comments(item)
        if self.peek() == ":":
            self.take()
        self.comments(item)
        token = self.peek()
        if token in _OPEN:
            self.message(item)
        elif token == "[":
            self.listed(item)
        else:
            item.value = self.scalar(item)
        return item

    def message(self, item: Field) -> None:
        close = _CLOSE[_OPEN.index(self.take()[1])]
        if self.at < len(self.tokens) and self.tokens[self.at][0] == "comment":
            item.opening = self.take()[1]
        item.inside, item.below = self.fields(close)
        self.take()

    def listed(self, item: Field) -> None:
        """A list in brackets, of scalars or of messages."""
        self.take()
        parts: list[str] = []
        while self.peek() != "]":
            self.comments(item)
            token = self.peek()
            if token == ",":
                self.take()
            elif token in _OPEN:
                inner = Field("")
                self.message(inner)
                item.above.extend(_inner_comments(inner))
                parts.append(_flat(inner).strip())
            elif token != "]":
                parts.append(self.scalar(item))
        self.take()
        item.value = f"[{', '.join(parts)}]"

    def scalar(self, item: Field) -> str:
        """A number, a word, or texts that stand behind one another."""
        kind, value = self.take()
        while kind == "text" and self.kind_ahead() == "text":
            self.comments(item)
            value += f"\n{self.take()[1]}"
        if value == "-":  # a sign may stand apart
            self.comments(item)
            value += self.take()[1]
        return value

    def kind_ahead(self) -> str:
        """What comes next but for comments and lines."""
        at = self.at
        while at < len(self.tokens) and self.tokens[at][0] in ("comment", "line"):
            at += 1
        return self.tokens[at][0] if at < len(self.tokens) else ""

    def comments(self, item: Field) -> None:
        """Comments and lines in the middle of a field; they move above it."""
        while self.at < len(self.tokens) and self.tokens[self.at][0] in ("comment", "line"):
            kind, token = self.tokens[self.at]
            self.at += 1
            if kind == "comment":
                item.above.append(token)

    def peek(self) -> str:
        while self.tokens[self.at][0] == "line":
            self.at += 1
        return self.tokens[self.at][1]

    def take(self) -> tuple[str, str]:
        self.peek()
        self.at += 1
        return self.tokens[self.at - 1]


def _inner_comments(item: Field) -> list[str]:
    """Every comment inside a message, in order."""
    found = [item.opening] if item.opening else []
    for part in item.inside or ():
        found += [*part.above, *_inner_comments(part), *([part.beside] if part.beside else [])]
    return found + item.below


def _flat(item: Field) -> str:
    """A field on one line, without comments."""
    if item.inside is None:
        return f"{item.name}: {item.value}".replace("\n", " ")
    inside = " ".join(map(_flat, item.inside))
    return f"{item.name} {{ {inside} }}" if inside else f"{item.name} {{ }}"


def _write(fields: list[Field], depth: int, lines: list[str]) -> None:
    indent = "  " * depth
    for item in fields:
        if item.blank:
            lines.append("")
        lines.extend(f"{indent}{comment}".rstrip() for comment in item.above)
        beside = f"  {item.beside}" if item.beside else ""
        line = indent + _flat(item)
        block = depth == 0 and item.name in BLOCKS
        fits = len(line) <= WIDTH and not block and not _inner_comments(item)
        if item.inside is None and len(line) > WIDTH:  # texts that stand behind one another
            line = f"{indent}{item.name}: {item.value}".replace("\n", f"\n{indent}  ")
        if item.inside is None or fits:
            lines.append(line + beside)
            continue
        opening = f"  {item.opening}" if item.opening else ""
        lines.append(f"{indent}{item.name} {{{opening}")
        _write(item.inside, depth + 1, lines)
        lines.extend(f"{indent}  {comment}".rstrip() for comment in item.below)
        lines.append(f"{indent}}}{beside}")
