"""Learning-rate policies: the rate of each iteration, from the solver's own fields."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torrefy.errors import DefinitionError, Problem, did_you_mean
from torrefy.plugins import Named, cached, named
from torrefy.schema import Definition


@dataclass
class Progress:
    """How far a training is, as a solverstate keeps it."""

    iteration: int = 0
    """Updates made so far; the rate for the next one is asked for."""
    current_step: int = 0
    """How many drops of the rate are behind; the policy counts it."""


LARGEST = 3.4028234663852886e38
"""The largest float of 32 bits."""

Rate = Callable[[Any, Progress], float]
"""Gives the rate by a SolverParameter and a Progress, whose current_step it may move on."""


@dataclass(frozen=True)
class Policy:
    """One policy; `@policy("name")` makes it of a function."""

    name: str
    """The solver's `lr_policy`."""
    rate: Rate
    above_zero: tuple[str, ...] = ()
    """Fields that must be above 0."""
    at_least_zero: tuple[str, ...] = ()
    """Fields that must not be below 0."""


def policy(
    name: str, above_zero: tuple[str, ...] = (), at_least_zero: tuple[str, ...] = ()
) -> Callable[[Rate], Policy]:
    """Make a function a policy: `@policy("step", above_zero=("stepsize",))`."""
    return lambda rate: Policy(name, rate, above_zero, at_least_zero)


@policy("fixed")
def fixed(parameter: Any, progress: Progress) -> float:
    """base_lr."""
    return float(parameter.base_lr)


@policy("step", ("stepsize",), ("gamma",))
def step(parameter: Any, progress: Progress) -> float:
    """base_lr · gamma^⌊iteration / stepsize⌋."""
    progress.current_step = progress.iteration // parameter.stepsize
    return float(parameter.base_lr * parameter.gamma**progress.current_step)


@policy("exp", (), ("gamma",))
def exponential(parameter: Any, progress: Progress) -> float:
    """base_lr · gamma^iteration."""
    return float(parameter.base_lr * parameter.gamma**progress.iteration)


@policy("inv", (), ("gamma",))
def inverse(parameter: Any, progress: Progress) -> float:
    """base_lr · (1 + gamma · iteration)^−power."""
    return float(parameter.base_lr * (1 + parameter.gamma * progress.iteration) ** -parameter.power)


@policy("multistep", (), ("gamma",))
def multistep(parameter: Any, progress: Progress) -> float:
    """base_lr · gamma^(stepvalues reached).

    As Caffe counts them: one at most at each iteration, kept in the solverstate. So where two
    stepvalues are equal, the second counts an iteration late.
    """
    values = parameter.stepvalue
    reached = progress.current_step
    if reached < len(values) and progress.iteration >= values[reached]:
        progress.current_step += 1
    return float(parameter.base_lr * parameter.gamma**progress.current_step)


@policy("poly", ("max_iter",))
def polynomial(parameter: Any, progress: Progress) -> float:
    """base_lr · (1 − iteration / max_iter)^power.

    Past max_iter it is as at max_iter; Caffe's is then not a number, for most powers.
    """
    left = max(0.0, 1 - progress.iteration / parameter.max_iter)
    return float(parameter.base_lr * left**parameter.power)


@policy("sigmoid", ("stepsize",), ("gamma",))
def sigmoid(parameter: Any, progress: Progress) -> float:
    """base_lr / (1 + e^(−gamma · (iteration − stepsize))): rising from 0 for a gamma above 0."""
    exponent = -parameter.gamma * (progress.iteration - parameter.stepsize)
    return float(parameter.base_lr / (1 + math.exp(min(exponent, 700.0))))


