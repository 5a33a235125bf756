"""One name, two meanings: layer types and fields that several plugins have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import torrefy
from torrefy.errors import DefinitionError
from torrefy.plugins import PluginWarning, configure
from torrefy.schema import new_message, parse_text, write_text

LAYER = """
import torch
from torrefy.layers.base import Layer, layer
from torrefy.plugins import hookimpl
from torrefy.schema.fields import field
TORREFY_API = 1

@layer("Scramble")
class Scramble(Layer):
    '''Multiply.'''
    {field}

    @classmethod
    def claims(cls, spec):
        return {claims}

    def forward(self, x):
        return x * {factor}

@layer("{other}")
class Other(Layer):
    '''The same.'''
    def forward(self, x):
        return x

@hookimpl
def torrefy_layers():
    return [Scramble, Other]
"""
DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 } } }\n'
USE = 'layer { name: "s" type: "Scramble" bottom: "data" top: "s" %s }\n'
OTHER = 'layer { name: "o" type: "%s" bottom: "s" top: "o" }\n'


def source(field: str, factor: int, other: str, claims: str = "False") -> str:
    return LAYER.format(field=field, factor=factor, other=other, claims=claims)


@pytest.fixture
def two(installed: Callable[..., Path]) -> None:
    installed("one", source("a: float = field(1.0, doc='a')", 2, "OnlyOne"))
    installed("two", source("a: int = field(5, doc='a')", 3, "OnlyTwo"))


def factor(text: str) -> float:
    net = torrefy.load_net(parse_text(text))
    return float(net.run({"data": torch.ones(2)}, ["s"])["s"][0])


def refusal(text: str) -> str:
    with pytest.raises(DefinitionError) as error:
        torrefy.load_net(parse_text(text))
    return str(error.value)


HINT = (
    'is defined by plugins "one" (one-plugin 1.0) and "two" (two-plugin 1.0). Choose one: '
    '--dialect one, or a line "# torrefy: dialect=one" in the definition; or leave one out: '
    "--disable two."
)


@pytest.mark.usefixtures("two")
def test_a_type_of_two_plugins_is_an_error_that_names_both_until_one_is_chosen() -> None:
    text = DATA + USE % ""
    assert refusal(text) == f'<text>:2:25: layer "s": layer type "Scramble" {HINT}'
    assert factor("# torrefy: dialect=one\n" + text) == 2
    assert factor("# torrefy: dialect=two\n" + text) == 3
    configure(dialect="two")
    try:
        assert factor(text) == 3
        assert factor("# torrefy: dialect=one\n" + text) == 2
    finally:
        configure(dialect="")


@pytest.mark.usefixtures("two")
def test_a_field_of_two_meanings_is_an_error_until_one_is_chosen() -> None:
    text = DATA + USE % "scramble_param { a: 7 }"
    assert refusal(text) == (
        f'<text>:2:60: layer "s": field "scramble_param" of LayerParameter {HINT}'
    )
    for dialect, expected in (("one", 2), ("two", 3)):
        chosen = f"# torrefy: dialect={dialect}\n{text}"
        net = torrefy.load_net(parse_text(chosen))
        assert net.layers["s"].a == 7
        assert isinstance(net.layers["s"].a, float if dialect == "one" else int)
        assert factor(chosen) == expected
        assert "scramble_param { a: 7" in write_text(parse_text(chosen).message)
        assert "scramble_param { a: 7" in net.to_prototxt()
    assert refusal("# torrefy: dialect=tow\n" + text) == (
        '<text>:1:20: there is no dialect "tow". Did you mean "two"?'
    )


@pytest.mark.usefixtures("two")
def test_a_name_that_only_one_plugin_has_tells_the_dialect() -> None:
    assert factor(DATA + USE % "" + OTHER % "OnlyTwo") == 3
    assert factor(DATA + USE % "" + OTHER % "OnlyOne") == 2


def test_a_plugin_tells_its_layers_by_what_only_it_has(installed: Callable[..., Path]) -> None:
    installed("one", source("a: float = field(1.0)", 2, "OnlyOne"))
    installed("two", source("b: float = field(1.0)", 3, "OnlyTwo", "bool(spec.loss_weight)"))
    assert factor(DATA + USE % "loss_weight: 0") == 3


def test_a_plugin_takes_over_a_built_in_type_only_where_it_claims_it(
    installed: Callable[..., Path],
) -> None:
    claims = "spec.HasField('scramble_param')"
    text = source("a: float = field(1.0)", 5, "OnlyOne", claims).replace(
        '@layer("Scramble")', '@layer("ReLU")'
    )
    installed("one", text.replace("    '''Multiply.'''", "    param = 'scramble_param'"))
    use = USE.replace("Scramble", "ReLU")
    assert factor(DATA + use % "") == 1
    assert factor(DATA + use % "scramble_param { a: 2 }") == 5


FIELDS = """
from torrefy.plugins import hookimpl
from torrefy.schema.fields import Fields, Filler, field
from typing import Literal
TORREFY_API = 1

