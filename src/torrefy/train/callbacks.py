"""Callbacks: what a training tells, and to whom."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from torrefy.errors import DefinitionError, Problem, TorrefyError, did_you_mean
from torrefy.plugins import Named, cached, contributions
from torrefy.schema import parse_text
from torrefy.schema.fields import FieldError
from torrefy.schema.typed import Typed, typed

if TYPE_CHECKING:
    from torch import Tensor

    from torrefy.schema import Definition
    from torrefy.train.history import Row
    from torrefy.train.solver import Solver


SOLVER = "caffe.SolverParameter"


class Callback(Typed):
    """Gets told what a training does, and may have its say.

    A solver's text names it, `callback { type: "EarlyStopping" early_stopping_param { patience: 3
    } }`, or a program gives it, `Solver(…, callbacks=[EarlyStopping(patience=3)])`. Callbacks are
    told in their order. A plugin's is returned by the hook `torrefy_train_callbacks`; to be in the
    text it must be importable without torch, which its methods may import.

    What one raises ends the training; a `TorrefyError` is told as the user's problem.

    Example:
        @callback("Patience")
        class Patience(Callback):
            "Says how long a training takes."
            sigh: str = field("…", doc="what is said")

            def on_test(self, solver):
                solver.log(f"{self.sigh} still at it, {solver.iteration}")
    """

    everywhere: ClassVar[bool] = True
    """Whether it is told in every process of a training on several GPUs, or only in the first: one
    that writes files says False. One that changes what is learned must be everywhere."""

    def on_train_begin(self, solver: Solver) -> None:
        """`step` or `solve` begins, at `solver.iteration`."""

    def on_gradients_ready(self, solver: Solver) -> None:
        """The params' gradients are there and the rate is set, in `solver.optimizer.param_groups`.

        As Caffe's callback of that name: the update comes next, by what is set then.
        """

    def on_update(self, solver: Solver, loss: Tensor) -> None:
        """An update was made; `loss` is the iteration's, on the device: reading it waits for it."""

    def on_test(self, solver: Solver) -> None:
        """The test nets were run; `solver.scores` has what they gave."""

    def on_row(self, solver: Solver, row: Row) -> None:
        """The history has a row more: at each `display`, each test, and at the end."""

    def on_log(self, solver: Solver, line: str) -> None:
        """The training said something, as Caffe logs it."""

    def on_snapshot(self, solver: Solver, path: Path) -> None:
        """A snapshot was written; `path` is its solverstate."""

    def on_last_update(self, solver: Solver) -> None:
        """`solve` has made its last update, not stopped by a signal; a snapshot and test follow."""

    def on_train_end(self, solver: Solver) -> None:
        """`solve` ends: come to its end, or stopped."""

    def state_dict(self) -> dict[str, Any]:
        """What a snapshot keeps of it, as JSON can hold it."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what a snapshot kept."""


Kind = TypeVar("Kind", bound=type[Callback])


def callback(type_name: str) -> Callable[[Kind], Kind]:
    """Give a Callback class its type in the text: `@callback("EarlyStopping")`."""
    return typed(type_name)


@cached
def callback_types() -> Named:
    """Every callback class, by its type."""
    return Named("callback", contributions("torrefy_train_callbacks"), "type_name", check=_problem)


def _problem(given: Any) -> str:
    cls = given.load()
    if isinstance(cls, type) and issubclass(cls, Callback):
        return ""
    return f"what it gives as a callback is no subclass of Callback: {cls!r}"


def parse_callback(text: str) -> Callback:
    """A callback as a command line names it: `EarlyStopping`, or with fields `… patience: 3`.

    Raises:
        DefinitionError: it is wrong, and where in the text.
    """
    name, _, fields = text.strip().partition(" ")
    known = callback_types()
    param = getattr(known[name], "param", "") if name in known else ""
    inner = f"{param} {{ {fields} }}" if fields.strip() else ""
    source = f'callback {{ type: "{name}" {inner} }}'
    return read_callbacks(parse_text(source, SOLVER, f'callback "{text}"'))[0]


def read_callbacks(definition: Definition) -> list[Callback]:
    """The callbacks that a solver's text names.

    Raises:
        DefinitionError: a type is unknown, or a field missing or out of its limits; with all that
            is wrong.
    """
    made: list[Callback] = []
    problems: list[Problem] = []
    known = callback_types()
    for i, message in enumerate(definition.message.callback):
        place = definition.place("callback", i)
        if message.type not in known:
            what = f'there is no callback "{message.type}"' if message.type else "it has no type"
            hint = did_you_mean(message.type, known) or f"There are {', '.join(known)}."
            problems.append(Problem(what, definition.place("callback", i, "type"), hint=hint))
            continue
        try:
            made.append(known[message.type].from_message(message))
        except FieldError as error:
            path = [int(p) if p.isdigit() else p for p in error.path.split(".")]
            placed = definition.place("callback", i, *path)
            problems.append(Problem(str(error), placed, hint=error.hint))
        except TorrefyError as error:
            problems.extend(error.within(place=place).problems)
    if problems:
        raise DefinitionError(problems)
    return made


class Callbacks:
    """The callbacks of a solver, told in their order."""

    def __init__(self, callbacks: Iterable[Callback], leads: bool = True) -> None:
        """Take them.

        Args:
            callbacks: all.
            leads: whether this is the process that those are told in that are not `everywhere`.

        Raises:
            TorrefyError: one is no Callback.
        """
        self.all = list(callbacks)
        self.leads = leads
        for one in self.all:
            if not isinstance(one, Callback):
                raise TorrefyError(
                    f"callbacks are objects of subclasses of Callback, found {one!r}",
                    hint=f"Give {one.__name__}()." if isinstance(one, type) else "",
                )

    def tell(self, what: str, *arguments: Any) -> None:
        """Call a method of each: `tell("on_test", solver)`."""
        for one in self.all:
            if one.everywhere or self.leads:
                getattr(one, what)(*arguments)

    def state_dict(self) -> list[dict[str, Any]]:
        """What each keeps in a snapshot, with its type."""
        return [{"type": one.type_name, **one.state_dict()} for one in self.all if one.type_name]

    def load_state_dict(self, states: Iterable[dict[str, Any]]) -> None:
        """Give each what one of its type kept, in their order; the others begin anew."""
        left = list(states)
        for one in self.all:
            own = next((state for state in left if state.get("type") == one.type_name), None)
            if own is not None:
                left.remove(own)
                one.load_state_dict(own)
