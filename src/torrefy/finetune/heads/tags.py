"""MultiLabel: any of some tags."""

from __future__ import annotations

from torrefy.finetune.heads.linear import OnVector
from torrefy.schema.head import Site, head


@head("MultiLabel")
class MultiLabel(OnVector):
    """One InnerProduct, and for each tag a Sigmoid: the probability that the picture has it.

    The label is N×num_output, 1 where a picture has a tag and 0 where it hasn't.

    Example:
        head { type: "MultiLabel" bottom: "fc7" num_output: 20 label: "tags" }
    """

    kinds = ("tags",)

    def write(self, site: Site) -> None:
        """Write it."""
        score = self.dense(site, self.vector(site), "score", site.num_output)
        if site.learns:
            site.loss("SigmoidCrossEntropyLoss", score)
        else:
            site.answer(site.add("Sigmoid", score, name="prob"))
