"""Give each channel a group of its own where no weight joins two: upsampling, in most nets."""

from __future__ import annotations

from torrefy.layers.convolution import Convolution, Deconvolution
from torrefy.net.passes.plan import Change, Pass, Plan, Step


def run(plan: Plan) -> list[Change]:
    """Keep the diagonal of the weights. FCN's bilinear Deconvolutions are so, with group 1."""
    changes = []
    for step in plan.steps:
        if _is_diagonal(step):
            weight = step.blobs[0]
            step.blobs[0] = weight.diagonal().movedim(-1, 0).unsqueeze(1).contiguous()
            step.spec.convolution_param.group = len(weight)
            changes.append(step.change("each channel by itself: the other weights are 0"))
    return changes


def _is_diagonal(step: Step) -> bool:
    layer = step.layer
    if not isinstance(layer, Convolution | Deconvolution) or layer.group != 1:
        return False
    weight = step.blobs[0]
    channels = len(weight)
    if channels == 1 or weight.shape[1] != channels or layer.channel_axis != 1:
        return False
    used = weight.flatten(2).any(2)
    own = used.diagonal()
    return bool(own.any()) and int(own.sum()) == int(used.sum())


DIAGONAL = Pass("diagonal-groups", "give each channel a group where no weight joins two", run)
