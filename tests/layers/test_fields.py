"""A layer in one class: its annotated fields are its parameters in the definition language."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Literal

import pytest
import torch
from torch import Tensor

import torrefy
from torrefy.errors import DefinitionError, PluginError
from torrefy.layers.base import Layer, layer
from torrefy.layers.describe import describe
from torrefy.plugins import Lazy, added, hookimpl
from torrefy.schema import new_message, parse_text, write_text
from torrefy.schema.compose import FIRST, LAST, number_of
from torrefy.schema.fields import Fields, Filler, field, snake_case
from torrefy.spec import L, NetSpec


class Order(enum.IntEnum):
    RISING = 3
    FALLING = 7


class Window(Fields):
    sizes: list[int] = field(doc="extents")
    share: float = field(0.5, doc="the share", above=0, at_most=1)
    inner: Share | None = field(None, doc="more")


class Share(Fields):
    count: int = field(doc="how many", at_least=2)


@layer("Everything")
class Everything(Layer):
    """All kinds of fields; computes x · a."""

    a: float = field(2, doc="the factor", above=0, below=10)
    must: int = field(doc="what must be given")
    flag: bool = field(True, doc="a flag")
    text: str = field("it's", doc="a text")
    raw: bytes = field(b"\x00\xff", doc="bytes")
    kind: Literal["SUM", "MAX"] = field("MAX", doc="what is done")
    order: Order = field(Order.FALLING, doc="a numbered enum")
    maybe: float | None = field(None, doc="may be absent")
    window: Window = field(doc="a message")
    windows: list[Window] = field(doc="messages")
    filler: Filler = field(doc="a filler")
    numbers: list[float] = field(doc="numbers")

    def forward(self, *bottoms: Tensor) -> Tensor:
        return bottoms[0] * self.a


class Answer(enum.IntEnum):
    NO = -1
    YES = 1
    SURE = 1


@layer("Base")
class Base(Layer):
    """Does nothing."""

    a: float = field(0.05, doc="a number", at_most=0.1)
    answer: Answer = field(Answer.NO, doc="a word")
    in_quotes: "list[int]" = field(doc="numbers")  # noqa: UP037  the case in hand

    def forward(self, *bottoms: Tensor) -> Tensor:
        return bottoms[0]


@layer("Derived")
class Derived(Base):
    """Has another default, and a field more."""

    a: float = field(2.0, doc="a number")
    b: int = field(3, doc="another")


class Plugin:
    @hookimpl
    def torrefy_layers(self) -> list[type[Layer] | Lazy]:
        return [Everything, Base, Derived, Lazy("Alias", "torrefy.layers.pooling:Pooling")]


@pytest.fixture(autouse=True)
def plugin() -> Iterator[None]:
    with added(Plugin(), "everything"):
        yield


DATA = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }\n'


def text_of(params: str) -> str:
    return DATA + (
        'layer { name: "e" type: "Everything" bottom: "x" top: "e" '
        f"everything_param {{ {params} }} }}"
    )


def made(params: str) -> Everything:
    found = torrefy.load_net(parse_text(text_of(params))).layers["e"]
    assert isinstance(found, Everything)
    return found


def test_what_is_not_given_has_its_default() -> None:
    one = made("must: 1")
    assert (one.a, one.must, one.flag, one.text, one.raw) == (2.0, 1, True, "it's", b"\x00\xff")
    assert (one.kind, one.order, one.maybe) == ("MAX", "FALLING", None)
    assert (one.window.sizes, one.window.share, one.window.inner) == ((), 0.5, None)
    assert (one.windows, one.numbers) == ((), ())
    assert one.filler.type == "constant"
    assert torch.equal(one(torch.ones(2)), torch.full((2,), 2.0))


def test_what_is_given_counts() -> None:
    one = made(
        "a: 3 must: -4 flag: false text: 'b' raw: '\\001' kind: SUM order: RISING maybe: 0 "
        "window { sizes: 1 sizes: 2 share: 1 inner { count: 2 } } windows { sizes: 3 } windows {} "
        "filler { type: 'xavier' } numbers: [1.5, 2]"
    )
    assert (one.a, one.must, one.flag, one.text, one.raw) == (3.0, -4, False, "b", b"\x01")
    assert (one.kind, one.order, one.maybe) == ("SUM", "RISING", 0.0)
    assert (one.window.sizes, one.window.share, one.window.inner.count) == ((1, 2), 1.0, 2)
    assert [w.sizes for w in one.windows] == [(3,), ()]
    assert one.filler.type == "xavier"
    assert one.numbers == (1.5, 2.0)


@pytest.mark.parametrize(
    ("params", "place", "message"),
    [
        ("", "2:59", "must is missing. Give everything_param { must: … }."),
        ("must: 1 a: 0", "2:89", "a must be above 0 and below 10, found 0"),
        ("must: 1 a: nan", "2:89", "a must be above 0 and below 10, found nan"),
        ("must: 1 kind: MIN", "2:92", '"kind" takes one of SUM, MAX; found MIN'),
        ("must: 1 order: 4", "2:93", '"order" takes one of RISING, FALLING; found 4'),
        ("must: 1.5", "2:84", '"must" takes a 64-bit integer, found 1.5'),
        ("must: 1 flg: true", "2:86",
         'EverythingParameter has no field "flg". Did you mean "flag"?'),
        ("must: 1 window { share: 2 }", "2:102",
         "share must be above 0 and at most 1, found 2"),
        ("must: 1 windows { } windows { inner { count: 1 } }", "2:123",
         "count must be at least 2, found 1"),
        ("must: 1 window { inner { } }", "2:95",
         "count is missing. Give everything_param { window.inner.count: … }."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(params: str, place: str, message: str) -> None:
    with pytest.raises(DefinitionError) as error:
        made(params)
    assert str(error.value) == f'<text>:{place}: layer "e": {message}'


def test_text_and_binary_and_the_builder_say_the_same() -> None:
    message = parse_text(text_of("must: 1 window { sizes: 1 } order: RISING")).message
    assert parse_text(write_text(message)).message == message
    assert type(message).FromString(message.SerializeToString()) == message
    spec = NetSpec()
    spec.x = L.Input(shape={"dim": [2]})
    spec.e = L.Everything(spec.x, must=1, window={"sizes": [1]}, order="RISING")
    assert spec.to_proto() == message
    assert "must" in str(L.Everything.__signature__)
    assert "All kinds of fields" in L.Everything.__doc__


def test_the_page_of_a_type_tells_its_fields() -> None:
    page = {p.name: p for p in describe(Everything).parameters}
    assert list(page) == list(Everything.__annotations__)
    assert page["a"].doc == "the factor, above 0 and below 10"
    assert page["must"].doc == "what must be given; must be given"
    assert (page["kind"].kind, page["kind"].default) == ("SUM | MAX", "MAX")
    assert (page["windows"].kind, page["windows"].repeated) == ("Window", True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("PriorBox", "prior_box"), ("ReLU6", "relu6"), ("PReLU", "prelu"), ("LSTM", "lstm"),
     ("SmoothL1Loss", "smooth_l1_loss"), ("ROIPooling", "roi_pooling"), ("Snake", "snake")],
)  # fmt: skip
def test_parameters_are_called_as_caffe_would_call_them(name: str, expected: str) -> None:
    assert snake_case(name) == expected


def test_numbers_of_fields_are_their_names_hashes() -> None:
    numbers = {number_of(f"field_{i}") for i in range(1000)}
    assert len(numbers) == 1000
    assert all(FIRST <= number <= LAST for number in numbers)
    layer_fields = new_message("caffe.LayerParameter").DESCRIPTOR.fields_by_name
    assert layer_fields["everything_param"].number == number_of("everything_param")
    # Caffe's own are below 1000, Torrefy's from 10001 on.
    assert all(
        f.number < 1000 or 10_000 < f.number < 20_000
        for f in layer_fields.values()
        if f.number < FIRST
    )


def other(kind: str, params: str) -> Layer:
    text = f'layer {{ name: "e" type: "{kind}" bottom: "x" top: "e" {params} }}'
    found = torrefy.load_net(parse_text(DATA + text)).layers["e"]
    assert isinstance(found, Layer)
    return found


def test_a_number_is_the_one_that_is_written() -> None:
    assert other("Base", "base_param { a: 0.1 }").a == 0.1
    assert other("Base", "base_param { a: 0.05 }").a == other("Base", "").a


def test_an_enum_may_have_two_words_for_a_number() -> None:
    for word, value in (("NO", "NO"), ("YES", "YES"), ("SURE", "YES")):
        assert other("Base", f"base_param {{ answer: {word} }}").answer == value


def test_an_annotation_in_quotes_is_read() -> None:
    assert other("Base", "base_param { in_quotes: [1, 2] }").in_quotes == (1, 2)


def test_a_type_made_of_another_has_parameters_of_its_own() -> None:
    one = other("Derived", "derived_param { b: 4 }")
    assert (one.a, one.b, one.answer) == (2.0, 4, "NO")
    assert other("Base", "base_param { a: 0.01 }").a == 0.01


def test_a_field_that_would_hide_a_part_of_layers_is_refused() -> None:
    for name in ("blobs", "spec", "fields"):
        made = {"__annotations__": {name: int}, name: field(1), "__module__": "acme"}
        with pytest.raises(PluginError, match=f"^acme.Bad: a field called {name} would hide"):
            layer("Bad")(type("Bad", (Layer,), made))
    layer("Good")(type("Good", (Layer,), {"__annotations__": {"axis": int}, "axis": field(1)}))


def test_a_layer_is_of_the_type_that_it_is_given_as() -> None:
    with pytest.raises(DefinitionError, match='what it gives as "Alias" is of the type "Pooling"'):
        other("Alias", "")
