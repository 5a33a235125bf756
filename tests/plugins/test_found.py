"""Plugins that are found, and what is said of those that can't be used."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from torrefy.plugins import (
    Lazy,
    PluginWarning,
    added,
    configure,
    contributions,
    hookimpl,
    manager,
    reset,
)
from torrefy.plugins import found as finding
from torrefy.plugins.manager import _settings

GOOD = """
from torrefy.plugins import Lazy, hookimpl
TORREFY_API = 1

@hookimpl
def torrefy_commands():
    return [Lazy("anchors", "nowhere:command", "Draw anchors.")]
"""


def commands() -> list[str]:
    return [one.thing.name for one in contributions("torrefy_commands")]


def test_a_plugin_is_found_by_its_entry_point(installed: Callable[..., Path]) -> None:
    installed("acme", GOOD)
    assert commands() == ["anchors"]
    plugin = next(p for p in manager().plugins if p.name == "acme")
    assert (plugin.distribution, plugin.version, plugin.error) == ("acme-plugin", "1.0", "")
    assert plugin.title == '"acme" (acme-plugin 1.0)'


def test_a_plugin_is_left_out_by_name(
    installed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("acme", GOOD)
    for names in ("acme", "other, acme", "all"):
        monkeypatch.setenv("TORREFY_DISABLE_PLUGINS", names)
        reset()
        assert commands() == []
        assert next(p for p in manager().plugins if p.name == "acme").disabled


def test_a_file_is_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.py"
    file.write_text(GOOD)
    monkeypatch.setenv("TORREFY_PLUGINS", str(file))
    reset()
    assert commands() == ["anchors"]
    monkeypatch.delenv("TORREFY_PLUGINS")
    reset()
    assert commands() == []


NOT_USED = {
    "TORREFY_API = 1\nraise RuntimeError('boom')": "RuntimeError: boom ({file}:2)",
    "TORREFY_API = 1\nimport sys\nsys.exit(3)": "SystemExit: 3 ({file}:3)",
    "TORREFY_API = 1\nimport nowhere_at_all": (
        "ModuleNotFoundError: No module named 'nowhere_at_all' ({file}:2)"
    ),
    "TORREFY_API = 2\nimport nowhere_at_all": (
        "it was written for version 2 of the plugin surface, this Torrefy has version 1; it needs "
        "a newer Torrefy"
    ),
    "TORREFY_API = 0": (
        "it was written for version 0 of the plugin surface, this Torrefy has version 1; it needs "
        "a newer release of it"
    ),
    "import nowhere_at_all": (
        "{file} must say TORREFY_API = 1 at its top: the plugin surface it is written for"
    ),
    "TORREFY_API = 1\ndef (": "{file}, line 2 is no Python: invalid syntax",
    GOOD.replace("torrefy_commands", "torrefy_comands"): (
        'it implements torrefy_comands, which is no hook. Did you mean "torrefy_commands"?'
    ),
    GOOD.replace("torrefy_commands()", "torrefy_commands(wrong)"): "definition",
    GOOD.replace("return", "raise ZeroDivisionError(0)\n    return"): (
        "its hook torrefy_commands failed: ZeroDivisionError: 0 ({file}:7)"
    ),
    GOOD.replace("return", "raise SystemExit(0)\n    return"): (
        "its hook torrefy_commands failed: SystemExit: 0 ({file}:7)"
    ),
    "TORREFY_API = 1\ndef __dir__():\n    raise ZeroDivisionError(1)": (
        "ZeroDivisionError: 1 ({file}:3)"
    ),
    GOOD.replace("[Lazy(", "[object] or [Lazy("): (
        "what it gives as command has no name: <class 'object'>"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("source", "reason"), NOT_USED.items())
def test_a_plugin_that_fails_is_told_once_and_the_rest_works_on(
    installed: Callable[..., Path], source: str, reason: str
) -> None:
    from torrefy.plugins import named

    file = installed("bad", source)
    installed("good", GOOD)
    with pytest.warns(PluginWarning) as warned:
        assert list(named("torrefy_commands", "name", "command")) == ["anchors"]
        assert list(named("torrefy_commands", "name", "command")) == ["anchors"]
    texts = [str(w.message) for w in warned]
    assert len(texts) == 1
    start = 'plugin "bad" (bad-plugin 1.0) is not used: '
    if reason == "definition":
        assert texts[0].startswith(f"{start}Plugin 'bad' for hook 'torrefy_commands'")
    else:
        assert texts == [start + reason.format(file=file)]
    assert [p.name for p in manager().used() if not p.built_in] == ["good"]


def test_two_plugins_of_one_name_are_both_told(installed: Callable[..., Path]) -> None:
    installed("acme", GOOD, "acme-one")
    installed("acme", GOOD, "acme-two")
    with pytest.warns(PluginWarning) as warned:
        assert commands() == ["anchors"]
    assert str(warned[0].message) in {
        f'plugin "acme" ({two} 1.0) is not used: "acme" ({one} 1.0) has that name already; '
        "uninstall one of them"
        for one, two in (("acme-one", "acme-two"), ("acme-two", "acme-one"))
    }


def test_a_file_that_is_named_twice_is_one_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORREFY_PLUGINS", os.pathsep.join(["mine.py", str(tmp_path / "mine.py")]))
    reset()
    assert commands() == ["anchors"]
    assert [p.name for p in manager().plugins if p.source.endswith("mine.py")] == ["mine"]
    monkeypatch.delenv("TORREFY_PLUGINS")
    reset()


def test_what_a_plugin_prints_is_no_result(
    installed: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    installed("loud", GOOD.replace("return", "print('asked')\n    return") + "\nprint('loaded')")
    assert commands() == ["anchors"]
    assert capsys.readouterr() == ("", "loaded\nasked\n")


def test_a_name_to_leave_out_that_is_no_plugins_is_told(
    installed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("acme", GOOD)
    monkeypatch.setattr(_settings, "disabled", [])
    configure(disabled=["acne"])
    with pytest.warns(PluginWarning, match='no plugin "acne" to leave out. Did you mean "acme"'):
        assert commands() == ["anchors"]


def test_a_plugin_may_share_its_name_with_a_room_of_torrefys() -> None:
    class Mine:
        @hookimpl
        def torrefy_commands(self) -> list[Lazy]:
            return [Lazy("anchors", "nowhere:command")]

    with added(Mine(), "torrefy.zoo", alone=True):
        assert commands() == ["anchors"]
        assert contributions("torrefy_zoo_paths")


def test_threads_that_come_first_together_find_the_same_plugins(
    installed: Callable[..., Path],
) -> None:
    installed("slow", "import time\ntime.sleep(0.05)\n" + GOOD)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: manager(), range(8)))
    assert all(one is found[0] for one in found)


def test_who_waits_for_a_plugin_is_told_for_whom(
    installed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    heard = threading.Event()

    def tell(text: str) -> None:
        told.append(text)
        heard.set()

    monkeypatch.setattr(finding, "PATIENCE", 0.01)
    monkeypatch.setattr(finding, "tell", tell)
    monkeypatch.setattr(finding, "heard", heard, raising=False)
    installed(
        "slow",
        "TORREFY_API = 1\nfrom torrefy.plugins import found\nassert found.heard.wait(30)\n",
    )
    manager()
    assert told[0] == (
        'still waiting for plugin "slow" (slow-plugin 1.0); Ctrl-C stops, --disable slow or '
        "TORREFY_DISABLE_PLUGINS=slow leaves it out"
    )


def test_hooks_are_traced(
    installed: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed("acme", GOOD)
    monkeypatch.setattr(_settings, "trace", False)
    configure(trace=True)
    commands()
    assert capsys.readouterr().err.startswith("torrefy_commands: acme gave 1 in ")
