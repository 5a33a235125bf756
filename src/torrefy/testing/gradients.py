"""The check of a layer's gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from torrefy.testing.failure import fail, told
from torrefy.testing.use import Use, layer_of, offered

ATOL, RTOL = 1e-4, 1e-3
"""How far a gradient may be from what finite differences give."""
STEP = 1e-6
"""Of the finite differences that a message tells of."""
MOST_PAIRS = 100_000
"""With more pairs of a number that goes in and one that comes out, gradients are compared along
random directions, not one by one."""
MOST_TOLD = 100
"""How many numbers of a tensor are looked at to tell the worst gradient of a large layer."""
Run = Callable[..., tuple[Tensor, ...]]


def check_gradients(use: Use) -> None:
    """The gradients of bottoms and params are those of finite differences, in float64.

    Raises:
        AssertionError: the gradient that is furthest off.
    """
    if not use.smooth:
        return
    with offered(use.layer), told(use.type):
        net = use.net().double()
        given = use.values(net)
        counted = [use.is_counted(i, net) for i in range(len(given))]
        values = [
            x if c else x.requires_grad_() for x, c in zip(given.values(), counted, strict=True)
        ]
        params = {name.rpartition(".")[2]: p for name, p in net.named_parameters()}
        names = [*(f'bottom "{name}"' for name in given), *(f"param {name}" for name in params)]
        found: list[str] = []

        def run(*tensors: Tensor) -> tuple[Tensor, ...]:
            layer_of(net).reset()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                blobs = net.run(dict(zip(given, tensors, strict=False)))
            found[:] = [name for name, v in blobs.items() if v.requires_grad]
            return tuple(blobs[name] for name in found)

        tensors = [*values, *params.values()]
        if not any(tensor.requires_grad for tensor in tensors):
            return
        if not run(*tensors):
            fail(
                use.type,
                "no gradient goes through it; say smooth=False where there is none to go",
            )
        learned = sum(tensor.numel() for tensor in tensors if tensor.requires_grad)
        large = learned * sum(top.numel() for top in run(*tensors)) > MOST_PAIRS
        try:
            torch.autograd.gradcheck(run, tensors, atol=ATOL, rtol=RTOL, fast_mode=large)
        except GradcheckError as error:
            sentence = _furthest(run, tensors, names, found)
            first = " ".join(str(error).split("\n", 1)[0].split())
            fail(use.type, sentence or f"the gradient check failed: {first}")


def _furthest(run: Run, tensors: list[Tensor], names: list[str], tops: list[str]) -> str:
    """The gradient that is furthest from the finite difference, in a sentence."""
    worst, sentence = 0.0, ""
    outputs = run(*tensors)
    wanted = [i for i, tensor in enumerate(tensors) if tensor.requires_grad]
    exact: dict[tuple[int, int, int], Tensor] = {}
    for o, output in enumerate(outputs):
        for j in _some(output):
            number = output.flatten()[j]
            grads = torch.autograd.grad(
                number, [tensors[i] for i in wanted], retain_graph=True, allow_unused=True
            )
            for i, grad in zip(wanted, grads, strict=True):
                exact[o, j, i] = torch.zeros_like(tensors[i]) if grad is None else grad
    for i in wanted:
        numbers = tensors[i].detach().view(-1)
        for k in _some(numbers):
            start = numbers[k].item()
            sides = []
            for step in (STEP, -STEP):
                numbers[k] = start + step
                sides.append([output.detach().clone() for output in run(*tensors)])
            numbers[k] = start
            for o, (high, low) in enumerate(zip(*sides, strict=True)):
                slopes = ((high - low) / (2 * STEP)).flatten()
                for j in _some(slopes):
                    slope = slopes[j].item()
                    gradient = exact[o, j, i].flatten()[k].item()
                    off = abs(gradient - slope) - ATOL - RTOL * abs(slope)
                    if off > worst + STEP:
                        worst = off
                        sentence = (
                            f'the gradient of top "{tops[o]}" at {_at(j, outputs[o])} by '
                            f"{names[i]} at {_at(k, tensors[i])} is {gradient:.4g} where finite "
                            f"differences give {slope:.4g}"
                        )
    return sentence


def _some(tensor: Tensor) -> range:
    """Places in a tensor: all, or some of a large one."""
    return range(0, tensor.numel(), max(1, tensor.numel() // MOST_TOLD))


def _at(index: int, tensor: Tensor) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(index, tuple(tensor.shape)))
