"""A training that goes wrong: seen at once, with the layer where it began, and likely reasons."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torrefy.errors import TorrefyError

if TYPE_CHECKING:
    from torrefy.net.net import Net

SATURATED = 87.3365
"""-ln(FLT_MIN), the most that Caffe's softmax loss can be: each picture's class has probability
0."""
PATIENCE = 20
"""Looks in a row at a saturated loss before it counts as stuck."""
GROWN = 1e6
"""How many times its first value a loss may be."""
ON_CUDA = 20
"""Iterations between two looks on a GPU, which each look waits for."""


class DivergedError(TorrefyError):
    """A training has left what numbers can tell, or learns no more."""


class LossWatch:
    """Looks at the losses of a training."""

    def __init__(
        self, device: torch.device, before_telling: Callable[[], None] = lambda: None
    ) -> None:
        """Take where the losses are.

        Args:
            device: it.
            before_telling: called when something is wrong, before the net is run once more to
                find the layer.
        """
        self._before_telling = before_telling
        self.every = 1 if device.type == "cpu" else ON_CUDA
        self._count = 0
        self._stuck = 0
        self._first: float | None = None
        self._last = math.nan

    def look(self, net: Net, loss: Tensor, batch: Mapping[str, Tensor], iteration: int) -> None:
        """Look at an iteration's loss, before its update is made.

        Args:
            net: the net that is trained.
            loss: its loss.
            batch: the inputs that gave it.
            iteration: updates made.

        Raises:
            DivergedError: it is no finite number, has grown a million times, or stays where a
                softmax has saturated; with the layer where it began.
        """
        self._count += 1
        if self._count % self.every:
            return
        value = loss.item()
        self._stuck = self._stuck + 1 if abs(value - SATURATED) < 0.01 else 0
        if not math.isfinite(value):
            self._before_telling()
            raise explain(net, batch, iteration, value, self._last)
        if self._first is None:
            self._first = value
        if abs(value) > GROWN * max(1.0, abs(self._first)):
            raise DivergedError(
                f"the loss has grown from {self._first:g} to {value:g} at iteration {iteration}",
                hint="Lower base_lr, or set clip_gradients.",
            )
        if self._stuck >= PATIENCE:
            raise DivergedError(
                f"the loss stays at {SATURATED}: the softmax gives every picture's own class the "
                "probability 0, and nothing is learned any more",
                hint="Lower base_lr, or scale the data (transform_param { scale: 0.00390625 }).",
            )
        self._last = value


def explain(
    net: Net, batch: Mapping[str, Tensor], iteration: int, loss: float, last: float
) -> DivergedError:
    """Why a loss is no number: the first layer whose params or tops are not finite.

    Args:
        net: as it was when it gave the loss.
        batch: the inputs that gave it.
        iteration: updates made.
        loss: the loss that is not finite.
        last: the last one that was; NaN: there is none.
    """
    what = f"the loss of iteration {iteration} is {_told(loss)}"
    after = "" if math.isnan(last) else f" after {last:g}"
    for name, values in batch.items():
        if not values.isfinite().all():
            return DivergedError(
                f'{what}{after}: the data already hold {_kind(values)}, in the input "{name}"',
                hint="`torrefy data verify` finds the record.",
            )
    layer = next(_spoilt_params(net), None)
    if layer is not None:
        return _placed(
            net,
            layer,
            f"{what}{after}: it began with this layer's weights, which the update before made "
            "infinite or no numbers",
            "Lower base_lr or lr_mult, or set clip_gradients: the gradients have exploded.",
        )
    layer, blob, values = _spoilt_top(net, batch)
    if layer is None:
        return DivergedError(f"{what}{after}", hint="Lower base_lr, or set clip_gradients.")
    largest = max((b.abs().max().item() for b in net.layers[layer].blobs if b.numel()), default=0.0)
    grown = f"; its weights reach {largest:g}" if largest > 1e3 else ""
    return _placed(
        net,
        layer,
        f'{what}{after}: it began with this layer\'s top "{blob}", which has {_kind(values)} where '
        f"its bottoms have none{grown}",
        "Lower base_lr, or set clip_gradients; a Log or Power layer, or a division by 0, does it, "
        "too.",
    )


def _spoilt_params(net: Net) -> Iterator[str]:
    for node in net.graph.nodes:
        if any(not blob.isfinite().all() for blob in net.layers[node.key].blobs):
            yield node.key


def _spoilt_top(net: Net, batch: Mapping[str, Tensor]) -> tuple[str | None, str, Tensor]:
    """The first layer with a top that isn't finite: its key, the blob's name, its values."""
    from torrefy.train.debug import Watched

    with torch.no_grad():
        values = Watched(net, dict(batch)).values
    for node in net.graph.nodes:
        for name, value in zip(node.spec.top, node.tops, strict=True):
            top = values.get(value)
            if top is not None and not top.isfinite().all():
                return node.key, name, top
    return None, "", torch.empty(0)


def _placed(net: Net, key: str, message: str, hint: str) -> DivergedError:
    """An error at a layer, with its place in the net's text."""
    index = next(i for i, node in enumerate(net.graph.nodes) if node.key == key)
    node = net.graph.nodes[index]
    return DivergedError(message, place=node.place, layer=node.name, hint=hint)


def _kind(values: Tensor) -> str:
    nan, infinite = bool(values.isnan().any()), bool(values.isinf().any())
    return " and ".join(
        word for word, there in (("NaN", nan), ("infinite numbers", infinite)) if there
    )


def _told(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{value:g}"
