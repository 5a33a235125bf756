"""Writes src/torrefy/spec/typed.pyi, what an editor knows of `L` and `P`, from the schema."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from torrefy.net.compile import layer_types
from torrefy.plugins import configure
from torrefy.schema import new_message
from torrefy.spec.build import enums

TARGET = Path(__file__).parents[1] / "src/torrefy/spec/typed.pyi"
HEAD = '''"""What an editor knows of `L` and `P`; made from the schema by `make docs`."""

from collections.abc import Mapping, Sequence
from typing import Any

from torrefy.spec.build import Enums, LayerFunctions, Top

Message = Mapping[str, Any]
Messages = Message | Sequence[Message]

class _L(LayerFunctions):
'''
KINDS = {
    FieldDescriptor.CPPTYPE_BOOL: "bool",
    FieldDescriptor.CPPTYPE_DOUBLE: "float",
    FieldDescriptor.CPPTYPE_FLOAT: "float",
    FieldDescriptor.CPPTYPE_STRING: "str",
    FieldDescriptor.CPPTYPE_ENUM: "int | str",
}


def stub() -> str:
    """The stub's text."""
    layer = new_message("caffe.LayerParameter").DESCRIPTOR
    parts = [HEAD]
    for kind, cls in sorted(layer_types().items()):
        if not cls.__module__.startswith("torrefy."):
            continue  # a plugin brings its own
        fields = layer.fields_by_name[cls.param].message_type.fields if cls.param else []
        options = "".join(f"        {f.name}: {_type(f)} = ...,\n" for f in fields)
        doc = "\n".join(
            f"        {line}".rstrip() for line in inspect.cleandoc(cls.__doc__ or "").splitlines()
        )
        parts.append(
            f"    def {kind}(\n        self,\n        *bottoms: Top,\n        ntop: int = 1,\n"
            f'        in_place: bool = False,\n        name: str = "",\n{options}'
            f'        **fields: Any,\n    ) -> Any:\n        """{doc.strip()}"""\n'
        )
    values = enums()
    for name in sorted(values):
        parts.append(f"\nclass _{name}:\n" + "".join(f"    {v}: int\n" for v in values[name]))
    parts.append("\nclass _P(Enums):\n")
    parts += [f"    {name}: _{name}\n" for name in sorted(values)]
    return "".join(parts) + "\nL: _L\nP: _P\n"


def _type(field: Any) -> str:
    if field.message_type is not None:
        return "Messages" if field.is_repeated else "Message"
    kind = KINDS.get(field.cpp_type, "int")
    return f"{kind} | Sequence[{kind}]" if field.is_repeated else kind


if __name__ == "__main__":
    configure(disabled=["all"])  # plugins are not in everyone's
    TARGET.write_text(stub(), encoding="utf-8")
