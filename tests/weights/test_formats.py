"""The format of a file of weights is told by its suffix."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from torrefy.errors import PluginError, WeightsError
from torrefy.net.stored import (
    StoredLayer,
    StoredNet,
    WeightFormat,
    read_weights,
    weight_formats,
    write_weights,
)
from torrefy.plugins import hookimpl, plugin_manager

NET = StoredNet("n", (StoredLayer("a", "ReLU", ()),))


class Formats:
    """A plugin with formats of its own."""

    def __init__(self, *formats: WeightFormat) -> None:
        self.formats = formats

    @hookimpl
    def torrefy_weight_formats(self) -> tuple[WeightFormat, ...]:
        return self.formats


@pytest.fixture
def plugged() -> Iterator[None]:
    """A plugin format with a suffix that ends as a built-in one does."""
    mine = WeightFormat("mine", (".my.caffemodel",), lambda path: NET, lambda path, net: None)
    plugin = Formats(mine)
    plugin_manager().register(plugin)
    yield
    plugin_manager().unregister(plugin)


def test_a_caffemodel_is_known_by_its_suffix_in_any_case(tmp_path: Path) -> None:
    path = tmp_path / "LENET.CaffeModel"
    write_weights(str(path), NET)
    assert read_weights(str(path)).layers == NET.layers


@pytest.mark.usefixtures("plugged")
def test_the_longest_suffix_wins(tmp_path: Path) -> None:
    assert read_weights(tmp_path / "net.my.caffemodel") is NET


def test_an_unknown_suffix_is_told_with_the_known_ones(tmp_path: Path) -> None:
    known = ", ".join(sorted(weight_formats()))
    for name, suffix, hint in (
        ("w.cafemodel", ".cafemodel", '. Did you mean ".caffemodel"?'),
        ("w.qqq", ".qqq", ""),
        ("w", "", ""),
    ):
        for call in (read_weights, lambda path: write_weights(path, NET)):
            with pytest.raises(WeightsError) as error:
                call(tmp_path / name)
            assert str(error.value) == (
                f'{tmp_path / name}: no format of weights has the suffix "{suffix}"; known are '
                f"{known}{hint}"
            )


def test_two_formats_with_one_suffix_are_both_named() -> None:
    rival = WeightFormat("rival", (".caffemodel",), lambda path: NET, lambda path, net: None)
    plugin = Formats(rival)
    plugin_manager().register(plugin)
    try:
        with pytest.raises(PluginError) as error:
            weight_formats()
    finally:
        plugin_manager().unregister(plugin)
    assert str(error.value) in {
        f'two formats of weights have the suffix ".caffemodel": {names}'
        for names in ("rival and caffemodel", "caffemodel and rival")
    }


def test_the_caffemodel_format_needs_no_torch() -> None:
    script = "import sys, torrefy.weights.caffemodel; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
