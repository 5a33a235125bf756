"""Formatting: one layout, the same message, every comment."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from torrefy.cli import main
from torrefy.schema import parse_text
from torrefy.schema.format import format_text
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


PIECES = st.sampled_from(
    ['layer { name: "a" }', 'layer {', "}", 'type: "T"', "# c", "\n", "\n\n", " ", ";", ",",
     'name: "n"', "input_dim: [1, 2]", "relu_param { negative_slope: 1 }", "relu_param <", ">",
     "# d\n", "bottom: 'x' # e\n", "loss_weight: -\n 1"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=14))
def test_formatting_changes_nothing_but_the_layout(pieces: list[str]) -> None:
    text = " ".join(pieces)
    try:
        message = parse_text(text).message
    except Exception:  # noqa: BLE001  what can't be read is not formatted
        return
    once = neat(text)
    assert parse_text(once).message == message
    assert comments(once) == comments(text)
    assert neat(once) == once


@pytest.mark.parametrize("path", sorted((ROOT / "zoo").glob("*/*.prototxt")), ids=lambda p: p.name)
def test_the_zoo_is_formatted(path: Path) -> None:
    message = "torrefy.Card" if path.name == "card.prototxt" else "caffe.NetParameter"
    source = read_source(path)
    assert format_text(source, message) == source.text


def test_public_definitions_keep_their_comments(shared: Path) -> None:
    folder = shared / "corpus/prototxt/BVLC+caffe"
    done = 0
    for path in sorted(folder.iterdir())[::7]:
        try:
            source = read_source(path)
            once = format_text(source)
        except Exception:  # noqa: BLE001  a solver, or another dialect
            continue
        assert neat(once) == once, path.name
        assert comments(once) == comments(source.text), path.name
        done += 1
    assert done > 10


def test_fmt_rewrites_files_and_check_only_tells(tmp_path: Path) -> None:
    path = tmp_path / "n.prototxt"
    path.write_text(UGLY)
    check = CliRunner().invoke(main, ["fmt", "--check", str(path)])
    assert (check.exit_code, check.output) == (1, f"would change {path}\n")
    assert path.read_text() == UGLY
    written = CliRunner().invoke(main, ["fmt", str(path)])
    assert (written.exit_code, written.output) == (0, f"formatted {path}\n")
    assert path.read_text() == NEAT
    again = CliRunner().invoke(main, ["fmt", "--check", str(path)])
    assert (again.exit_code, again.output) == (0, "")


def test_fmt_leaves_a_broken_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "n.prototxt"
    path.write_text("layer { name: }")
    result = CliRunner().invoke(main, ["fmt", str(path)])
    assert result.exit_code == 1
    assert result.output == f'{path}:1:15: expected a text in quotes for "name", found "}}"\n'
    assert path.read_text() == "layer { name: }"
