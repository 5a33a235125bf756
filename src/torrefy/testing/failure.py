"""How a check of a layer fails: by one sentence that begins with the layer's type."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import NoReturn

from torrefy.errors import TorrefyError


@contextlib.contextmanager
def told(kind: str) -> Iterator[None]:
    """Make what a layer raises a sentence of the check."""
    try:
        yield
    except AssertionError:
        raise
    except TorrefyError as error:
        first = replace(error.problems[0], place=None, layer="")
        fail(kind, f"it is refused: {first}", error)
    except Exception as error:  # noqa: BLE001  an author's code
        text = " ".join(str(error).split())
        fail(kind, f"it raises {type(error).__name__}: {text}", error)


def fail(kind: str, sentence: str, cause: BaseException | None = None) -> NoReturn:
    """Fail by a sentence that begins with the layer's type."""
    raise AssertionError(f"{kind}: {sentence}") from cause