class Inner(Fields):
    {inner}

class Extra(Fields, extends="caffe.{message}"):
    {field}

@hookimpl
def torrefy_schema_fields():
    return [Extra]
"""


def test_two_plugins_that_agree_share_a_field(installed: Callable[..., Path]) -> None:
    for name in ("one", "two"):
        inner = f"both: int = field(1)\n    {name}: int = field(2)"
        field = "ceil_mode: bool = field(True)\n    more: Inner = field()"
        installed(name, FIELDS.format(inner=inner, message="PoolingParameter", field=field))
    text = "pooling_param { ceil_mode: false more { both: 3 one: 4 two: 5 } }"
    message = parse_text(text, "caffe.LayerParameter").message
    assert message.pooling_param.ceil_mode is False
    assert message.pooling_param.more.two == 5
    assert new_message("caffe.PoolingParameter").ceil_mode is True
    binary = type(message).FromString(message.SerializeToString())
    assert write_text(binary) == write_text(message)


@pytest.mark.parametrize(
    ("message", "field", "reason"),
    [
        ("PolingParameter", "a: int = field(1)",
         'its field "a" of caffe.PolingParameter: there is no such message'),
        ("PoolingParameter", "pad: int = field(1)",
         'its field "pad" of caffe.PoolingParameter: the message has a field of that name already'),
        ("LayerParameter", "pooling_param: Inner = field()",
         'its field "pooling_param" of caffe.LayerParameter: the message has a field of that name '
         'already; add to that by extends="caffe.PoolingParameter"'),
        ("LayerParameter", "a: complex = field()",
         "{module}.Extra.a: a field is annotated as bool, int, float, str, bytes, Literal[…], an "
         "IntEnum, Filler, a class of Fields, a list of these, or one of them | None"),
        ("LayerParameter", "a: int = field(1.5)",
         "{module}.Extra.a: it doesn't take its own default 1.5"),
        ("LayerParameter", "a: int = field(0, above=0)",
         "{module}.Extra.a: it doesn't take its own default 0"),
        ("LayerParameter", "a: Literal['X', 'Y'] = field('Z')",
         "{module}.Extra.a: it doesn't take its own default 'Z'"),
        ("LayerParameter", "a: list[int] = field(3)",
         "{module}.Extra.a: a list or a message has no default"),
    ],
)  # fmt: skip
def test_a_field_that_can_not_be_is_told(
    installed: Callable[..., Path], message: str, field: str, reason: str
) -> None:
    file = installed("bad", FIELDS.format(inner="b: int = field(1)", message=message, field=field))
    with pytest.warns(PluginWarning) as warned:
        new_message("caffe.LayerParameter")
    text = str(warned[0].message).removeprefix('plugin "bad" (bad-plugin 1.0) is not used: ')
    assert text == reason.format(module=file.stem)
