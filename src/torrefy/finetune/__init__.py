"""Pretrained nets finetuned: heads, what is frozen, and how one is learned from pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrefy.plugins import hookimpl

if TYPE_CHECKING:
    from torrefy.schema.head import Head


@hookimpl
def torrefy_heads() -> list[type[Head]]:
    """The heads that are shipped."""
    from torrefy.finetune.heads import fcn, hinge, linear, margin, mlp, pyramid, regression, tags

    return [
        linear.Linear,
        mlp.MLP,
        hinge.Hinge,
        margin.Margin,
        pyramid.SpatialPyramid,
        tags.MultiLabel,
        regression.Regression,
        regression.Keypoints,
        regression.Specialists,
        fcn.FCN,
    ]
