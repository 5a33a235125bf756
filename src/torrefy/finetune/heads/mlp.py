"""MLP: hidden layers before the classes."""

from __future__ import annotations

from torrefy.finetune.heads.linear import OnVector
from torrefy.schema.fields import field
from torrefy.schema.head import Site, head


@head("MLP")
class MLP(OnVector):
    """Layers of ReLU units, then one InnerProduct and Softmax.

    `dropout` comes before each layer.

    Example:
        head { type: "MLP" bottom: "fc7" num_output: 10 mlp_param { hidden: [512, 128] } }
    """

    hidden: list[int] = field(doc="units of each layer; none given: one of 256")

    def write(self, site: Site) -> None:
        """Write them."""
        x = self.vector(site)
        for number, units in enumerate(self.hidden or [256], 1):
            x = self.dense(site, x, f"hidden{number}", units)
            x = site.add("ReLU", x, name=f"relu{number}", in_place=True)
            if self.dropout:
                ratio = {"dropout_ratio": self.dropout}
                x = site.add(
                    "Dropout", x, name=f"drop{number}", in_place=True, dropout_param=ratio
                )  # fmt: skip
        site.classify(self.dense(site, x, "score", site.num_output))
