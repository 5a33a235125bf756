"""A training that goes wrong ends at once, with the layer where it began."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.train.conftest import NET, SOLVER

from torrefy.train.divergence import DivergedError
from torrefy.train.feed import Arrays
from torrefy.train.solver import Solver

Make = Callable[..., Solver]


def test_weights_that_explode_are_told(make: Make) -> None:
    solver = make(text=SOLVER.replace("base_lr: 0.1", "base_lr: 1e30"))
    with pytest.raises(DivergedError) as error:
        solver.solve()
    assert str(error.value).startswith('net.prototxt:6:1: layer "ip1": the loss of iteration ')
    assert "it began with this layer's weights, which the update before made infinite" in str(
        error.value
    )
    assert str(error.value).endswith(
        "Lower base_lr or lr_mult, or set clip_gradients: the gradients have exploded."
    )


def test_a_top_that_is_no_number_is_told_before_the_update_spoils_the_weights(
    make: Make, folder: Path
) -> None:
    net = NET.replace(
        'name: "relu" type: "ReLU" bottom: "norm"', 'name: "log" type: "Log" bottom: "norm"'
    )
    (folder / "net.prototxt").write_text(net)
    solver = make()
    with pytest.raises(DivergedError) as error:
        solver.step(1)
    assert str(error.value) == (
        'net.prototxt:9:1: layer "log": the loss of iteration 0 is NaN: it began with this '
        'layer\'s top "norm", which has NaN where its bottoms have none. Lower base_lr, or set '
        "clip_gradients; a Log or Power layer, or a division by 0, does it, too."
    )
    assert all(p.isfinite().all() for p in solver.net.parameters())


def test_data_that_are_no_numbers_are_told(make: Make) -> None:
    data = np.zeros((4, 5), np.float32)
    data[2, 3] = np.nan
    solver = make(feeds=Arrays({"data": data, "label": np.zeros(4)}, 4))
    with pytest.raises(DivergedError) as error:
        solver.step(1)
    assert str(error.value) == (
        'the loss of iteration 0 is NaN: the data already hold NaN, in the input "data". '
        "`torrefy data verify` finds the record."
    )


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (lambda i: 87.3365, "the loss stays at 87.3365: the softmax gives every picture's own"),
        (lambda i: 10.0**i, "the loss has grown from 1 to 1e+07 at iteration 7"),
    ],
)
def test_a_loss_that_is_stuck_or_explodes_ends_the_training(
    make: Make, monkeypatch: pytest.MonkeyPatch, loss: Callable[[int], float], told: str
) -> None:
    solver = make()
    real = solver.net.loss
    monkeypatch.setattr(
        solver.net, "loss", lambda tops: 0 * real(tops) + torch.tensor(loss(solver.iteration))
    )
    with pytest.raises(DivergedError, match="the loss") as error:
        solver.solve()
    assert str(error.value).startswith(told)
    watched = make(check_loss=False)
    monkeypatch.setattr(watched.net, "loss", lambda tops: 0 * real(tops) + torch.tensor(87.3365))
    watched.solve()
    assert watched.iteration == 30
