"""What a hook may return in place of a thing: where it is, so that only its use imports it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from torrefy.errors import PluginError


@dataclass(frozen=True)
class Lazy:
    """A thing by its name and its place: `Lazy("Permute", "torrefy_ssd.arrange:Permute")`.

    A layer type that is given so has its parameters declared by `torrefy_schema_fields`: then
    reading a definition imports neither the class nor torch.
    """

    name: str
    """What it is called: a prototxt type, a filler's or a command's name."""
    target: str
    """"module:attribute"."""
    summary: str = ""
    """One line; a command's help."""

    def load(self) -> Any:
        """Import it.

        Raises:
            PluginError: it isn't there, or its module fails.
        """
        module, _, attribute = self.target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:
            raise PluginError(
                f'"{self.name}" can\'t be loaded from {self.target}: '
                f"{type(error).__name__}: {error}"
            ) from error
