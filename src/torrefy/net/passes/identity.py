"""Leave out layers that hand on what they read: Dropout, Split, Concat of one, Power of nothing."""

from __future__ import annotations

from torrefy.layers.arithmetic import Power
from torrefy.layers.dropout import Dropout
from torrefy.layers.shape import Concat, Split
from torrefy.net.passes.plan import Change, Pass, Plan, Step


def run(plan: Plan) -> list[Change]:
    """Let whoever reads such a layer read what it reads. Outputs keep their names."""
    changes = []
    for step in list(plan.steps):
        if _hands_on(step) and _bypassed(plan, step):
            changes.append(step.change("left out: it hands on what it reads"))
    return changes


def _hands_on(step: Step) -> bool:
    layer = step.layer
    if isinstance(layer, Concat):
        return len(step.bottoms) == 1
    if isinstance(layer, Power):
        return (layer.power, layer.scale, layer.shift) == (1, 1, 0)
    return isinstance(layer, Dropout | Split)


def _bypassed(plan: Plan, step: Step) -> bool:
    (value,) = step.bottoms
    asked = [top for top in step.tops if top in plan.outputs]
    if not asked:
        plan.steps.remove(step)
        for top in step.tops:
            plan.rename(top, value)
        return True
    # One output can have its name from the layer above, unless that blob is asked for, too.
    if len(asked) > 1 or value in plan.outputs or value not in plan.producers():
        return False
    plan.steps.remove(step)
    for top in step.tops:
        plan.rename(top, value)
    plan.rename(value, asked[0])
    return True


IDENTITY = Pass("identities", "leave out Dropout, Split and the like", run)
