"""The definition language: prototxt to protobuf messages and back, with places."""

from torrefy.schema.compose import new_message, schema
from torrefy.schema.format import format_text, write_text
from torrefy.schema.source import Definition, Source
from torrefy.schema.text import parse_text, read_text
from torrefy.schema.upgrade import upgrade

__all__ = [
    "Definition",
    "Source",
    "format_text",
    "new_message",
    "parse_text",
    "read_text",
    "schema",
    "upgrade",
    "write_text",
]
