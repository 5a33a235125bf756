"""AdjustVariable: a rate or a momentum between two values over a training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from torrefy.errors import TorrefyError
from torrefy.schema.fields import field
from torrefy.train.callbacks import Callback, callback

if TYPE_CHECKING:
    from torrefy.train.solver import Solver


@callback("AdjustVariable")
class AdjustVariable(Callback):
    """Moves the rate or the momentum from one value to another, evenly over the iterations.

    As the callback of that name which users of nolearn write, whose steps are epochs. The rate
    takes the place of the lr_policy's; lr_mult still counts.

    Example:
        callback { type: "AdjustVariable"
          adjust_variable_param { variable: momentum start: 0.9 stop: 0.999 } }
    """

    variable: Literal["lr", "momentum"] = field("lr", doc="what is moved")
    start: float = field(doc="the value of the first iteration")
    stop: float = field(doc="the value of the last iteration")
    scale: Literal["linear", "log"] = field("linear", doc="equal steps, or equal factors")
    iterations: int = field(0, doc="how many it takes; 0: max_iter", at_least=0)

    def setup(self) -> None:
        """Equal factors lead from above 0 to above 0."""
        if self.scale == "log" and not (self.start > 0 and self.stop > 0):
            raise TorrefyError(
                f"start and stop must be above 0 for equal factors, found {self.start:g} and "
                f"{self.stop:g}"
            )

    def on_train_begin(self, solver: Solver) -> None:
        """See that there is such a variable."""
        if self.variable not in solver.optimizer.param_groups[0]:
            raise TorrefyError(
                f"AdjustVariable: the solver type {solver.optimizer.type_name} has no "
                f"{self.variable}"
            )

    def on_gradients_ready(self, solver: Solver) -> None:
        """Set it for the update that comes."""
        last = max(1, (self.iterations or solver.parameter.max_iter) - 1)
        value = self.value(min(1.0, solver.iteration / last))
        for group in solver.optimizer.param_groups:
            group[self.variable] = value

    def value(self, share: float) -> float:
        """The value at a share of the way, from 0 to 1."""
        if self.scale == "log":
            return math.exp((1 - share) * math.log(self.start) + share * math.log(self.stop))
        return (1 - share) * self.start + share * self.stop
