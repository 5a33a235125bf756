"""`torrefy fmt`: files in one layout, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run, Script

UGLY = 'name:"n"\n\n\nlayer{name:"r"type:"ReLU" # a\n bottom:"x";top:"x"}'
NEAT = """name: "n"

layer {
  name: "r"
  type: "ReLU"  # a
  bottom: "x"
  top: "x"
}
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.prototxt"
    path.write_text(UGLY)
    return path


def test_a_file_is_rewritten_once(script: Script, net: Path) -> None:
    first = script("fmt", "net.prototxt")
    assert (first.returncode, first.stdout, first.stderr) == (0, "formatted net.prototxt\n", "")
    assert net.read_text() == NEAT
    again = script("fmt", "net.prototxt")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert [path.name for path in net.parent.iterdir()] == ["net.prototxt"]


def test_check_only_tells(run: Run, net: Path) -> None:
    result = run("fmt", "--check", "net.prototxt")
    assert (result.exit_code, result.output) == (1, "would change net.prototxt\n")
    assert net.read_text() == UGLY
    net.write_text(NEAT)
    result = run("fmt", "--check", "net.prototxt")
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize("content", [
    b"\xef\xbb\xbf" + UGLY.encode(),
    b"\xef\xbb\xbf" + NEAT.encode(),
    UGLY.replace("\n", "\r\n").encode(),
    NEAT.replace("\n", "\r\n").encode(),
])  # fmt: skip
def test_byte_order_marks_and_carriage_returns_go(run: Run, net: Path, content: bytes) -> None:
    net.write_bytes(content)
    assert run("fmt", "net.prototxt").exit_code == 0
    assert net.read_bytes() == NEAT.encode()


def test_the_text_can_go_elsewhere(run: Run, net: Path) -> None:
    result = run("fmt", "net.prototxt", "-o", "-")
    assert (result.exit_code, result.stdout) == (0, NEAT)
    result = run("fmt", "net.prototxt", "-o", "new.prototxt")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "wrote new.prototxt\n")
    assert Path("new.prototxt").read_text() == NEAT
    assert net.read_text() == UGLY


def test_solvers_and_cards_are_formatted_too(run: Run, tmp_path: Path) -> None:
    (tmp_path / "solver.prototxt").write_text("base_lr:.1 # rate\nstepvalue:[1,2]")
    (tmp_path / "card.prototxt").write_text('name:"m" input{width:3 height:4}')
    result = run("fmt", "solver.prototxt", "card.prototxt")
    assert result.stdout == "formatted solver.prototxt\nformatted card.prototxt\n"
    assert Path("solver.prototxt").read_text() == "base_lr: .1  # rate\nstepvalue: [1, 2]\n"
    assert Path("card.prototxt").read_text() == 'name: "m"\ninput { width: 3 height: 4 }\n'


def test_a_file_with_a_mistake_is_left_alone_and_the_others_are_not(run: Run, net: Path) -> None:
    bad = net.with_name("bad.prototxt")
    bad.write_text("layer { name: }")
    result = run("fmt", "bad.prototxt", "net.prototxt")
    assert result.exit_code == 1
    assert result.stderr == ('bad.prototxt:1:15: expected a text in quotes for "name", found "}"\n')
    assert result.stdout == "formatted net.prototxt\n"
    assert bad.read_text() == "layer { name: }"


def test_json_says_what_changed(run: Run, net: Path) -> None:
    net.with_name("bad.prototxt").write_text("layer { nme: 1 }")
    result = run("fmt", "--json", "--check", "net.prototxt", "bad.prototxt")
    assert result.exit_code == 1
    printed = json.loads(result.stdout)
    assert (printed["ok"], printed["changed"]) == (False, ["net.prototxt"])
    assert printed["problems"][0]["hint"] == 'Did you mean "name"?'
    assert json.loads(run("fmt", "--json", "net.prototxt").stdout) == {
        "ok": True, "changed": ["net.prototxt"], "problems": [],
    }  # fmt: skip


@pytest.mark.parametrize("arguments", [
    ("-o", "new", "net.prototxt", "net.prototxt"), ("-o", "new", "--check", "net.prototxt"),
    ("-o", "-", "--json", "net.prototxt"), (),
])  # fmt: skip
def test_what_contradicts_itself_is_wrong_usage(
    run: Run, net: Path, arguments: tuple[str, ...]
) -> None:
    assert run("fmt", *arguments).exit_code == 2
    assert net.read_text() == UGLY


def test_what_cannot_be_written_stays_as_it_was(
    run: Run, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    result = run("fmt", "net.prototxt")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "net.prototxt: can't be written: No space left on device\n"
    assert json.loads(run("fmt", "--json", "net.prototxt").stdout)["changed"] == []
    assert net.read_text() == UGLY
    assert [path.name for path in net.parent.iterdir()] == ["net.prototxt"]
