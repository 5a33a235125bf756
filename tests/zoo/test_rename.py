"""Renames: which modules a rule fits, and what is told of a wrong one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrefy.errors import TorrefyError
from torrefy.zoo import find_card
from torrefy.zoo.rename import Rename

RULE = Rename("features.{i}.conv{j}_x", "stage{i}/conv{j}", "stage{i}/scale")


def test_a_placeholder_stands_for_any_text_without_a_dot() -> None:
    assert RULE.fit("features.3.conv12_x") == Rename(
        "features.3.conv12_x", "stage3/conv12", "stage3/scale"
    )
    for other in ("features.3", "features.3.4.conv1_x", "features.3.conv_x", "features..conv1_x",
                  "features.3.conv1_y", "Features.3.conv1_x", "features.3.con_x", ""):  # fmt: skip
        assert RULE.fit(other) is None


def test_everything_but_placeholders_is_taken_as_it_stands() -> None:
    assert Rename("a.b+", "x").fit("a.bb") is None
    assert Rename("a.b+", "x").fit("a.b+") == Rename("a.b+", "x")


def test_before_and_after_a_placeholder_must_not_overlap() -> None:
    assert Rename("aa{i}aa", "{i}").fit("aaa") is None
    assert Rename("aa{i}aa", "{i}").fit("aaaa") is None
    assert Rename("aa{i}aa", "{i}").fit("aaaaa") == Rename("aaaaa", "a")


NAMES = st.text("ab_0", min_size=1, max_size=4)


@given(NAMES, NAMES, NAMES)
def test_what_a_placeholder_took_is_what_stood_there(before: str, inner: str, after: str) -> None:
    fit = Rename(f"m.{before}{{x}}{after}", "<{x}>").fit(f"m.{before}{inner}{after}")
    assert fit is not None
    assert fit.layer == f"<{inner}>"


def problems(zoo: Any, weights: str) -> list[str]:
    """What is told of tiny's card with this in its source of weights, which is line 11."""
    zoo.change("weights {\n", f"weights {{ {weights}\n")
    with pytest.raises(TorrefyError) as error:
        find_card("tiny")
    return [str(p).replace(str(zoo.card), "card.prototxt") for p in error.value.problems]


@pytest.mark.parametrize(
    ("rename", "told"),
    [
        ('layer: "a"', "35: a rename needs a module"),
        ('module: "a.{i}{j}" layer: "a{i}{j}"',
         '52: "{i}{j}" has two placeholders with no dot between them'),
        ('module: "a.{i}.{i}" layer: "a"',
         "52: {i} stands in the module twice. Call one of them otherwise."),
        ('module: "a.{i" layer: "a"',
         '52: "a.{i" has a brace that is no placeholder\'s. Write "{i}".'),
        ('module: "a.{1}" layer: "a"',
         '52: "a.{1}" has a brace that is no placeholder\'s. Write "{i}".'),
        ('module: "a.{i}" layer: "a{j}"', "67: {j} is not in the module. There is {i}."),
        ('module: "a" layer: "a" scale: "{j}"',
         "74: {j} is not in the module. There is none."),
        ('module: "a" scale: "b"', "63: a rename with a scale needs a layer"),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_told_with_its_place(zoo: Any, rename: str, told: str) -> None:
    found = problems(zoo, f'converter: "state_dict" rename {{ {rename} }}')
    assert found == [f"card.prototxt:11:{told}"]


def test_rules_go_with_their_converter(zoo: Any) -> None:
    assert problems(zoo, 'converter: "state_dict"') == [
        "card.prototxt:11:22: the converter state_dict needs a rename"
    ]
    zoo.change('{ converter: "state_dict"', "{")
    assert problems(zoo, 'rename { module: "a" }') == [
        "card.prototxt:11:11: a rename is for the converter state_dict"
    ]