@policy("cosine", ("max_iter",))
def cosine(parameter: Any, progress: Progress) -> float:
    """min_lr + (base_lr − min_lr) · (1 + cos(π · iteration / max_iter)) / 2.

    Not of Caffe (Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts). With
    warmup_iter the half wave begins where the warm-up ends.
    """
    start = min(parameter.warmup_iter, parameter.max_iter - 1)
    passed = max(0, progress.iteration - start) / (parameter.max_iter - start)
    return _half_wave(parameter.base_lr, parameter.min_lr, min(1.0, passed))


@policy("one_cycle", ("max_iter",))
def one_cycle(parameter: Any, progress: Progress) -> float:
    """From base_lr / 25 up to base_lr over 30 % of max_iter, then down to min_lr, in half waves.

    Not of Caffe (Smith and Topin 2018, arXiv:1708.07120); as torch's OneCycleLR with its
    defaults, base_lr being its max_lr. Without min_lr it ends at base_lr / 250,000. The momentum
    goes the other way in the paper: two callbacks AdjustVariable, or none.
    """
    peak, last = float(parameter.base_lr), parameter.max_iter - 1
    end = parameter.min_lr if parameter.HasField("min_lr") else peak / 250_000
    rise = 0.3 * parameter.max_iter - 1
    at = min(progress.iteration, last)
    if at <= rise:
        return _half_wave(peak / 25, peak, at / rise)
    return _half_wave(peak, end, (at - rise) / (last - rise))


def _half_wave(start: float, stop: float, share: float) -> float:
    return stop + (start - stop) * (1 + math.cos(math.pi * share)) / 2


BUILT_IN = (fixed, step, exponential, inverse, multistep, polynomial, sigmoid, cosine, one_cycle)
"""Caffe's seven, the cosine and the one cycle."""


@cached
def policies() -> Named:
    """Every policy that there is, by `lr_policy`."""
    return named("torrefy_lr_policies", "name", "lr_policy")


def find_policy(definition: Definition) -> Policy:
    """The policy that a solver asks for, its fields checked.

    Raises:
        DefinitionError: it is unknown or not given, or a field that it needs is missing or out
            of range; with all that is wrong.
    """
    parameter = definition.message
    known = policies()
    name = parameter.lr_policy
    if not name:
        raise DefinitionError(
            "lr_policy is missing",
            place=definition.place(),
            hint='Give lr_policy: "fixed" for a constant rate.',
        )
    if name not in known:
        raise DefinitionError(
            f'there is no lr_policy "{name}"',
            place=definition.place("lr_policy"),
            hint=did_you_mean(name, known) or f"There are {', '.join(known)}.",
        )
    found: Policy = known[name]
    problems = []
    for field in found.above_zero:
        value = getattr(parameter, field)
        if not parameter.HasField(field):
            place = definition.place("lr_policy")
            message = f'lr_policy "{name}" needs {field}, which is missing'
            problems.append(Problem(message, place, hint=f"Give {field}: …"))
        elif value <= 0:
            message = f"{field} must be above 0, found {value:g}"
            problems.append(Problem(message, definition.place(field)))
    problems += [
        Problem(
            f"{field} must be 0 or more, found {getattr(parameter, field):g}",
            definition.place(field),
        )
        for field in found.at_least_zero
        if getattr(parameter, field) < 0
    ]
    if problems:
        raise DefinitionError(problems)
    return found


def learning_rate(found: Policy, parameter: Any, progress: Progress) -> float:
    """The rate of the next update: the policy's, or below it while the training warms up.

    Over the first warmup_iter iterations the rate rises in a line from warmup_lr to the policy's
    own (Goyal et al. 2017, arXiv:1706.02677). As in Caffe a rate that is too large for 32 bits is
    infinite.
    """
    try:
        rate = found.rate(parameter, progress)
    except (OverflowError, ZeroDivisionError):
        rate = math.inf
    if progress.iteration < parameter.warmup_iter:
        part = progress.iteration / parameter.warmup_iter
        rate = parameter.warmup_lr + (rate - parameter.warmup_lr) * part
    return rate if abs(rate) <= LARGEST else math.copysign(math.inf, rate)
