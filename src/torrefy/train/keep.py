"""KeepLast: older snapshots make room for newer ones."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torrefy.schema.fields import field
from torrefy.train.callbacks import Callback, callback

if TYPE_CHECKING:
    from torrefy.train.solver import Solver


@callback("KeepLast")
class KeepLast(Callback):
    """Keeps the last few snapshots of a run, and removes those that it wrote before them.

    A snapshot of another run, or one that was there before, stays. One is removed when the newer
    ones are whole on the disk, its solverstate first: no state is ever without its weights.

    Example:
        callback { type: "KeepLast" keep_last_param { snapshots: 3 } }
    """

    everywhere = False

    snapshots: int = field(3, doc="how many are kept", at_least=1)

    def setup(self) -> None:
        """Nothing is written yet."""
        self.written: list[str] = []

    def on_train_begin(self, solver: Solver) -> None:
        """A snapshot that the run goes on from is its own, if it has written any."""
        names = {Path(path).name for path in self.written}
        if self.written and solver.resumed is not None and solver.resumed.name not in names:
            self.written.append(str(solver.resumed))

    def on_snapshot(self, solver: Solver, path: Path) -> None:
        """Remove what is too old."""
        from torrefy.train.snapshots import files_of

        written = [*(one for one in self.written if one != str(path)), str(path)]
        self.written = written[-self.snapshots :]
        for old in written[: -self.snapshots]:
            for file in files_of(Path(old)):
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        """The snapshots that there are."""
        return {"written": self.written}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with them."""
        self.written = [str(path) for path in state.get("written", [])]
