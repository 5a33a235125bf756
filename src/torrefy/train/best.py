"""CheckpointBest, EarlyStopping: the weights that did best in the tests."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torrefy.errors import TorrefyError, did_you_mean
from torrefy.schema.fields import field
from torrefy.train.callbacks import Callback, callback

if TYPE_CHECKING:
    from torrefy.train.solver import Solver


@callback("CheckpointBest")
class CheckpointBest(Callback):
    """Writes `PREFIX_best.caffemodel` whenever a test beats all before it.

    The file is whole at any moment. What is best so far is kept in snapshots, so a resumed run
    doesn't replace it by something worse.

    Example:
        callback { type: "CheckpointBest" checkpoint_best_param { blob: "accuracy" } }
    """

    blob: str = field("", doc="the test net's output that counts; empty: its loss")
    test_net: int = field(0, doc="which test net, from 0", at_least=0)
    better: Literal["auto", "lower", "higher"] = field(
        "auto", doc="which is better; auto: higher of an Accuracy layer, else lower"
    )

    def setup(self) -> None:
        """Nothing was tested yet."""
        self.best = math.nan
        """The best score so far; NaN before the first."""
        self.best_iteration = -1
        """When it was."""

    def on_train_begin(self, solver: Solver) -> None:
        """See that there is what to go by."""
        if self.test_net >= len(solver.test_nets):
            nets = len(solver.test_nets)
            raise TorrefyError(
                f"{self.type_name} goes by test net {self.test_net}, but there are {nets}"
                if nets
                else f"{self.type_name} goes by tests, but the solver has none",
                hint="" if nets else "Give test_iter and test_interval.",
            )
        outputs = solver.test_nets[self.test_net].outputs
        if self.blob and self.blob not in outputs:
            hint = did_you_mean(self.blob, outputs) or f"It has {', '.join(outputs)}."
            raise TorrefyError(
                f'{self.type_name}: test net {self.test_net} has no output "{self.blob}"', hint=hint
            )

    def score(self, solver: Solver) -> float:
        """What the last test gave: the mean of the blob, or the weighted sum of the losses."""
        scores, net = solver.scores[self.test_net], solver.test_nets[self.test_net]
        if self.blob:
            return float(scores[self.blob].mean())
        losses = [w * float(scores[n].sum()) for n, w in net.loss_weights.items() if n in scores]
        return sum(losses) if losses else float(next(iter(scores.values())).mean())

    def beats(self, solver: Solver, score: float) -> bool:
        """Whether a score is better than the best so far."""
        if math.isnan(score) or math.isnan(self.best):
            return not math.isnan(score)
        higher = self.better == "higher" or (
            self.better == "auto" and self.blob in accuracies(solver, self.test_net)
        )
        return score > self.best if higher else score < self.best

    def on_test(self, solver: Solver) -> None:
        """Keep the weights where they are better."""
        score = self.score(solver)
        if self.beats(solver, score):
            self.best, self.best_iteration = score, solver.iteration
            if solver.leads:
                solver.net.save(self.file(solver))

    def file(self, solver: Solver) -> Path:
        """Where the best weights are."""
        from torrefy.train.snapshots import ENDINGS

        plan = solver.plan
        return Path(f"{solver.snapshot_prefix}_best.caffemodel{ENDINGS[plan.snapshot_format]}")

    def state_dict(self) -> dict[str, Any]:
        """The best score and its iteration."""
        best = None if math.isnan(self.best) else self.best
        return {"best": best, "best_iteration": self.best_iteration}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with them."""
        best = state.get("best")
        self.best = math.nan if best is None else float(best)
        self.best_iteration = int(state.get("best_iteration", -1))


@callback("EarlyStopping")
class EarlyStopping(CheckpointBest):
    """Ends a training when tests have not got better for a while, and takes up the best weights.

    It keeps them as CheckpointBest does; the training then ends as if it had come to max_iter,
    with its snapshot and test.

    Example:
        callback { type: "EarlyStopping" early_stopping_param { patience: 5 blob: "accuracy" } }
    """

    patience: int = field(5, doc="tests in a row that are no better", at_least=1)
    least: float = field(0.0, doc="how much better is better", at_least=0)
    restore: bool = field(True, doc="whether the training ends with the best weights")

    def setup(self) -> None:
        """Nothing was tested yet."""
        super().setup()
        self.waited = 0
        """Tests since the best."""

    def beats(self, solver: Solver, score: float) -> bool:
        """Better by `least`."""
        return super().beats(solver, score) and not abs(score - self.best) < self.least

    def on_test(self, solver: Solver) -> None:
        """Count, and end the training where patience is over."""
        super().on_test(solver)
        self.waited = 0 if self.best_iteration == solver.iteration else self.waited + 1
        if self.waited >= self.patience:
            solver.finish(f"no test was better than that of iteration {self.best_iteration}")

    def on_last_update(self, solver: Solver) -> None:
        """Take up the best weights."""
        file = self.file(solver)
        if not self.restore or self.best_iteration in (-1, solver.iteration) or not file.exists():
            return
        from torrefy.net.stored import read_weights
        from torrefy.weights.copy import copy_weights

        copy_weights(solver.net, read_weights(file))
        solver.log(f"The weights of iteration {self.best_iteration} are the best: {file}")

    def state_dict(self) -> dict[str, Any]:
        """And how long it has waited."""
        return {**super().state_dict(), "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on waiting."""
        super().load_state_dict(state)
        self.waited = int(state.get("waited", 0))


def accuracies(solver: Solver, test_net: int) -> set[str]:
    """The outputs of a test net that Accuracy layers make: higher is better."""
    nodes = solver.test_nets[test_net].graph.nodes
    return {top for node in nodes if node.spec.type == "Accuracy" for top in node.spec.top}
