"""Compute of a plane only the places that 1x1 convolutions with a stride read of it."""

from __future__ import annotations

from typing import Any

from torrefy.layers.activation import ReLU
from torrefy.layers.convolution import Convolution
from torrefy.layers.elementwise import Eltwise
from torrefy.layers.pooling import Pooling
from torrefy.net.passes.affine import affine_of
from torrefy.net.passes.plan import Change, Pass, Plan, Step
from torrefy.schema import new_message

Stride = tuple[int, ...]


def run(plan: Plan) -> list[Change]:
    """Hand the stride to the convolutions above, through ReLU, Eltwise and the like.

    Residual nets end a stage so: two 1x1 convolutions of stride 2 read the sum of a branch and a
    shortcut. The branch then has the stride, and the shortcut a pooling of 1x1 windows.
    """
    changes: list[Change] = []
    strides: dict[str, Stride] = {}
    """Those that were changed, by the convolution's name."""
    for value in [top for step in plan.steps for top in step.tops][::-1]:
        stride = _asked(plan, value, strides)
        if stride is None:
            continue
        above = _above(plan, value)
        if not above.convolutions:
            continue
        for step in above.convolutions:
            own = _stride(step, strides)
            _set_stride(step, tuple(a * b for a, b in zip(own, stride, strict=True)), strides)
            changes.append(step.change(f"has the stride of what reads {value}"))
        for step in [step for step in plan.steps if value in step.bottoms]:
            _set_stride(step, (1, 1), strides)
        for other, readers in above.ends:
            _thin(plan, other, readers, stride)
    return changes


class _Above:
    """What makes a value, as far up as each number depends on those at its own place alone."""

    def __init__(self) -> None:
        self.convolutions: list[Step] = []
        """Where the way up ends in a convolution."""
        self.ends: list[tuple[str, list[Step]]] = []
        """Where it ends otherwise: a value, and who reads it on this way."""


def _asked(plan: Plan, value: str, strides: dict[str, Stride]) -> Stride | None:
    """The stride in which all that read a value read it; None: not in one, or every number."""
    if value in plan.outputs:
        return None
    found = set()
    for step in plan.steps:
        if value in step.bottoms:
            plain = _is_plain(step) and step.layer.kernel == (1, 1) and step.layer.pad == (0, 0)
            found.add(_stride(step, strides) if plain else (1, 1))
    stride = found.pop() if len(found) == 1 else (1, 1)
    return None if stride == (1, 1) else stride


def _is_plain(step: Step) -> bool:
    """Whether a step is one convolution over two spatial axes."""
    layer = step.layer
    return (
        isinstance(layer, Convolution)
        and layer.num_tops == 1
        and layer.spatial_axes == 2
        and layer.channel_axis == 1
    )


def _above(plan: Plan, value: str) -> _Above:
    above = _Above()
    producers = plan.producers()
    waiting: list[tuple[str, list[Step]]] = [(value, [])]
    while waiting:
        name, readers = waiting.pop()
        maker = producers.get(name)
        alone = name == value or plan.only_reader(name) is not None
        if maker is None or not alone:
            above.ends.append((name, readers))
        elif _is_plain(maker):
            above.convolutions.append(maker)
        elif _by_place(plan, maker):
            waiting += [(bottom, [maker]) for bottom in dict.fromkeys(maker.bottoms)]
        else:
            above.ends.append((name, readers))
    return above


def _by_place(plan: Plan, step: Step) -> bool:
    """Whether each number of a step's top depends on those at its place alone."""
    return len(step.tops) == 1 and (
        isinstance(step.layer, ReLU | Eltwise) or affine_of(plan, step) is not None
    )


def _stride(step: Step, strides: dict[str, Stride]) -> Stride:
    """A convolution's stride, as this pass has left it."""
    own: Any = step.layer.stride
    found: Stride = strides.get(step.name, own)
    return found


def _set_stride(step: Step, stride: Stride, strides: dict[str, Stride]) -> None:
    strides[step.name] = stride
    given = step.spec.convolution_param
    for name in ("stride", "stride_h", "stride_w"):
        given.ClearField(name)
    given.stride.extend(stride)


def _thin(plan: Plan, value: str, readers: list[Step], stride: Stride) -> None:
    """Let some read only each stride-th number of a value, by a pooling of one-number windows."""
    spec = new_message("caffe.LayerParameter")
    spec.name, spec.type = f"{value}/read by {readers[0].name}", "Pooling"
    given = spec.pooling_param
    given.kernel_size, given.round_mode = 1, given.FLOOR
    given.stride_h, given.stride_w = stride
    thinned = Step(Pooling(spec), spec, [value], [spec.name], [])
    plan.steps.insert(min(plan.steps.index(step) for step in readers), thinned)
    for step in readers:
        step.bottoms = [spec.name if bottom == value else bottom for bottom in step.bottoms]


STRIDE = Pass("move-strides", "compute only what 1x1 convolutions with a stride read", run)
