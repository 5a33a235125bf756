"""The optimisers alone, without a net or a solver, against loops that anyone can read."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from torrefy.errors import TorrefyError
from torrefy.train.optimisers import (
    BUILT_IN,
    SGD,
    AdaDelta,
    AdaGrad,
    Adam,
    AdamW,
    Nesterov,
    RMSProp,
    SolverOptimizer,
    solver_types,
)

Array = np.ndarray
Loop = Callable[[Array, Array, dict[str, Array], float, int], Array]
"""Gives the new w from w, g, what is kept, the rate and the time."""


def sgd(w: Array, g: Array, kept: dict[str, Array], r: float, t: int) -> Array:
    kept["h"] = 0.9 * kept.get("h", 0) + r * g
    return w - kept["h"]


def nesterov(w: Array, g: Array, kept: dict[str, Array], r: float, t: int) -> Array:
    old = kept.get("h", np.zeros_like(w))
    kept["h"] = 0.9 * old + r * g
    return w - (1.9 * kept["h"] - 0.9 * old)


def adagrad(w: Array, g: Array, kept: dict[str, Array], r: float, t: int) -> Array:
    kept["h"] = kept.get("h", 0) + g**2
    return w - r * g / (np.sqrt(kept["h"]) + 1e-3)


def rmsprop(w: Array, g: Array, kept: dict[str, Array], r: float, t: int) -> Array:
    kept["h"] = 0.98 * kept.get("h", 0) + 0.02 * g**2
    return w - r * g / (np.sqrt(kept["h"]) + 1e-3)


def adadelta(w: Array, g: Array, kept: dict[str, Array], r: float, t: int) -> Array:
    kept["h"] = 0.95 * kept.get("h", 0) + 0.05 * g**2
    u = g * np.sqrt((kept.get("k", 0) + 1e-3) / (kept["h"] + 1e-3))
    kept["k"] = 0.95 * kept.get("k", 0) + 0.05 * u**2
    return w - r * u


def adam(w: Array, g: Array, kept: dict[str, Array], r: float, t: int) -> Array:
    kept["m"] = 0.9 * kept.get("m", 0) + 0.1 * g
    kept["v"] = 0.99 * kept.get("v", 0) + 0.01 * g**2
    correction = math.sqrt(1 - 0.99**t) / (1 - 0.9**t)
    return w - r * correction * kept["m"] / (np.sqrt(kept["v"]) + 1e-3)


LOOPS: list[tuple[type[SolverOptimizer], dict[str, Any], Loop]] = [
    (SGD, {"momentum": 0.9}, sgd),
    (Nesterov, {"momentum": 0.9}, nesterov),
    (AdaGrad, {"delta": 1e-3}, adagrad),
    (RMSProp, {"delta": 1e-3, "rms_decay": 0.98}, rmsprop),
    (AdaDelta, {"delta": 1e-3, "momentum": 0.95}, adadelta),
    (Adam, {"delta": 1e-3, "momentum": 0.9, "momentum2": 0.99}, adam),
]


@pytest.mark.parametrize(
    ("kind", "options", "loop"), LOOPS, ids=lambda x: getattr(x, "__name__", "")
)
@pytest.mark.parametrize("regularization_type", ["L1", "L2"])
def test_an_optimiser_does_what_its_formula_says(
    kind: type[SolverOptimizer], options: dict[str, Any], loop: Loop, regularization_type: str
) -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(3, 4)), random.normal(size=5)
    params = [torch.nn.Parameter(torch.from_numpy(w.copy())) for w in (first, second)]
    optimiser = kind(
        [{"params": params[:1], "lr_mult": 2.0, "decay_mult": 0.0}, {"params": params[1:]}],
        lr=0.1, weight_decay=0.05, regularization_type=regularization_type, clip_gradients=2.0,
        iter_size=2, **options,
    )  # fmt: skip
    weights, kept = [first, second], [{}, {}]  # type: ignore[var-annotated]
    for time in range(1, 6):
        rate = 0.1 / time
        grads = [random.normal(size=w.shape) for w in weights]
        for group in optimiser.param_groups:
            group["lr"] = rate
        for param, grad in zip(params, grads, strict=True):
            param.grad = torch.from_numpy(grad.copy())
        optimiser.step()
        norm = math.sqrt(sum((g**2).sum() for g in grads))
        for i, (lr_mult, decay_mult) in enumerate([(2, 0), (1, 1)]):
            g = grads[i] * min(1, 2.0 / norm) / 2
            penalty = np.sign(weights[i]) if regularization_type == "L1" else weights[i]
            g = g + 0.05 * decay_mult * penalty
            weights[i] = loop(weights[i], g, kept[i], rate * lr_mult, time)
            np.testing.assert_allclose(params[i].detach().numpy(), weights[i], rtol=1e-9)


@pytest.mark.parametrize("kind", BUILT_IN, ids=lambda kind: kind.type_name)
def test_an_optimiser_trains_any_module_under_any_schedule_and_goes_on_from_its_state(
    kind: type[SolverOptimizer],
) -> None:
    def run(broken_off: bool) -> torch.Tensor:
        torch.manual_seed(0)
        module = torch.nn.Linear(3, 2)
        optimiser = kind(module.parameters(), lr=0.01)
        for step in range(6):
            if broken_off and step == 3:
                kept = optimiser.state_dict()
                optimiser = kind(module.parameters(), lr=0.5)
                optimiser.load_state_dict(kept)
            optimiser.zero_grad()
            module(torch.ones(4, 3) * step).square().sum().backward()
            optimiser.step()
        return module.weight.detach()

    assert torch.equal(run(broken_off=True), run(broken_off=False))


def test_a_rate_that_drops_leaves_the_momentum_of_the_past_as_it_was() -> None:
    def after(rates: list[float], kind: Any) -> float:
        w = torch.nn.Parameter(torch.zeros(1))
        optimiser = kind([w], lr=1.0, momentum=0.5)
        for rate in rates:
            optimiser.param_groups[0]["lr"] = rate
            w.grad = torch.ones(1)
            optimiser.step()
        return float(w.detach())

    assert after([1.0, 1.0], SGD) == after([1.0, 1.0], torch.optim.SGD) == -2.5
    assert after([1.0, 0.0], SGD) == -1.5
    assert after([1.0, 0.0], torch.optim.SGD) == -1.0


@pytest.mark.parametrize("rate", [1.0, 1e-3, 1e-6, 1e-8, 0.0])
def test_the_one_operation_of_sgd_is_the_same_as_its_parts(rate: float) -> None:
    class Parts(SGD):
        """Not SGD itself, so in parts."""

    ends = []
    for kind in (SGD, Parts):
        torch.manual_seed(0)
        w = torch.nn.Parameter(torch.randn(1000))
        optimiser = kind([w], lr=rate, momentum=0.9, weight_decay=0.01)
        for _ in range(5):
            w.grad = torch.randn(1000)
            optimiser.step()
        ends.append((w.detach(), optimiser.state[w]["history"]))
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6 * rate)


def test_adamw_is_torchs_where_the_divisor_is_far_from_0() -> None:
    results = []
    for kind, options in (
        (AdamW, {"momentum": 0.9, "momentum2": 0.99, "delta": 0.0}),
        (torch.optim.AdamW, {"betas": (0.9, 0.99), "eps": 0.0}),
    ):
        w = torch.nn.Parameter(torch.ones(3))
        optimiser = kind([w], lr=0.1, weight_decay=0.05, **options)
        for step in range(5):
            w.grad = torch.tensor([1.0, -2.0, 3.0]) + step
            optimiser.step()
        results.append(w.detach())
    torch.testing.assert_close(*results)


def test_a_param_without_a_gradient_is_passed_over() -> None:
    w = torch.nn.Parameter(torch.ones(2))
    SGD([w], lr=1.0, weight_decay=0.5).step()
    assert w.tolist() == [1, 1]


def test_gradients_below_the_limit_are_not_clipped_and_a_nan_clips_nothing() -> None:
    for grad, expected in (([0.3, 0.4], [0.3, 0.4]), ([3.0, 4.0], [0.6, 0.8])):
        w = torch.nn.Parameter(torch.zeros(2))
        w.grad = torch.tensor(grad)
        SGD([w], lr=-1.0, clip_gradients=1.0).step()
        torch.testing.assert_close(w.detach(), torch.tensor(expected))
    w = torch.nn.Parameter(torch.zeros(2))
    w.grad = torch.tensor([math.nan, 2.0])
    SGD([w], lr=-1.0, clip_gradients=1.0).step()
    assert w[1] == 2


def test_a_closure_is_run_with_gradients() -> None:
    w = torch.nn.Parameter(torch.ones(1))
    optimiser = SGD([w], lr=0.5)

    def closure() -> float:
        optimiser.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss.item()

    assert optimiser.step(closure) == 1.0
    assert w.item() == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regularization_type": "l2"}, 'there is no regularization_type "l2". Did you mean "L2"?'),
        ({"iter_size": 0}, "iter_size must be 1 or more, found 0"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TorrefyError) as error:
        SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0, **options)
    assert str(error.value) == message


@pytest.mark.usefixtures("bare")
def test_every_built_in_type_is_found_by_its_name() -> None:
    assert list(solver_types()) == [kind.type_name for kind in BUILT_IN]
    assert solver_types()["RMSProp"] is RMSProp


def test_a_type_of_a_plugin_is_found(installed: Callable[..., Any]) -> None:
    installed(
        "signs",
        """
import torch
from torrefy.plugins import hookimpl
from torrefy.train.optimisers import SolverOptimizer
from torrefy.train.policies import policy
TORREFY_API = 1

class Signs(SolverOptimizer):
    type_name = "Signs"
    histories = ()

    def update(self, group, rate, params, grads):
        torch._foreach_add_(params, torch._foreach_sign(grads), alpha=-rate)

@policy("halves")
def halves(parameter, progress):
    return parameter.base_lr / 2 ** progress.iteration

@hookimpl
def torrefy_solvers():
    return [Signs]

@hookimpl
def torrefy_lr_policies():
    return [halves]
""",
    )
    from torrefy.train.policies import Progress, policies

    w = torch.nn.Parameter(torch.zeros(2))
    w.grad = torch.tensor([3.0, -4.0])
    optimiser = solver_types()["Signs"]([w], lr=0.5)
    optimiser.step()
    assert w.tolist() == [-0.5, 0.5]
    assert optimiser.history([w]) == []

    class Parameter:
        base_lr = 1.0

    assert policies()["halves"].rate(Parameter, Progress(2)) == 0.25
