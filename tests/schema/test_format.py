"""Formatting: one layout, the same message, every comment."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import THIRDS

from torrefy.errors import DefinitionError
from torrefy.schema import format_text, parse_text, read_text, write_text
from torrefy.schema.source import Source, read_source

ROOT = Path(__file__).parents[2]
COMMENT = re.compile(r"""("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(\#[^\n]*)""")
UGLY = """
# the file
name : 'n' ; layer{ name:"a" # a's name
type: "Convolution",bottom:"x"   top: ["y"]


# above the parameters
convolution_param < num_output : 4 kernel_size: [3,
 3] # both
weight_filler { type: "xavier" } >
  # below
} # behind
input_dim: - 1
# at the end
"""
NEAT = """# the file
name: 'n'
layer {
  name: "a"  # a's name
  type: "Convolution"
  bottom: "x"
  top: ["y"]

  # above the parameters
  convolution_param {
    num_output: 4
    kernel_size: [3, 3]  # both
    weight_filler { type: "xavier" }
  }
  # below
}  # behind
input_dim: -1
# at the end
"""


def neat(text: str) -> str:
    return format_text(Source("n", text))


def comments(text: str) -> list[str]:
    return sorted(match[2].rstrip() for match in COMMENT.finditer(text) if match[2])


def test_a_text_gets_its_layout_and_keeps_its_comments() -> None:
    assert neat(UGLY) == NEAT
    assert neat(NEAT) == NEAT
    assert neat(UGLY.replace("\n", "\r\n")) == NEAT


def test_texts_that_stand_behind_one_another_stay_apart() -> None:
    assert neat('name: "a "\n  "b" # c\nforce_backward: true') == (
        'name: "a " "b"  # c\nforce_backward: true\n'
    )


def test_empty_lines_stay_as_one_and_never_begin_or_end_a_message() -> None:
    assert neat('\n\nname: "a"\n\n\n# b\n\n\nstate {\n\n level: 1\n\n # c\n}\n\n# d\n\n') == (
        'name: "a"\n\n# b\n\nstate {\n  level: 1\n\n  # c\n}\n\n# d\n'
    )


def test_a_message_stands_on_one_line_where_it_fits_in_100_columns() -> None:
    line = '  python_param { module: "%s" layer: "L" }'
    name = "m" * (100 - len(line % ""))
    fitting = f"layer {{\n{line % name}\n}}\n"
    assert neat(fitting.replace("\n", " ")) == fitting
    longer = fitting.replace(name, f"m{name}")
    assert neat(longer).splitlines()[1:-1] == [
        "  python_param {", f'    module: "m{name}"', '    layer: "L"', "  }",
    ]  # fmt: skip


def test_a_number_that_is_none_stays_one() -> None:
    text = "layer {\n  loss_weight: nan\n}\n"
    assert neat(text) == text


def test_what_formatting_would_change_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torrefy.schema.format._layout", lambda text: text.replace("# c", ""))
    with pytest.raises(DefinitionError) as error:
        neat('name: "n"  # c')
    assert str(error.value) == (
        "n: formatting would change what the text says; it stays as it is. "
        "This is a bug of Torrefy: please report it with the file."
    )


SOUND = """name : 'a' "b" ; layer { name : "x" bottom : [ "p" , 'q' ] , loss_weight : - 1.5e-2
  relu_param < negative_slope : -1 ; > param [ { lr_mult : 1 } , < name : "# no comment" > ]
  reshape_param : { shape { dim : [ ] dim : 0x1F dim : - 1 } } include { } } input_dim : 1
  state { phase : TRAIN stage : "s" "t" } force_backward : true ;
"""
TOKENS = re.findall(r'"[^"]*"|\'[^\']*\'|\S+', SOUND)
BETWEEN = st.lists(
    st.sampled_from(["\n", " ", "\t", "\r\n", "# c\n", "#d#\r\n", '# "e\n']), max_size=3
)


@settings(max_examples=300, deadline=None)
@given(st.lists(BETWEEN, min_size=len(TOKENS) + 1, max_size=len(TOKENS) + 1))
def test_formatting_changes_nothing_but_the_layout(between: list[list[str]]) -> None:
    spaced = zip(("".join(noise) for noise in between), [*TOKENS, ""], strict=True)
    text = " ".join(part for pair in spaced for part in pair)
    once = neat(text)
    assert parse_text(once).message == parse_text(SOUND).message
    assert comments(once) == comments(text)
    assert neat(once) == once
    assert not re.search(r"[ \t\r]$|\n\n\n", once, re.MULTILINE)


def kind_of_text(path: Path) -> str:
    """The message that a text of the zoo is."""
    if path.parent.name == "datasets":
        return "torrefy.Dataset"
    if path.name == "card.prototxt":
        return "torrefy.Card"
    return f"caffe.{'Solver' if path.stem.endswith('solver') else 'Net'}Parameter"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "zoo").glob("*/*.prototxt")), ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_the_zoo_is_formatted(path: Path) -> None:
    message = kind_of_text(path)
    source = read_source(path)
    assert format_text(source, message) == source.text


@pytest.mark.parametrize("third", THIRDS)
def test_public_definitions_keep_what_they_say_and_their_comments(shared: Path, third: int) -> None:
    corpus = shared / "corpus"
    done = 0
    with (corpus / "index.tsv").open(newline="") as table:
        for row in list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))[third::3]:
            if row["parse_bvlc"] != "ok":
                continue
            message = f"caffe.{'Solver' if row['kind'] == 'solver' else 'Net'}Parameter"
            source = read_source(corpus / row["file"])
            if len(source.text) > 60_000:
                continue
            once = format_text(source, message)  # it compares the messages
            assert comments(once) == comments(source.text), row["file"]
            assert format_text(Source("n", once), message) == once, row["file"]
            done += 1
    assert done > 173


def test_a_message_is_written_as_its_text_is_formatted(shared: Path) -> None:
    for path in sorted((shared / "golden/upgrade").glob("*/expected.prototxt")):
        kind = "Solver" if path.parent.name.startswith("solver") else "Net"
        message = read_text(path, f"caffe.{kind}Parameter").message
        text = write_text(message)
        assert format_text(Source("n", text), f"caffe.{kind}Parameter") == text
        assert parse_text(text, f"caffe.{kind}Parameter").message == message
