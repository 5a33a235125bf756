"""Rows of arrays on disk that grow as they are computed, and survive being broken off."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.errors import DataError, Place
from torrefy.weights.files import replacing

STATE = "state.json"
SAVED = 16
"""Batches after which is noted how far it has come."""


class Kept:
    """Arrays of N rows, of which the first are filled; and which items these are.

    An item may have several versions: version v of the row r is in row v·N + r.
    """

    def __init__(
        self,
        folder: Path,
        key: str,
        shapes: Mapping[str, Sequence[int]],
        count: int,
        *,
        versions: int = 1,
        dtype: type[np.floating[Any]] = np.float32,
    ) -> None:
        """Open what a folder keeps under a key, or begin anew.

        Args:
            folder: it is made where it isn't there.
            key: what the rows depend on.
            shapes: of a row of each array.
            count: N.
            versions: how many each item has.
            dtype: of the arrays.

        Raises:
            DataError: it can't be written.
        """
        self.folder = folder
        self.key = f"{key} {versions} {count} {np.dtype(dtype)} {dict(shapes)}"
        self.count, self.versions = count, versions
        self.place = Place(str(folder))
        self.arrays: dict[str, NDArray[Any]] = {}
        """The arrays, V·N rows each."""
        state = self._read()
        self.done: int = state["done"]
        """How many items were looked at, in the order of their numbers."""
        self.passed: set[int] = set(state["passed"])
        """Those of them that could not be read, and have no row."""
        self.bad: dict[str, str] = state["bad"]
        """The same, where they are named, and what is wrong with each."""
        self._batches = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for i, (name, shape) in enumerate(shapes.items()):
                file = folder / f"{i}.npy"
                if self.done and file.exists():
                    self.arrays[name] = np.load(file, mmap_mode="r+", allow_pickle=False)
                else:
                    whole = (versions * count, *shape)
                    self.arrays[name] = np.lib.format.open_memmap(file, "w+", dtype, whole)
        except (OSError, ValueError) as error:
            raise DataError(f"features can't be kept: {error}", place=self.place) from None

    @property
    def items(self) -> list[int]:
        """The numbers of those that the filled rows are of."""
        return [item for item in range(self.done) if item not in self.passed]

    def advance(self, count: int, good: Sequence[int], made: Sequence[Mapping[str, Any]]) -> None:
        """Fill rows of the next items; now and then it is noted how far it has come.

        Args:
            count: how many items were looked at.
            good: the numbers of those that have a row.
            made: of each version the arrays by name, a row for each of these.
        """
        first = self.done - len(self.passed)
        for version, arrays in enumerate(made):
            at = version * self.count + first
            for name, values in arrays.items():
                self.arrays[name][at : at + len(good)] = values
        # Whatever breaks off in here leaves the state as it was before, or as it is after.
        passed = set(range(self.done, self.done + count)) - set(good)
        self.passed, self.done = self.passed | passed, self.done + count
        self._batches += 1
        if not self._batches % SAVED or self.done == self.count:
            self.save()

    def save(self) -> None:
        """Note how far it has come, after what was computed is on the disk.

        Raises:
            DataError: it can't be written.
        """
        done = self.done
        passed = sorted(item for item in self.passed if item < done)
        state = {"key": self.key, "done": done, "passed": passed, "bad": self.bad}
        try:
            for array in self.arrays.values():
                array.flush()  # type: ignore[attr-defined]
            with replacing(self.folder / STATE) as file:
                file.write(json.dumps(state).encode("utf-8", "replace"))
        except OSError as error:
            raise DataError(f"features can't be kept: {error}", place=self.place) from None

    def filled(self, name: str) -> NDArray[Any]:
        """An array's rows that are filled, of all versions one after the other."""
        array, rows = self.arrays[name], self.done - len(self.passed)
        if rows == self.count or self.versions == 1:
            return array[:rows] if rows < self.count else array
        return np.concatenate(
            [array[v * self.count : v * self.count + rows] for v in range(self.versions)]
        )

    def _read(self) -> dict[str, Any]:
        begun: dict[str, Any] = {"done": 0, "passed": [], "bad": {}}
        try:
            state = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
            if state["key"] == self.key and 0 <= state["done"] <= self.count:
                return {name: type(value)(state[name]) for name, value in begun.items()}
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return begun
