"""Hinge: a linear support vector machine as layers."""

from __future__ import annotations

from typing import Literal

from torrefy.finetune.heads.linear import OnVector
from torrefy.schema.fields import field
from torrefy.schema.head import Site, head


@head("Hinge")
class Hinge(OnVector):
    """One InnerProduct and HingeLoss: a linear SVM, each class against the rest.

    Its answers are margins, not probabilities: above 0 for what it takes for the class.

    Example:
        head { type: "Hinge" bottom: "fc7" num_output: 10 hinge_param { norm: L1 } }
    """

    norm: Literal["L1", "L2"] = field("L2", doc="L2: the squares of what is missed are summed")

    def write(self, site: Site) -> None:
        """Write it."""
        score = self.dense(site, self.vector(site), "score", site.num_output)
        if site.learns:
            site.loss("HingeLoss", score, hinge_loss_param={"norm": self.norm})
            site.metric("Accuracy", score, "accuracy")
        else:
            site.answer(score)
