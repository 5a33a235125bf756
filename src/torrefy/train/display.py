"""What a training says as it goes: Caffe's lines, which its users' scripts read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor


def iteration_line(iteration: int, loss: float, speed: tuple[float, int] | None = None) -> str:
    """`Iteration 100 (12.5 iter/s, 8s/100 iters), loss = 0.42`.

    Args:
        iteration: updates made.
        loss: averaged.
        speed: seconds and iterations since the last line; None: not known.
    """
    told = ""
    if speed and speed[1] and speed[0] > 0:
        seconds, count = speed
        told = f" ({count / seconds:g} iter/s, {seconds:g}s/{count} iters)"
    return f"Iteration {iteration}{told}, loss = {loss:g}"


def rate_line(iteration: int, rate: float) -> str:
    """`Iteration 100, lr = 0.01`."""
    return f"Iteration {iteration}, lr = {rate:g}"


def output_lines(
    what: str, blobs: Mapping[str, Tensor], weights: Mapping[str, float]
) -> Iterator[str]:
    """`    Train net output #0: loss = 0.42 (* 1 = 0.42 loss)`, a line each number.

    Args:
        what: "Train" or "Test".
        blobs: the net's outputs.
        weights: the loss weights of those that count in the loss.
    """
    number = 0
    for name, blob in blobs.items():
        weight = weights.get(name, 0.0)
        for value in blob.detach().flatten().tolist():
            loss = f" (* {weight:g} = {weight * value:g} loss)" if weight else ""
            yield f"    {what} net output #{number}: {name} = {value:g}{loss}"
            number += 1
