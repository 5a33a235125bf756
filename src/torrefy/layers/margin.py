"""Vectors by their directions: RMSNorm, CosineProduct, AngularMargin."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer, shape_text
from torrefy.layers.labels import Labelled

SMALLEST = 1e-12
"""The least length that a vector is divided by."""
EDGE = 1e-6
"""How far from ±1 a cosine is kept where its angle is taken, whose slope is infinite there."""


@layer("RMSNorm")
class RMSNorm(Layer):
    """x / √(mean of x²) over everything but the first axis: each picture's numbers, made as large.

    Bottom and top: N×…, as many numbers of any size. Nothing is learned. Not of Caffe; as in Zhang
    and Sennrich 2019 (arXiv:1910.07467) without its gain. SSD's Normalize divides by the length.
    """

    example = ""
    example_bottoms = ((2, 4),)
    in_place = False

    def setup(self, *bottoms: Shape) -> None:
        """See that there is more than the first axis."""
        (shape,) = bottoms
        if len(shape) < 2:
            raise self.error(f"the bottom is {shape_text(shape)}, expected Nx…", field="bottom")

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Divide."""
        (x,) = bottoms
        flat = x.flatten(1)
        length = flat.square().mean(1, keepdim=True).sqrt().clamp(min=SMALLEST)
        return (flat / length).reshape(x.shape)


@layer("CosineProduct")
class CosineProduct(Layer):
    """The cosine of the angle between the bottom and each of num_output learned vectors.

    Bottom: N×…, flattened to K numbers; top: N×num_output, from −1 to 1. Param: weight
    num_output×K, whose rows' lengths don't count. Not of Caffe; as in Wang et al. 2017, NormFace
    (arXiv:1704.06369), whose Caffe has Normalize before an InnerProduct for it.
    """

    param = "cosine_product_param"
    example = 'cosine_product_param { num_output: 10 weight_filler { type: "xavier" } }'
    example_bottoms = ((2, 4),)
    in_place = False
    fresh = True

    def setup(self, *bottoms: Shape) -> None:
        """Make the weight."""
        (shape,) = bottoms
        if len(shape) < 2:
            raise self.error(f"the bottom is {shape_text(shape)}, expected Nx…", field="bottom")
        self.length = math.prod(shape[1:])
        size = (self.require("num_output"), self.length)
        self.add_param("weight", size, self.p.weight_filler)

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Each number of the top takes all K of its bottom's."""
        return math.prod(tops[0]) * self.length

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Normalise both and multiply."""
        (x,) = bottoms
        if x.shape[1:].numel() != self.length:
            raise self.error(
                f"the weights are made for {self.length} inputs, the bottom of "
                f"{shape_text(x.shape)} gives {x.shape[1:].numel()}",
                field="bottom",
            )
        weight: Tensor = self.weight  # type: ignore[assignment]
        flat = F.normalize(x.flatten(1), eps=SMALLEST)
        return F.linear(flat, F.normalize(weight, eps=SMALLEST))


@layer("AngularMargin")
class AngularMargin(Labelled):
    """scale · cosines; in phase TRAIN that of the label is made smaller by a margin first.

    Bottoms: cosines N×C and a label for each; top: N×C scores for SoftmaxWithLoss. COSINE: cos a −
    margin (Wang et al. 2018, CosFace, arXiv:1801.09414); ARC: cos(a + margin), the margin in
    radians (Deng et al. 2019, ArcFace, arXiv:1801.07698), and beyond a + margin = π as there
    cos a − margin · sin margin. In phase TEST it is a Power layer's scale. Not of Caffe.
    """

    param = "angular_margin_param"
    example = "angular_margin_param { kind: ARC margin: 0.5 }"
    example_bottoms = ((2, 4), (2,))
    in_place = False
    no_onnx = "inference has no labels"

    def setup(self, *bottoms: Shape) -> None:
        """Read the margin."""
        scores, label = bottoms
        if len(scores) != 2:
            raise self.error(
                f"bottom 0 is {shape_text(scores)}, expected NxC", field="bottom"
            )  # fmt: skip
        self.check_labels(scores, label)
        self.kind = self.p.Kind.Name(self.p.kind)
        self.margin: float = self.p.margin
        self.scale: float = self.p.scale
        if not 0 <= self.margin <= math.pi or not self.scale > 0:
            raise self.error(
                f"margin is {self.margin:g}, scale {self.scale:g}; expected 0 to pi, and above 0",
                field="angular_margin_param",
            )

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Make the labels' cosines smaller, scale all."""
        x, label = bottoms
        if not self.training:
            return self.scale * x
        _, classes = self.predictions(x, label)
        classes = classes.reshape(-1, 1)
        if x.device.type != "meta":
            self.check_classes(classes, x.shape[1])
        own = x.gather(1, classes)
        if self.kind == "COSINE":
            smaller = own - self.margin
        else:
            inside = own.clamp(-1 + EDGE, 1 - EDGE)
            sine = torch.sqrt(1 - inside.square())
            smaller = inside * math.cos(self.margin) - sine * math.sin(self.margin)
            beyond = own - self.margin * math.sin(self.margin)
            smaller = torch.where(own > math.cos(math.pi - self.margin), smaller, beyond)
        return self.scale * x.scatter(1, classes, smaller)
