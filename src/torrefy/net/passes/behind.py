"""Fold runs of affine layers into the Convolution, Deconvolution or InnerProduct before them."""

from __future__ import annotations

from functools import reduce

from torrefy.layers.base import Layer
from torrefy.layers.convolution import Convolution, Deconvolution
from torrefy.layers.inner_product import InnerProduct
from torrefy.net.passes.affine import Affine, affine_of, folded_behind, put
from torrefy.net.passes.plan import Change, Pass, Plan, Step


def run(plan: Plan) -> list[Change]:
    """Fold wherever nothing else reads what lies between."""
    changes = []
    for step in list(plan.steps):
        if not _absorbs(step.layer):
            continue
        chain = run_behind(plan, step)
        if not chain or not put(step, *folded_behind(step, combined(plan, chain))):
            continue
        changes += [other.change(f"folded into {step.name}") for other in chain]
        take_over(plan, step, chain)
    return changes


def run_behind(plan: Plan, step: Step) -> list[Step]:
    """The affine layers that follow, each the only reader of the one before."""
    found: list[Step] = []
    reader = plan.only_reader(step.tops[0])
    while reader is not None and affine_of(plan, reader) is not None:
        found.append(reader)
        reader = plan.only_reader(reader.tops[0])
    return found


def combined(plan: Plan, chain: list[Step]) -> Affine:
    """One affine map for several in a row."""
    found = [affine for step in chain if (affine := affine_of(plan, step)) is not None]
    return reduce(Affine.then, found)


def take_over(plan: Plan, step: Step, chain: list[Step]) -> None:
    """Let a step make what the last of a run made, and take the run out."""
    top = chain[-1].tops[0]
    for other in reversed(chain):
        plan.steps = [kept for kept in plan.steps if kept is not other]
    step.tops = [top]
    sweep(plan)


def sweep(plan: Plan) -> None:
    """Take out constants that nothing reads any more."""
    readers = plan.readers()
    plan.steps = [s for s in plan.steps if not s.tops or any(readers[top] for top in s.tops)]


def _absorbs(layer: Layer) -> bool:
    """Whether the layer's output channels are its top's axis 1, and it makes one top."""
    if isinstance(layer, InnerProduct):
        return layer.start == 1
    return layer.num_tops == 1 and isinstance(layer, Convolution | Deconvolution) and (
        layer.channel_axis == 1
    )  # fmt: skip


BEHIND = Pass(
    "fold-behind",
    "fold BatchNorm, Scale, Bias, Power and constant Eltwise into the layer before",
    run,
)
