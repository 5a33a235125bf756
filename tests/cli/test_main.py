"""The command line itself: help without imports, and what becomes of errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from tests.cli.conftest import Run, Script

from torrefy import __version__, cli
from torrefy.cli.output import json_option, write_file
from torrefy.data.pictures import find_pictures
from torrefy.errors import DefinitionError, Place, Problem, TorrefyError

HEAVY = {"google", "numpy", "onnx", "onnxruntime", "PIL", "rich", "torch"}


def test_help_imports_nothing_heavy(script: Script) -> None:
    help_text = script("--help", PYTHONPROFILEIMPORTTIME="1")
    imported = {line.split("|")[-1].strip().split(".")[0] for line in help_text.stderr.splitlines()}
    assert "click" in imported
    assert not imported & HEAVY
    assert help_text.returncode == 0


def test_help_lists_every_command_with_its_line(run: Run) -> None:
    for flag in ("-h", "--help"):
        result = run(flag)
        assert result.exit_code == 0
        for name, line in cli.COMMANDS.items():
            assert f"  {name:<8}  {line}\n" in result.stdout


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_commands_line_is_its_own_and_its_help_shows_an_example(name: str, run: Run) -> None:
    command = cli.main.get_command(click.Context(cli.main), name)
    assert command is not None
    assert command.get_short_help_str(1000) == cli.COMMANDS[name]
    for flag in ("-h", "--help"):
        result = run(name, flag)
        assert result.exit_code == 0
        assert f"Example:\n    torrefy {name}" in result.stdout


def test_the_version_is_the_packages(run: Run) -> None:
    assert run("--version").stdout == f"torrefy {__version__}\n"


def test_an_unknown_command_is_told_with_its_neighbour_and_exits_2(run: Run) -> None:
    result = run("chekc", "net.prototxt")
    assert result.exit_code == 2
    assert result.stderr.endswith('Error: there is no command "chekc". Did you mean "check"?\n')
    assert run("--chekc").exit_code == 2
    assert run("check", "--nope").exit_code == 2


# --- Errors ---


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, run: Run) -> Callable[..., object]:
    """Runs a command that raises the given error."""

    def fail(error: BaseException, *arguments: str) -> object:
        @click.command()
        @json_option
        def command(*, as_json: bool) -> None:
            """Fail."""
            raise error

        module = types.ModuleType("torrefy.cli.fail")
        module.command = command  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "torrefy.cli.fail", module)
        monkeypatch.setitem(cli.COMMANDS, "fail", "Fail.")
        return run("fail", *arguments)

    return fail


TWO = DefinitionError(
    [
        Problem("it is wrong", Place("net.prototxt", 3, 7), "conv1", "Mend it."),
        Problem("nothing is right"),
    ]
)


def test_an_errors_problems_are_lines_on_stderr(failing: Callable) -> None:
    result = failing(TWO)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        'net.prototxt:3:7: layer "conv1": it is wrong. Mend it.\nerror: nothing is right\n'
    )


def test_after_json_an_errors_problems_are_json_on_stdout(failing: Callable) -> None:
    result = failing(TWO, "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    assert json.loads(result.stdout) == {
        "ok": False,
        "problems": [
            {
                "file": "net.prototxt",
                "line": 3,
                "column": 7,
                "layer": "conv1",
                "message": "it is wrong",
                "hint": "Mend it.",
            },
            {
                "file": None,
                "line": None,
                "column": None,
                "layer": None,
                "message": "nothing is right",
                "hint": None,
            },
        ],
    }


def test_an_error_that_nobody_foresaw_is_called_a_bug(failing: Callable) -> None:
    result = failing(KeyError("conv1"))
    assert result.exit_code == 1
    assert result.stderr == (
        "error: this is a bug of Torrefy: KeyError: 'conv1'. Run it again with TORREFY_DEBUG=1 "
        "for the traceback, and report both.\n"
    )
    (problem,) = json.loads(failing(ValueError("two\nlines"), "--json").stdout)["problems"]
    assert problem["message"] == "this is a bug of Torrefy: ValueError: two\nlines"


def test_the_traceback_is_there_for_who_asks(
    failing: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Traceback" not in failing(KeyError("conv1")).stderr
    # `run` clears the variable once, when it is made.
    monkeypatch.setenv("TORREFY_DEBUG", "1")
    assert failing(KeyError("conv1")).stderr.startswith("Traceback (most recent call last)")


def test_what_the_system_refuses_is_no_bug(failing: Callable) -> None:
    assert failing(PermissionError(13, "Permission denied", "a.onnx")).stderr == (
        "a.onnx: Permission denied\n"
    )
    assert failing(OSError(28, "No space left on device")).stderr == (
        "error: No space left on device\n"
    )
    assert failing(MemoryError()).stderr == "error: there is not enough memory\n"


def test_an_interrupt_is_one_line_and_130(failing: Callable) -> None:
    result = failing(KeyboardInterrupt())
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "interrupted\n")


def test_control_characters_in_names_stay_on_their_line_and_do_nothing(failing: Callable) -> None:
    error = TorrefyError("no\n\x1b[31mred", layer="a\x07")
    assert failing(error).stderr == 'error: layer "a\\x07": no\\x0a\\x1b[31mred\n'


def test_a_name_that_the_terminal_can_not_print_is_spelled_out(script: Script) -> None:
    result = script("check", os.fsdecode(b"n\xe9t"), PYTHONIOENCODING="utf-8")
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout == "n\\udce9t: no such file\n1 problem\n"
    result = script("check", "a→b", PYTHONIOENCODING="latin-1")
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout == "a\\u2192b: no such file\n1 problem\n"


def test_listed_names_are_taken_byte_for_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def command() -> None:
        (path,) = find_pictures(["-"], sys.stdin)
        click.echo(os.fsencode(path))

    module = types.ModuleType("torrefy.cli.list")
    module.command = command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torrefy.cli.list", module)
    monkeypatch.setitem(cli.COMMANDS, "list", "List.")
    result = CliRunner().invoke(cli.main, ["list"], input=b"caf\xe9.jpg\n")
    assert result.stdout_bytes == b"caf\xe9.jpg\n"


def test_a_reader_that_goes_away_is_no_news(lenet: Path) -> None:
    torrefy = Path(sys.executable).with_name("torrefy")
    for arguments in (["show", str(lenet)], ["show", "--json", str(lenet)], ["--help"]):
        reading, writing = os.pipe()
        os.close(reading)
        result = subprocess.run(
            [torrefy, *arguments], stdout=writing, stderr=subprocess.PIPE, timeout=120, check=False
        )
        os.close(writing)
        assert (result.stderr, result.returncode) == (b"", 1), arguments


# --- Files ---


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "net.dot"
    write_file(path, b"one")
    write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["net.dot"]
    link = tmp_path / "link.dot"
    link.symlink_to(path)
    write_file(link, b"three")
    assert path.read_bytes() == b"three"
    write_file("/dev/null", b"nothing")
    with pytest.raises(TorrefyError, match="no/such: can't be written: No such file or directory"):
        write_file(tmp_path / "no" / "such", b"")
