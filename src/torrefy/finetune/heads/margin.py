"""Margin: classes told apart by angles, with a margin between them."""

from __future__ import annotations

from typing import Literal

from torrefy.finetune.heads.linear import OnVector
from torrefy.schema.fields import field
from torrefy.schema.head import Site, head


@head("Margin")
class Margin(OnVector):
    """Cosines to a learned vector of each class, and a margin that the label's must win by.

    COSINE is CosFace (Wang et al. 2018, arXiv:1801.09414), ARC ArcFace (Deng et al. 2019,
    arXiv:1801.07698). What lies before the cosines is an embedding in which cosines compare
    pictures; `embedding` adds one of that many numbers.

    Example:
        head { type: "Margin" bottom: "fc7" num_output: 10 margin_param { kind: ARC margin: 0.5 } }
    """

    kind: Literal["COSINE", "ARC"] = field("COSINE", doc="where the margin is: cosine or angle")
    margin: float = field(0.35, doc="the margin; of ARC in radians", at_least=0, at_most=3.14)
    scale: float = field(30.0, doc="what cosines are multiplied by before the softmax", above=0)
    embedding: int = field(0, doc="numbers of an InnerProduct before; 0: none", at_least=0)

    def write(self, site: Site) -> None:
        """Write it."""
        x = self.vector(site)
        if self.embedding:
            x = self.dense(site, x, "embedding", self.embedding)
        filler = {"type": "xavier"}
        cosine = site.add_learned(
            "CosineProduct", x, name="cosine", blobs=1,
            cosine_product_param={"num_output": site.num_output, "weight_filler": filler},
        )  # fmt: skip
        if site.learns:
            param = {"kind": self.kind, "margin": self.margin, "scale": self.scale}
            score = site.add(
                "AngularMargin", cosine, site.label, name="score", angular_margin_param=param
            )
        else:
            score = site.add("Power", cosine, name="score", power_param={"scale": self.scale})
        site.classify(score)
