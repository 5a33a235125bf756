"""Learning-rate policies: their formulae, for any numbers, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torrefy.errors import DefinitionError
from torrefy.schema import parse_text
from torrefy.train.policies import BUILT_IN, Progress, find_policy, learning_rate, policies


def rate(text: str, iteration: int, current_step: int = 0) -> float:
    definition = parse_text(text, "caffe.SolverParameter", "s.prototxt")
    progress = Progress(iteration, current_step)
    return learning_rate(find_policy(definition), definition.message, progress)


def near(value: float) -> Any:
    return pytest.approx(value, rel=1e-5, abs=1e-30)


iterations = st.integers(0, 2_000_000)
rates = st.floats(2**-20, 8, width=32)
gammas = st.floats(0, 1, width=32)
powers = st.floats(0, 4, width=32)
steps = st.integers(1, 1_000_000)


@pytest.mark.parametrize("most", [7, 10, 300])
def test_the_one_cycle_is_that_of_torch(most: int) -> None:
    param = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([param], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.5, total_steps=most)
    for i in range(most):
        text = f'base_lr: 0.5 max_iter: {most} lr_policy: "one_cycle"'
        assert rate(text, i) == near(theirs.get_last_lr()[0])
        if i < most - 1:
            optimiser.step()
            theirs.step()
    assert rate(f"{text} min_lr: 0.01", most + 5) == near(0.01)


@given(rates, gammas, steps, iterations)
def test_step_and_exp_drop_by_gamma(base: float, gamma: float, size: int, i: int) -> None:
    text = f"base_lr: {base!r} gamma: {gamma!r} stepsize: {size} lr_policy: "
    assert rate(text + '"step"', i) == near(base * gamma ** (i // size))
    assert rate(text + '"exp"', i) == near(base * gamma**i)
    assert rate(text + '"fixed"', i) == near(base)


@given(rates, gammas, powers, iterations)
def test_inv_falls_and_never_rises(base: float, gamma: float, power: float, i: int) -> None:
    text = f'base_lr: {base!r} gamma: {gamma!r} power: {power!r} lr_policy: "inv"'
    now = rate(text, i)
    assert now == near(base * (1 + gamma * i) ** -power)
    assert 0 <= rate(text, i + 1) <= now <= base * 1.0001


@given(rates, powers, steps, iterations)
def test_poly_and_cosine_end_at_max_iter_and_stay(
    base: float, power: float, most: int, i: int
) -> None:
    text = f"base_lr: {base!r} power: {power!r} max_iter: {most} lr_policy: "
    left = max(0.0, 1 - i / most)
    assert rate(text + '"poly"', i) == near(base * left**power)
    wave = rate(text + '"cosine" min_lr: 1e-7', i)
    assert 1e-7 * 0.99 <= wave <= max(base, 1e-7) * 1.0001
    assert rate(text + '"cosine"', most + i) == near(0)


@given(rates, gammas, steps, iterations)
def test_sigmoid_rises_to_the_base(base: float, gamma: float, size: int, i: int) -> None:
    text = f'base_lr: {base!r} gamma: {gamma!r} stepsize: {size} lr_policy: "sigmoid"'
    assert 0 <= rate(text, i) <= rate(text, i + 1) <= base * 1.0001
    assert rate(text, size) == near(base / 2)


@given(st.lists(st.integers(0, 40), max_size=5).map(sorted), gammas)
def test_multistep_drops_once_an_iteration_at_most(values: list[int], gamma: float) -> None:
    text = "".join(f"stepvalue: {v} " for v in values)
    definition = parse_text(
        f'base_lr: 1 gamma: {gamma!r} lr_policy: "multistep" {text}', "caffe.SolverParameter"
    )
    found, progress = find_policy(definition), Progress()
    for i in range(50):
        progress.iteration = i
        before = progress.current_step
        now = learning_rate(found, definition.message, progress)
        assert progress.current_step - before in (0, 1)
        assert progress.current_step <= sum(v <= i for v in values)
        assert now == near(definition.message.gamma**progress.current_step)
    assert progress.current_step == len(values)


@given(rates, steps, iterations)
def test_a_warm_up_rises_in_a_line_and_then_leaves_the_policy_alone(
    base: float, size: int, i: int
) -> None:
    text = f'base_lr: {base!r} lr_policy: "fixed" warmup_iter: {size}'
    assert rate(text, i) == near(base * min(1, i / size))
    assert rate(text + f" warmup_lr: {base!r}", i) == near(base)


def test_a_rate_too_large_for_a_number_is_infinite() -> None:
    assert rate('base_lr: 1 gamma: 10 lr_policy: "exp"', 10_000) == math.inf


def test_a_rate_that_is_looked_at_is_not_counted() -> None:
    definition = parse_text(
        'base_lr: 1 gamma: 0.5 stepsize: 2 lr_policy: "step"', "caffe.SolverParameter"
    )
    progress = Progress(5)
    assert learning_rate(find_policy(definition), definition.message, progress) == 0.25
    assert progress == Progress(5, 2)


@pytest.mark.usefixtures("bare")
def test_every_built_in_policy_is_found_by_its_name() -> None:
    assert list(policies()) == [one.name for one in BUILT_IN]
    assert list(policies()) == [
        "fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid", "cosine",
        "one_cycle",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('base_lr: 1 lr_policy: "stepp"', 's.prototxt:1:23: there is no lr_policy "stepp". Did you '
         'mean "step"?'),
        ('lr_policy: "adaptive"', 's.prototxt:1:12: there is no lr_policy "adaptive". There are '
         "fixed, step, exp, inv, multistep, poly, sigmoid, cosine, one_cycle."),
        ("base_lr: 1", 's.prototxt:1:1: lr_policy is missing. Give lr_policy: "fixed" for a '
         "constant rate."),
        ('lr_policy: "step" gamma: 0.1', 's.prototxt:1:12: lr_policy "step" needs stepsize, which '
         "is missing. Give stepsize: …"),
        ('lr_policy: "step" stepsize: 0 gamma: -1', "s.prototxt:1:29: stepsize must be above 0, "
         "found 0\ns.prototxt:1:38: gamma must be 0 or more, found -1"),
        ('lr_policy: "poly"', 's.prototxt:1:12: lr_policy "poly" needs max_iter, which is missing. '
         "Give max_iter: …"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("bare")
def test_what_a_policy_refuses(text: str, message: str) -> None:
    with pytest.raises(DefinitionError) as error:
        rate(text, 0)
    assert str(error.value) == message
