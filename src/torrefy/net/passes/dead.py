"""Leave out the layers that the chosen outputs don't depend on."""

from __future__ import annotations

from torrefy.net.passes.plan import Change, Pass, Plan


def run(plan: Plan) -> list[Change]:
    """Keep what leads to the outputs."""
    read = set(plan.outputs)
    kept, changes = [], []
    for step in reversed(plan.steps):
        if read.intersection(step.tops):
            read.update(step.bottoms)
            kept.append(step)
        else:
            changes.append(step.change("left out: no output depends on it"))
    plan.steps = kept[::-1]
    return changes[::-1]


DEAD = Pass("dead-branches", "leave out what no output depends on", run)
