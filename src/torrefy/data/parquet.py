"""Parquet's library, where it is installed."""

from __future__ import annotations

from typing import Any

from torrefy.errors import DataError


def pyarrow() -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`.

    Raises:
        DataError: they are not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(
            "Parquet needs pyarrow", hint="pip install 'torrefy[parquet]' brings it."
        ) from None
    return pyarrow, pyarrow.parquet
