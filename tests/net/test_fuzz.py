"""Definitions gone wrong in any way: refused in words, and in no time."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import LENET

from torrefy.errors import TorrefyError
from torrefy.graph import State
from torrefy.net.compile import diagnose
from torrefy.schema import parse_text, upgrade

TEXT = (
    LENET
    + """
layer { name: "up" type: "Deconvolution" bottom: "conv1" top: "up"
  convolution_param { num_output: 4 kernel_size: 4 stride: 2 pad: 1 group: 2 dilation: 1 } }
layer { name: "cut" type: "Slice" bottom: "up" top: "a" top: "b" slice_param { axis: 1 } }
layer { name: "crop" type: "Crop" bottom: "a" bottom: "conv1" top: "c"
  crop_param { axis: 2 offset: 1 } }
layer { name: "cat" type: "Concat" bottom: "c" bottom: "c" top: "d" concat_param { axis: 1 } }
layer { name: "bn" type: "BatchNorm" bottom: "d" top: "d" param { name: "s" } }
layer { name: "sc" type: "Scale" bottom: "d" top: "d" scale_param { axis: 1 num_axes: 1 } }
layer { name: "lrn" type: "LRN" bottom: "d" top: "e" lrn_param { local_size: 5 } }
layer { name: "r" type: "Reshape" bottom: "e" top: "f"
  reshape_param { shape { dim: 0 dim: -1 } axis: 0 } }
layer { name: "flat" type: "Flatten" bottom: "e" top: "g" flatten_param { axis: 1 end_axis: -1 } }
"""
)
NUMBERS = [match.span() for match in re.finditer(r"-?\d+(?=[ }])", TEXT)]
WORDS = [match.span() for match in re.finditer(r'"[\w-]+"', TEXT)]
EXTREME = [-(2**31), -2, -1, 0, 1, 2, 3, 7, 255, 65536, 2**31 - 1, 2**32 - 1, 2**63 - 1]


def refused_or_taken(text: str) -> None:
    started = time.monotonic()
    try:
        diagnose(upgrade(parse_text(text)), State())
    except TorrefyError as error:
        assert str(error)
    assert time.monotonic() - started < 10


def test_the_definition_itself_is_sound() -> None:
    assert not diagnose(parse_text(TEXT), State())[1].problems


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(NUMBERS), st.sampled_from(EXTREME)), max_size=3))
def test_any_number_anywhere(changes: list[tuple[tuple[int, int], int]]) -> None:
    text = TEXT
    for (start, end), value in sorted(dict(changes).items(), reverse=True):
        text = f"{text[:start]}{value}{text[end:]}"
    refused_or_taken(text)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(WORDS)), max_size=4))
def test_any_name_anywhere(changes: list[tuple[tuple[int, int], tuple[int, int]]]) -> None:
    text = TEXT
    for (start, end), (low, high) in sorted(dict(changes).items(), reverse=True):
        text = text[:start] + TEXT[low:high] + text[end:]
    refused_or_taken(text)


@settings(max_examples=100, deadline=None)
@given(st.permutations(TEXT.splitlines()))
def test_lines_in_any_order(lines: list[str]) -> None:
    refused_or_taken("\n".join(lines))


@pytest.mark.parametrize("depth", [10, 100_000])
def test_deep_nesting(depth: int) -> None:
    refused_or_taken("layer { " * depth)
