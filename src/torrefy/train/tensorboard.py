"""TensorBoard: the history as events that TensorBoard shows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torrefy.errors import TorrefyError
from torrefy.schema.fields import field
from torrefy.train.callbacks import Callback, callback

if TYPE_CHECKING:
    from torrefy.train.history import Row
    from torrefy.train.solver import Solver


@callback("TensorBoard")
class TensorBoard(Callback):
    """Writes each row of the history as TensorBoard events.

    Needs the package tensorboard: `pip install torrefy[tensorboard]`; then `tensorboard --logdir
    FOLDER` shows them. A resumed run hides what it trains again.

    Example:
        callback { type: "TensorBoard" tensor_board_param { folder: "events" } }
    """

    everywhere = False

    folder: str = field("", doc="where events are written; empty: the run's folder, or PREFIX.run")

    def setup(self) -> None:
        """Nothing is open yet."""
        self._writer: Any = None

    def on_train_begin(self, solver: Solver) -> None:
        """Open the file of events."""
        if self._writer is not None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise TorrefyError(
                "the callback TensorBoard needs the package tensorboard",
                hint="pip install torrefy[tensorboard]",
            ) from None
        folder = Path(self.folder) if self.folder else solver.run_folder
        self._writer = SummaryWriter(str(folder), purge_step=solver.iteration or None)

    def on_row(self, solver: Solver, row: Row) -> None:
        """Write a row: the training's numbers, and the tests'."""
        for name, value in row.columns().items():
            if name != "iteration" and math.isfinite(value):
                self._writer.add_scalar(name, value, row.iteration)
        self._writer.flush()

    def on_train_end(self, solver: Solver) -> None:
        """See that all is on the disk."""
        self._writer.flush()
