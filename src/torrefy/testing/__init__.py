"""The kit for authors of plugins: what Torrefy's own layers are held to.

    from torrefy.testing import check_layer

    def test_snake_is_sound():
        check_layer(Snake, bottoms=[(2, 3)], params="snake_param { a: 2 }")

`check_layer` makes every check of one layer, `check_augmentation` of one augmentation,
`check_head` of one head; `check_plugin` holds a whole plugin to the rules;
`isolated_plugin` loads one without any other; `torrefy.testing.fixtures` has it for pytest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torrefy.testing.augmentation import check_augmentation
    from torrefy.testing.gradients import check_gradients
    from torrefy.testing.head import check_head
    from torrefy.testing.isolated import isolated_plugin
    from torrefy.testing.layer import (
        check_docs,
        check_example,
        check_layer,
        check_onnx,
        check_shapes,
        check_text,
        check_weights,
    )
    from torrefy.testing.plugins import check_plugin
    from torrefy.testing.scaffold import new_plugin
    from torrefy.testing.use import Use

_HOMES = {
    "Use": "torrefy.testing.use",
    "check_augmentation": "torrefy.testing.augmentation",
    "check_docs": "torrefy.testing.layer",
    "check_example": "torrefy.testing.layer",
    "check_gradients": "torrefy.testing.gradients",
    "check_head": "torrefy.testing.head",
    "check_layer": "torrefy.testing.layer",
    "check_onnx": "torrefy.testing.layer",
    "check_plugin": "torrefy.testing.plugins",
    "check_shapes": "torrefy.testing.layer",
    "check_text": "torrefy.testing.layer",
    "check_weights": "torrefy.testing.layer",
    "isolated_plugin": "torrefy.testing.isolated",
    "new_plugin": "torrefy.testing.scaffold",
}
"""Where each name lives. It is imported on first use: writing a new plugin needs no torch."""

__all__ = [
    "Use",
    "check_augmentation",
    "check_docs",
    "check_example",
    "check_gradients",
    "check_head",
    "check_layer",
    "check_onnx",
    "check_plugin",
    "check_shapes",
    "check_text",
    "check_weights",
    "isolated_plugin",
    "new_plugin",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
