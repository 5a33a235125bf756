"""Fold an affine layer into the InnerProduct or Convolution behind it, where that is exact."""

from __future__ import annotations

from torrefy.layers.convolution import Convolution, Deconvolution
from torrefy.layers.inner_product import InnerProduct
from torrefy.net.passes.affine import Affine, affine_of, folded_in_front, put, variable_bottom
from torrefy.net.passes.behind import sweep
from torrefy.net.passes.plan import Change, Pass, Plan, Step

MOST_CANCELLED = 64.0
"""A BatchNorm whose mean is more than so many deviations stays: behind a product the subtraction
would lose 6 bits more."""


def run(plan: Plan) -> list[Change]:
    """Fold wherever nothing else reads what lies between."""
    changes = []
    for step in list(plan.steps):
        if not step.bottoms or plan.only_reader(step.bottoms[0]) is not step:
            continue
        before = plan.producers().get(step.bottoms[0])
        affine = None if before is None else affine_of(plan, before)
        if before is None or affine is None or not _exact(step, affine):
            continue
        weight, more = folded_in_front(step, affine)
        if not put(step, weight, more + (step.blobs[1].double() if len(step.blobs) > 1 else 0)):
            continue
        changes.append(before.change(f"folded into {step.name}"))
        step.bottoms = [variable_bottom(plan, before)]
        plan.steps = [kept for kept in plan.steps if kept is not before]
        sweep(plan)
    return changes


def _exact(step: Step, affine: Affine) -> bool:
    """Whether the layer reads channels, and margins of zeros don't see the offset."""
    layer = step.layer
    if affine.cancels > MOST_CANCELLED:
        return False
    if isinstance(layer, InnerProduct):
        return layer.start == 1
    if not isinstance(layer, Convolution | Deconvolution):
        return False
    if layer.num_tops != 1 or layer.channel_axis != 1:
        return False
    padded = any(layer.pad) or isinstance(layer, Deconvolution)
    return not (padded and affine.offset.any())


FRONT = Pass("fold-in-front", "fold a factor and offset into the unpadded layer behind", run)
