"""The rules that a plugin is held to: each that is broken is told."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from torch import Tensor

from torrefy.errors import PluginError
from torrefy.layers import Fields, Layer, field, filler, layer
from torrefy.lint.rule import Rule
from torrefy.plugins import Lazy, added, configure, hookimpl, reset
from torrefy.plugins.manager import _settings
from torrefy.testing import check_plugin, isolated_plugin


class Doubled(Layer):
    """2 x."""

    def forward(self, *bottoms: Tensor) -> Tensor:
        return bottoms[0] * 2


def made(name: str, **attributes: Any) -> type[Layer]:
    body = {"__doc__": "A layer.", "__module__": __name__, **attributes}
    return layer(name)(type(name, (Doubled,), body))


def plugin(**hooks: Any) -> Any:
    """An object whose hooks give these lists."""

    def giving(things: Any) -> Any:
        return staticmethod(hookimpl(lambda: things))

    named = {f"torrefy_{name}": giving(things) for name, things in hooks.items()}
    for name, function in named.items():
        function.__func__.__name__ = name
    return type("Acme", (), {"TORREFY_API": 1, **named})()


def problems(subject: Any) -> list[str]:
    with isolated_plugin(subject, "acme") as found:
        return [str(problem) for problem in check_plugin(found.name)]


class ScaleFields(Fields, extends="caffe.ScaleParameter"):
    acme: int = field(0, doc="nothing")


def test_a_sound_plugin_has_no_problems() -> None:
    sound = plugin(
        layers=[made("Doubled")],
        schema_fields=[ScaleFields],
        fillers=[filler("twos")(lambda tensor, parameters, generator: None)],
        lint_rules=[Rule("ACME1", "acme", lambda subject: iter(()))],
        zoo_paths=[Path(__file__).parent],
        commands=[click.Command("acme")],
    )
    assert problems(sound) == []


def unclear(self: Layer, *bottoms: Tensor) -> Tensor:
    raise ValueError("no such shape")


@pytest.mark.parametrize(
    ("hooks", "told"),
    [
        ({"layers": [made("Bare", __doc__=None)]},
         "Bare: the class has no docstring; say what it computes, and the source"),
        ({"layers": [made("Bare", a=field(1), __annotations__={"a": int})]},
         "Bare: the field a has no doc; say what it is, and in which unit"),
        ({"layers": [made("Bare", bottoms=(2, 2), example_bottoms=((1, 2),))]},
         "Bare: its example has 2 bottoms, and shapes are given for 1"),
        ({"layers": [made("Bare", forward=unclear)]},
         "Bare: its example doesn't compile with bottoms of 2x4x6x6: Bare can't take bottoms of "
         "2x4x6x6: no such shape"),
        ({"layers": [made("Bare", param="bare_param")]},
         "Bare: its parameters bare_param are declared nowhere. Give them to "
         "torrefy_schema_fields."),
        ({"layers": [made("ReLU")]},
         'its layer type "ReLU" is built in. Rename it, or tell its text by `claims`.'),
        ({"layers": [made("ReLU", claims=classmethod(lambda cls, spec: False))]}, ""),
        ({"layers": [Lazy("Bare", "torrefy.layers.activation:ReLU")]},
         "torrefy_layers: torrefy.layers.activation:ReLU is called 'ReLU', the Lazy calls it "
         "'Bare'"),
        ({"layers": [Lazy("Bare", "nowhere:Bare")]},
         'plugin "acme" (Acme): "Bare" can\'t be loaded from nowhere:Bare: ModuleNotFoundError: '
         "No module named 'nowhere'"),
        ({"fillers": [types.SimpleNamespace(name="twos")]},
         "torrefy_fillers takes what @filler(\"name\") makes, found namespace(name='twos')"),
        ({"fillers": [filler("xavier")(lambda tensor, parameters, generator: None)]},
         'its filler "xavier" is built in'),
        ({"zoo_paths": [Path("/no/such/folder")]},
         "torrefy_zoo_paths takes the Path of a folder, found PosixPath('/no/such/folder')"),
        ({"commands": [print]},
         "torrefy_commands takes a click command, found <built-in function print>"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_told(hooks: dict[str, Any], told: str) -> None:
    assert problems(plugin(**hooks)) == ([told] if told else [])


@pytest.fixture
def heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    (tmp_path / "acme_heavy.py").write_text("import torch\n\nTORREFY_API = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import acme_heavy

    yield acme_heavy
    del sys.modules["acme_heavy"]


def test_a_module_that_imports_torch_is_told(heavy: types.ModuleType) -> None:
    assert problems(heavy) == [
        "its module imports torch, for which every start of Torrefy waits. Import it within the "
        "hooks, or give a Lazy."
    ]


def test_two_plugins_with_one_type_are_told() -> None:
    with added(plugin(layers=[made("Shared")]), "one"), \
            added(plugin(layers=[made("Shared")]), "two"):  # fmt: skip
        found = [str(problem) for problem in check_plugin("two")]
    assert (
        'its layer type "Shared" is one of plugin "one" (Acme), too. Rename it, or tell its text '
        "by `claims`."
    ) in found


def test_a_plugin_that_is_not_used_is_told_why(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("TORREFY_API = 1\nraise ValueError('no')\n")
    (tmp_path / "unwanted.py").write_text("TORREFY_API = 1\n")
    kept = list(_settings.files), list(_settings.disabled)
    try:
        with pytest.warns(UserWarning, match="broken"):
            configure(
                files=[tmp_path / "broken.py", tmp_path / "unwanted.py"], disabled=["unwanted"]
            )
            (broken,) = check_plugin("broken")
        assert str(broken) == (
            f'plugin "broken" ({tmp_path}/broken.py) is not used: ValueError: no '
            f"({tmp_path}/broken.py:2)"
        )
        (unwanted,) = check_plugin("unwanted")
        assert str(unwanted) == (
            f'plugin "unwanted" ({tmp_path}/unwanted.py) is disabled. Nothing of it was checked.'
        )
    finally:
        _settings.files[:], _settings.disabled[:] = kept
        reset()


def test_a_name_that_is_no_plugins_is_told() -> None:
    with isolated_plugin(plugin(), "acme"), pytest.raises(PluginError) as error:
        check_plugin("acm")
    assert str(error.value) == 'there is no plugin "acm". Did you mean "acme"?'
