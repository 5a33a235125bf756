"""Fixtures for pytest: `pytest -p torrefy.testing.fixtures`, or a line in a conftest.py.

pytest_plugins = ["torrefy.testing.fixtures"]

def test_a_net_with_snake_loads(load_plugin):
    load_plugin(acme_layers)
    torrefy.load_net("net.prototxt")
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from torrefy.plugins import Plugin
from torrefy.testing.isolated import isolated_plugin


@pytest.fixture
def load_plugin() -> Iterator[Callable[..., Plugin]]:
    """Load a plugin until the test ends, alone: `load_plugin(module, name="")`."""
    with contextlib.ExitStack() as stack:

        def load(module: Any, name: str = "") -> Plugin:
            return stack.enter_context(isolated_plugin(module, name))

        yield load
