"""Callbacks: named in the text or given by a program, told in order, kept in snapshots."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from torrefy.errors import DefinitionError, TorrefyError
from torrefy.plugins import added, hookimpl
from torrefy.schema.fields import field
from torrefy.train.adjust import AdjustVariable
from torrefy.train.best import CheckpointBest, EarlyStopping
from torrefy.train.callbacks import Callback, callback, parse_callback
from torrefy.train.keep import KeepLast
from torrefy.train.snapshots import read_extra, read_state
from torrefy.train.solver import Solver
from torrefy.weights.load import load_net

Make = Callable[..., Solver]
TESTS = "test_iter: 2 test_interval: 5 "


@callback("Diary")
class Diary(Callback):
    """Writes down what it is told."""

    name: str = field("diary", doc="whose it is")

    def setup(self) -> None:
        self.lines: list[str] = []

    def on_train_begin(self, solver: Solver) -> None:
        self.lines.append("begin")

    def on_gradients_ready(self, solver: Solver) -> None:
        assert all(p.grad is not None for p in solver.net.parameters())
        self.lines.append("gradients")

    def on_update(self, solver: Solver, loss: torch.Tensor) -> None:
        self.lines.append(f"update {solver.iteration}")

    def on_test(self, solver: Solver) -> None:
        self.lines.append(f"test {sorted(solver.scores[0])}")

    def on_row(self, solver: Solver, row: Any) -> None:
        self.lines.append(f"row {row.iteration}")

    def on_snapshot(self, solver: Solver, path: Path) -> None:
        self.lines.append(f"snapshot {path}")

    def on_last_update(self, solver: Solver) -> None:
        self.lines.append("last")

    def on_train_end(self, solver: Solver) -> None:
        self.lines.append("end")

    def state_dict(self) -> dict[str, Any]:
        return {"lines": len(self.lines)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.lines = [f"{state['lines']} lines before"]


class Plugin:
    @staticmethod
    @hookimpl
    def torrefy_train_callbacks() -> list[type[Callback]]:
        return [Diary]


def test_a_callback_is_told_what_happens_in_order(make: Make) -> None:
    diary = Diary()
    solver = make("display: 2 test_iter: 1 test_interval: 2 ", callbacks=[diary])
    solver.parameter.max_iter = 2
    solver.solve()
    assert diary.lines == [
        "begin", "row 0", "test ['accuracy', 'loss']", "gradients", "update 1", "gradients",
        "update 2", "last", "snapshot snap_iter_2.solverstate", "row 2",
        "test ['accuracy', 'loss']", "end",
    ]  # fmt: skip


def test_a_plugins_callback_is_text_and_goes_on_from_a_snapshot(make: Make) -> None:
    with added(Plugin, "acme"):
        text = 'callback { type: "Diary" diary_param { name: "mine" } } '
        solver = make(text)
        (diary,) = solver.callbacks.all
        assert isinstance(diary, Diary)
        assert diary.name == "mine"
        solver.step(3)
        state = solver.snapshot()
        extra = read_extra(read_state(state))
        assert extra is not None
        assert extra.facts["callbacks"] == [{"type": "Diary", "lines": 7}]
        (again,) = make(text, resume=state).callbacks.all
        assert isinstance(again, Diary)
        assert again.lines == ["7 lines before"]


def test_what_is_wrong_with_callbacks_is_told_with_its_place(make: Make) -> None:
    with pytest.raises(DefinitionError) as error:
        make(
            'callback { type: "EarlyStoping" }\n'
            'callback { type: "EarlyStopping" early_stopping_param { patience: 0 } }\n'
            'callback { type: "AdjustVariable" adjust_variable_param { stop: 1 } }\n'
            "callback { }\n"
            'callback { type: "AdjustVariable"\n'
            " adjust_variable_param { start: 0 stop: 1 scale: log } }"
        )
    assert str(error.value).splitlines() == [
        'solver.prototxt:4:18: there is no callback "EarlyStoping". Did you mean "EarlyStopping"?',
        "solver.prototxt:5:67: patience must be at least 1, found 0",
        "solver.prototxt:6:35: start is missing. Give start: …",
        "solver.prototxt:7:1: it has no type. There are AdjustVariable, CheckpointBest, "
        "EarlyStopping, KeepLast, RunFolder, TensorBoard.",
        "solver.prototxt:8:1: start and stop must be above 0 for equal factors, found 0 and 1",
    ]
    with pytest.raises(TorrefyError, match="of subclasses of Callback") as refused:
        make(callbacks=[EarlyStopping])
    assert "Give EarlyStopping()." in str(refused.value)
    with pytest.raises(TorrefyError, match='EarlyStopping: there is no field "patient"') as wrong:
        EarlyStopping(patient=3)
    assert 'Did you mean "patience"?' in str(wrong.value)
    with pytest.raises(TorrefyError, match="patience must be int, found 'three'"):
        EarlyStopping(patience="three")
    with pytest.raises(TorrefyError, match="better must be auto or lower or higher, found 'more'"):
        EarlyStopping(better="more")
    with pytest.raises(TorrefyError, match="AdjustVariable: start is missing"):
        AdjustVariable(stop=1.0)


def test_a_command_line_names_callbacks() -> None:
    made = parse_callback('EarlyStopping patience: 3 blob: "accuracy"')
    assert isinstance(made, EarlyStopping)
    assert (made.patience, made.blob, made.restore) == (3, "accuracy", True)
    assert parse_callback("KeepLast").snapshots == 3  # type: ignore[attr-defined]
    with pytest.raises(DefinitionError, match=r'has no field "patent"\. Did you mean "patience"'):
        parse_callback("EarlyStopping patent: 3")


def test_the_rate_and_the_momentum_are_moved(make: Make) -> None:
    rate = AdjustVariable(start=0.1, stop=0.001, scale="log")
    momentum = AdjustVariable(variable="momentum", start=0.5, stop=0.9)
    seen = []

    class Look(Callback):
        def on_update(self, solver: Solver, loss: torch.Tensor) -> None:
            group = solver.optimizer.param_groups[0]
            seen.append((group["lr"], group["momentum"]))

    solver = make("display: 1 ", callbacks=[rate, momentum, Look()])
    solver.parameter.max_iter = 3
    solver.solve()
    np.testing.assert_allclose(seen, [(0.1, 0.5), (0.01, 0.7), (0.001, 0.9)])
    assert [row.lr for row in solver.history if row.lr == row.lr] == pytest.approx(
        [0.1, 0.01, 1e-3]
    )
    with pytest.raises(TorrefyError, match="the solver type AdaGrad has no momentum"):
        make('type: "AdaGrad" ', text=make.__globals__["SOLVER"].replace("momentum: 0.9", ""),
             callbacks=[momentum]).step(1)  # fmt: skip


def test_the_best_weights_are_kept_and_taken_up_again(make: Make, folder: Path) -> None:
    tested: list[tuple[int, float]] = []

    class Look(Callback):
        def on_test(self, solver: Solver) -> None:
            tested.append((solver.iteration, float(solver.scores[0]["loss"])))

    stopping = EarlyStopping(patience=2)
    solver = make(
        TESTS.replace("5", "2"), callbacks=[Look(), stopping],
    )  # fmt: skip
    solver.parameter.max_iter = 500
    solver.solve()
    best = min(tested[:-1], key=lambda pair: pair[1])
    assert solver.iteration == best[0] + 4 < 500
    assert not solver.stopped
    assert solver.finished == f"no test was better than that of iteration {best[0]}"
    assert (stopping.best_iteration, stopping.best) == best
    assert tested[-1] == (solver.iteration, best[1])  # the last test is of the best weights
    kept = load_net("net.prototxt", weights="snap_best.caffemodel", phase="test",
                    shapes={"data": (10, 5), "label": (10,)})  # fmt: skip
    assert torch.equal(kept.params["ip2"][0], solver.net.params["ip2"][0])


def test_what_is_best_survives_a_resume(make: Make, folder: Path) -> None:
    solver = make(TESTS, callbacks=[CheckpointBest(blob="accuracy")])
    solver.step(6)
    (best,) = solver.callbacks.all
    assert isinstance(best, CheckpointBest)
    best.best, best.best_iteration = 2.0, 3  # better than any accuracy can be
    state = solver.snapshot()
    (folder / "snap_best.caffemodel").write_bytes(b"kept")
    again = make(TESTS, callbacks=[CheckpointBest(blob="accuracy")], resume=state)
    again.step(10)
    assert (folder / "snap_best.caffemodel").read_bytes() == b"kept"


def test_what_the_best_goes_by_must_be_tested(make: Make) -> None:
    with pytest.raises(TorrefyError) as error:
        make(callbacks=[CheckpointBest()]).step(1)
    assert str(error.value) == (
        "CheckpointBest goes by tests, but the solver has none. Give test_iter and test_interval."
    )
    with pytest.raises(TorrefyError) as error:
        make(TESTS, callbacks=[EarlyStopping(blob="acuracy")]).step(1)
    assert str(error.value) == (
        'EarlyStopping: test net 0 has no output "acuracy". Did you mean "accuracy"?'
    )


def test_only_the_last_snapshots_are_kept_and_others_never_touched(
    make: Make, folder: Path
) -> None:
    (folder / "snap_iter_1.solverstate").write_text("of another run")
    solver = make("snapshot: 2 ", callbacks=[KeepLast(snapshots=2)])
    solver.step(8)
    names = sorted(p.name for p in folder.glob("snap_iter_*"))
    assert names == sorted(
        ["snap_iter_1.solverstate"]
        + [f"snap_iter_{n}.{end}" for n in (6, 8)
           for end in ("caffemodel", "solverstate", "torrefy.safetensors")]
    )  # fmt: skip
    again = make(
        "snapshot: 2 ", callbacks=[KeepLast(snapshots=2)], resume="snap_iter_8.solverstate"
    )
    again.step(2)
    assert sorted(int(p.name.split("_")[2].split(".")[0]) for p in folder.glob("*state")) == [
        1, 8, 10,
    ]  # fmt: skip
