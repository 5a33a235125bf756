"""Make one Scale of a run of affine layers that no layer before it could take."""

from __future__ import annotations

import torch

from torrefy.layers.normalization import BatchNorm
from torrefy.net.passes.affine import affine_of, variable_bottom
from torrefy.net.passes.behind import combined, run_behind, take_over
from torrefy.net.passes.plan import Change, Pass, Plan


def run(plan: Plan) -> list[Change]:
    """Merge; a BatchNorm alone and an Eltwise with constants become a Scale, too."""
    changes = []
    for step in list(plan.steps):
        if step not in plan.steps or affine_of(plan, step) is None:
            continue
        rest = run_behind(plan, step)
        if not rest and not isinstance(step.layer, BatchNorm) and len(step.bottoms) == 1:
            continue
        affine = combined(plan, [step, *rest])
        number = plan.net.layers[step.name].blobs[0].dtype if step.blobs else torch.float32
        blobs = [affine.factor.to(number), affine.offset.to(number)]
        if not all(torch.isfinite(blob).all() for blob in blobs):
            continue
        changes.append(step.change("became a Scale"))
        changes += [other.change(f"folded into {step.name}") for other in rest]
        step.bottoms = [variable_bottom(plan, step)]
        if step.layer.param:
            step.spec.ClearField(step.layer.param)
        step.spec.type = "Scale"
        step.spec.scale_param.bias_term = True
        step.blobs, step.affine = blobs, affine
        take_over(plan, step, rest or [step]) if rest else None
    return changes


MERGE = Pass("merge-affine", "make one Scale of a run of BatchNorm, Scale, Bias and Power", run)
