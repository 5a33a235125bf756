"""One name, two meanings: layer types and fields that several plugins have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import torrefy
from torrefy.errors import DefinitionError, PluginError
from torrefy.plugins import PluginWarning, configure, reset
from torrefy.plugins.manager import _settings
from torrefy.schema import compose, new_message, parse_text, write_text
from torrefy.spec import L, to_proto

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


def factor(text: str, **options: str) -> float:
    net = torrefy.load_net(parse_text(text), **options)
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
    assert factor(text, dialect="one") == 2
    assert factor(text, dialect="two") == 3
    assert factor("# torrefy: dialect=one\n" + text, dialect="two") == 2
    with pytest.raises(PluginError, match=r'^there is no dialect "tow"\. Did you mean "two"\?$'):
        factor(text, dialect="tow")
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
        for written in (write_text(parse_text(chosen).message), net.to_prototxt()):
            assert written.startswith(f"# torrefy: dialect={dialect}\n")
            assert factor(written) == expected
    assert refusal("# torrefy: dialect=tow\n" + text) == (
        '<text>:1:20: there is no dialect "tow". Did you mean "two"?'
    )


@pytest.mark.usefixtures("two")
def test_a_value_of_a_field_of_two_meanings_is_told_by_the_name_in_the_text() -> None:
    text = "# torrefy: dialect=two\n" + DATA + USE % "scramble_param { a: 1.5 }"
    assert refusal(text).endswith('"a" takes a 64-bit integer, found 1.5')


@pytest.mark.usefixtures("two")
def test_what_is_written_of_a_net_says_whose_types_it_has() -> None:
    text = "# torrefy: dialect=two\n" + DATA + USE % ""
    assert factor(torrefy.load_net(parse_text(text)).to_prototxt()) == 3


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

class Wrong(Fields):
    b: int = field("x")

class Endless(Fields):
    next: "Endless" = field()

class Extra(Fields, extends="caffe.{message}"):
    {field}

@hookimpl
def torrefy_schema_fields():
    return Extra if isinstance(Extra, tuple) else [Extra]
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


def test_two_plugins_that_agree_share_a_message_that_holds_itself(
    installed: Callable[..., Path],
) -> None:
    for name in ("one", "two"):
        inner = f"{name}: int = field(0)\n    inner: 'Inner | None' = field(None)"
        installed(
            name, FIELDS.format(inner=inner, message="PoolingParameter", field="a: Inner = field()")
        )
    text = "pooling_param { a { one: 1 inner { two: 2 inner { one: 3 } } } }"
    message = parse_text(text, "caffe.LayerParameter").message
    assert message.pooling_param.a.inner.two == 2
    assert message.pooling_param.a.inner.inner.one == 3


def test_names_of_plugins_that_differ_in_a_sign_are_kept_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = []
    for name, kind in (("a-b", "int"), ("a_b", "float")):
        field = f"a: {kind} = field(1)\n    {kind}_inner: Inner = field()"
        inner = f"{kind}_: {kind} = field(1)"
        files.append(tmp_path / f"{name}.py")
        files[-1].write_text(FIELDS.format(inner=inner, message="PoolingParameter", field=field))
    monkeypatch.setattr(_settings, "files", files)
    reset()
    text = "pooling_param { a: %s int_inner { int_: 2 } float_inner { float_: 2.5 } }"
    for dialect, value in (("a-b", "3"), ("a_b", "0.5")):
        said = f"# torrefy: dialect={dialect}\n{text % value}"
        assert f"a: {value}" in write_text(parse_text(said, "caffe.LayerParameter").message)
    monkeypatch.undo()
    reset()


def test_classes_of_one_name_are_messages_of_their_own(installed: Callable[..., Path]) -> None:
    field = "a: Inner = field()\n    b: 'Other.Inner' = field()"
    source = FIELDS.format(inner="x: int = field(0)", message="PoolingParameter", field=field)
    other = "class Other:\n    class Inner(Fields):\n        y: int = field(0)\n\n"
    installed("one", source.replace("class Extra", f"{other}class Extra"))
    text = "pooling_param { a { x: 1 } b { y: 2 } }\n"
    assert write_text(parse_text(text, "caffe.LayerParameter").message) == text


def test_fields_that_differ_in_underscores_are_different(installed: Callable[..., Path]) -> None:
    for name, field in (("one", "m1_10: int = field(1)"), ("two", "m11_0: int = field(1)")):
        installed(name, FIELDS.format(inner="x: int = field(0)", message="Datum", field=field))
    assert parse_text("m1_10: 2 m11_0: 3", "caffe.Datum").message.m11_0 == 3


def test_what_protobuf_does_not_take_fails_its_plugin_alone(
    installed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, field in (("good", "fine: int = field(1)"), ("bad", "twice: int = field(1)")):
        installed(name, FIELDS.format(inner="x: int = field(0)", message="Datum", field=field))
    number_of = compose.number_of
    monkeypatch.setattr(compose, "number_of", lambda n: 1 if n == "twice" else number_of(n))
    with pytest.warns(PluginWarning, match='"bad" .* protobuf doesn\'t take its fields'):
        assert parse_text("fine: 2", "caffe.Datum").message.fine == 2


@pytest.mark.usefixtures("two")
def test_a_dialect_is_named_by_a_comment_alone() -> None:
    text = DATA + USE % "scramble_param { a: 7 }"
    for line in ("# torrefy: dialect=two\r\n", "name: '#' # torrefy: dialect=two\n"):
        assert parse_text(line + text).dialect == "two"
    assert not parse_text('name: "# torrefy: dialect=two"\n' + DATA).dialect


def test_a_field_of_two_meanings_is_the_chosen_dialects_in_python(
    installed: Callable[..., Path],
) -> None:
    for name, kind in (("one", "int"), ("two", "bool")):
        field = f"ceil: {kind} = field({kind}(1))"
        installed(name, FIELDS.format(inner="x: int = field(0)", message="PoolingParameter",
                                      field=field))  # fmt: skip
    configure(dialect="two")
    try:
        top = L.Pooling(L.Input(), kernel_size=2, ceil=False)
    finally:
        written = write_text(to_proto(top))
        configure(dialect="")
    assert "pooling_param { kernel_size: 2 ceil: false }" in written
    assert written.startswith("# torrefy: dialect=two\n")
    with pytest.raises(DefinitionError, match=r'"ceil" takes true or false, found 1\.5'):
        parse_text(written.replace("ceil: false", "ceil: 1.5"))


def test_claims_that_fail_are_told_with_the_layer(installed: Callable[..., Path]) -> None:
    file = installed("one", source("a: float = field(1.0)", 2, "OnlyOne", "spec.nothing"))
    installed("two", source("a: float = field(1.0)", 2, "OnlyTwo"))
    assert refusal(DATA + USE % "") == (
        f'<text>:2:25: layer "s": {file.stem}.Scramble.claims failed: AttributeError: nothing'
    )


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
        ("LayerParameter", "a: int = field(True)",
         "{module}.Extra.a: it doesn't take its own default True"),
        ("LayerParameter", "a: int = field(2**63)",
         "{module}.Extra.a: it doesn't take its own default 9223372036854775808"),
        ("LayerParameter", "a: str = field('\\ud800')",
         "{module}.Extra.a: it doesn't take its own default '\\ud800'"),
        ("LayerParameter", "a: Literal['X', 'a b'] = field('X')",
         "{module}.Extra.a: an enum's values are words, of letters, digits and _, that stand for "
         "32-bit integers; found 'X' = 0, 'a b' = 1"),
        ("LayerParameter", "_a: int = field(1)",
         "{module}.Extra._a: a field can't have this name; it begins with a letter, goes on in "
         "letters, digits and _, and is no name of protobuf's or of Fields"),
        ("LayerParameter", "HasField: int = field(1)",
         "{module}.Extra.HasField: a field can't have this name; it begins with a letter, goes on "
         "in letters, digits and _, and is no name of protobuf's or of Fields"),
        ("LayerParameter", "a: Wrong = field()",
         "{module}.Wrong.b: it doesn't take its own default 'x'"),
        ("LayerParameter", "a: Endless = field()",
         "{module}.Endless always holds another of itself; let the field be Endless | None"),
        ("LayerParameter", "a: int = field(1)\nclass More(Fields, extends='caffe.LayerParameter'):"
         "\n    a: int = field(2)\nExtra = (Extra, More)",
         'its field "a" of caffe.LayerParameter is declared twice, with different meanings; rename '
         "one"),
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


def test_a_layer_that_fails_is_told_with_its_place_and_class(
    installed: Callable[..., Path],
) -> None:
    file = installed("one", source("a: float = field(1.0)", 2, "OnlyOne").replace("x * 2", "{}[x]"))
    assert refusal(DATA + USE % "") == (
        f'<text>:2:1: layer "s": {file.stem}.Scramble failed: KeyError: '
        "tensor(..., device='meta', size=(2,))"
    )
