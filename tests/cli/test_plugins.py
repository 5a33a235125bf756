"""`torrefy plugins`, and the options about plugins that every command takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SNAKE = """
from torrefy.plugins import Lazy, hookimpl
from torrefy.schema.fields import Fields, field

TORREFY_API = 1


class SnakeParameter(Fields):
    a: float = field(1.0, doc="frequency", above=0)


class LayerFields(Fields, extends="caffe.LayerParameter"):
    snake_param: SnakeParameter = field()


@hookimpl
def torrefy_schema_fields():
    return [LayerFields]


@hookimpl
def torrefy_layers():
    return [Lazy("Snake", "snake_layers:Snake")]


@hookimpl
def torrefy_commands():
    return [Lazy("hiss", "snake_layers:command", "Say what snakes say.")]
"""
LAYERS = '''
import click
import torch
from torrefy.layers.base import Layer, layer
from snake import SnakeParameter


@layer("Snake")
class Snake(Layer):
    """x + sin²(a x) / a (Ziyin et al. 2020, arXiv:2006.08195)."""

    param = "snake_param"
    fields = SnakeParameter
    example = "snake_param { a: 2 }"

    def forward(self, x):
        return x + torch.sin(self.a * x).square() / self.a


@click.command()
def command():
    """Say what snakes say."""
    click.echo("sss")
'''
NET = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "s" type: "Snake" bottom: "data" top: "s" snake_param { a: %s } }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "snake.py").write_text(SNAKE)
    (tmp_path / "snake_layers.py").write_text(LAYERS)
    (tmp_path / "net.prototxt").write_text(NET % "2")
    return tmp_path


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "torrefy", *arguments], cwd=folder, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(folder), "HOME": str(folder)}, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_file_is_a_plugin_of_any_command(folder: Path) -> None:
    ok = (0, "net.prototxt: ok, 2 layers in phase test\n", "")
    assert run(folder, "--plugin", "snake.py", "check", "net.prototxt") == ok
    assert run(folder, "check", "net.prototxt", "--plugin", "snake.py") == ok
    (folder / "net.prototxt").write_text(NET % "-1")
    assert run(folder, "check", "net.prototxt", "--plugin", "snake.py") == (
        1,
        'net.prototxt:2:74: layer "s": a must be above 0, found -1\n1 problem\n',
        "",
    )
    code, out, err = run(folder, "check", "net.prototxt")
    assert (code, err) == (1, "")
    assert out.splitlines()[0] == (
        'net.prototxt:2:57: layer "s": LayerParameter has no field "snake_param". Does its type, '
        '"Snake", need a plugin?'
    )


def test_what_only_reads_definitions_does_not_import_the_layers(folder: Path) -> None:
    (folder / "snake_layers.py").unlink()
    code, out, _ = run(folder, "fmt", "--plugin", "snake.py", "net.prototxt")
    assert (code, out) == (0, "formatted net.prototxt\n")
    assert "snake_param { a: 2 }" in (folder / "net.prototxt").read_text()
    code, out, err = run(folder, "check", "--plugin", "snake.py", "net.prototxt")
    assert (code, err) == (1, "")
    assert out == (
        'net.prototxt:9:9: layer "s": plugin "snake" (snake.py): "Snake" can\'t be loaded from '
        "snake_layers:Snake: ModuleNotFoundError: No module named 'snake_layers'\n1 problem\n"
    )


def test_plugins_are_listed_with_what_they_add(folder: Path) -> None:
    (folder / "bad.py").write_text("TORREFY_API = 1\nraise RuntimeError('boom')")
    arguments = ("plugins", "--plugin", "snake.py", "--plugin", "bad.py", "--disable", "ssd")
    code, out, err = run(folder, *arguments)
    assert code == 0
    assert out.endswith(
        "snake  snake.py\n"
        "  layers: Snake\n"
        "  schema fields: LayerParameter.snake_param\n"
        "  commands: hiss\n"
        "bad  bad.py\n"
        f"  not used: RuntimeError: boom ({folder / 'bad.py'}:2)\n"
    )
    assert err == (
        f'warning: plugin "bad" (bad.py) is not used: RuntimeError: boom ({folder / "bad.py"}:2)\n'
    )
    code, out, _ = run(folder, *arguments, "--json")
    listed = {plugin["name"]: plugin for plugin in json.loads(out)["plugins"]}
    assert listed["snake"]["used"]
    assert listed["snake"]["adds"]["layers"] == ["Snake"]
    assert not listed["bad"]["used"]
    assert listed["bad"]["error"].startswith("RuntimeError: boom")


def test_a_plugin_adds_a_command(folder: Path) -> None:
    assert run(folder, "--plugin", "snake.py", "hiss") == (0, "sss\n", "")
    code, out, _ = run(folder, "--plugin", "snake.py", "--help")
    assert code == 0
    assert "Commands of plugins:\n  hiss  Say what snakes say.\n" in out
    code, _, err = run(folder, "hiss")
    assert code == 2
    assert 'there is no command "hiss"' in err


def test_a_command_that_can_not_be_is_told(folder: Path) -> None:
    (folder / "own.py").write_text(SNAKE.replace('"hiss"', '"check"'))
    code, out, err = run(folder, "--plugin", "own.py", "--help")
    assert (code, "Commands of plugins" in out) == (0, False)
    assert err == (
        'warning: plugin "own" (own.py) is not used: its command "check" has the name of one of '
        "Torrefy's own\n"
    )
    (folder / "odd.py").write_text(SNAKE.replace("snake_layers:command", "os:getcwd"))
    code, out, err = run(folder, "--plugin", "odd.py", "hiss")
    assert (code, out) == (1, "")
    assert err == (
        'error: plugin "odd" (odd.py): what it gives as a command is <built-in function getcwd>\n'
    )


def test_a_layer_of_a_plugin_has_its_page(folder: Path) -> None:
    code, out, _ = run(folder, "layers", "Snake", "--plugin", "snake.py")
    assert code == 0
    assert "a            number  1        frequency, above 0\n" in out
    assert "snake_param { a: 2 }" in out
    assert out.endswith("From snake_layers.\n\n")


def test_slips_about_plugins_are_told(folder: Path) -> None:
    code, _, err = run(
        folder, "check", "--dialect", "snale", "--plugin", "snake.py", "net.prototxt"
    )
    assert code == 2
    assert 'there is no dialect "snale". Did you mean "snake"?' in err
    code, out, err = run(folder, "plugins", "check", "snakes", "--plugin", "snake.py")
    assert (code, out) == (1, "")
    assert err == 'error: there is no plugin "snakes". Did you mean "snake"?\n'
    code, _, err = run(folder, "check", "--plugin", "lost.py", "net.prototxt")
    assert code == 1
    assert err == (
        'warning: plugin "lost" (lost.py) is not used: No such file or directory: lost.py\n'
    )


def test_help_imports_no_torch_with_plugins(folder: Path) -> None:
    program = (
        "import sys; from torrefy.cli import main;"
        "main(['--plugin', 'snake.py', '--help'], standalone_mode=False);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, capture_output=True)
