"""The same net in fewer layers, for inference: BatchNorm, Scale and Bias folded, Dropout gone."""

from __future__ import annotations

from collections.abc import Iterable

from torrefy.net.net import Net
from torrefy.net.passes.behind import BEHIND
from torrefy.net.passes.dead import DEAD
from torrefy.net.passes.diagonal import DIAGONAL
from torrefy.net.passes.front import FRONT
from torrefy.net.passes.identity import IDENTITY
from torrefy.net.passes.merge import MERGE
from torrefy.net.passes.plan import Pass, PassResult, Plan
from torrefy.net.passes.stride import STRIDE

PASSES: tuple[Pass, ...] = (DEAD, IDENTITY, BEHIND, MERGE, FRONT, DIAGONAL, STRIDE)
"""The passes in the order in which they run.

Sibling 1x1 convolutions are not merged into one: each of GoogLeNet's nine groups as one convolution
and a Split makes it slower in ONNX Runtime, 1.02 times as long for a picture, 1.10 for eight.
"""


def fold(net: Net, blobs: Iterable[str] | None = None) -> Net:
    """A net that computes the same blobs in TEST with fewer layers; the given one stays as it is.

    What the blobs don't depend on is left out. A run of layers that are a factor and an offset
    for each channel (BatchNorm, Scale, Bias, Power of power 1, Eltwise with constants) becomes
    part of the Convolution, Deconvolution or InnerProduct before it, else one Scale, which the
    layer behind takes where that is exact. Dropout and Split vanish. Weights between channels that
    are all 0, and what 1x1 convolutions with a stride leave out, are not computed with. The
    weights are combined in double precision. `PASSES` lists what is done, in order.

    Args:
        net: a net in phase test.
        blobs: the blobs that it must still compute, by name; None: its outputs.
    """
    return fold_and_tell(net, blobs)[0]


def fold_and_tell(
    net: Net, blobs: Iterable[str] | None = None
) -> tuple[Net, tuple[PassResult, ...]]:
    """As `fold`, with what each pass did."""
    plan = Plan.of(net, net.graph.outputs if blobs is None else blobs)
    results = tuple(PassResult(each.name, tuple(each.run(plan))) for each in PASSES)
    return plan.compiled(), results
