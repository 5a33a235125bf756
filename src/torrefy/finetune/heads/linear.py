"""Linear: one InnerProduct; and what heads over a vector have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from torrefy.schema.fields import field
from torrefy.schema.head import Head, Site, head


class OnVector(Head):
    """A head that reads a vector for each picture; of a map it takes a mean or the like."""

    usual: ClassVar[Literal["LENGTH", "STANDARD"]] = "LENGTH"
    """How AUTO normalises in finetuning: docs/finetuning-results.md has why."""

    pool: Literal["AUTO", "NONE", "AVE", "MAX"] = field(
        "AUTO",
        doc="of a map: each channel's mean (AVE) or largest value; NONE: all its numbers; AUTO: "
        "where a net is finetuned AVE, else NONE",
    )
    normalise: Literal["AUTO", "NONE", "LENGTH", "STANDARD"] = field(
        "AUTO",
        doc="LENGTH: a picture's numbers are divided by their root mean square; STANDARD: a "
        "BatchNorm takes mean and deviation out of each; AUTO: where a net is finetuned, whose "
        "features are of any size, one of these, else NONE",
    )
    dropout: float = field(0.0, doc="the share that is dropped in training", at_least=0, below=1)

    def suit(self, shapes: Mapping[str, Sequence[int]], bottom: str) -> None:
        """Of a map take means; normalise."""
        if self.pool == "AUTO":
            is_map = len(shapes[bottom]) == 4 and max(shapes[bottom][2:]) > 1
            self.pool = "AVE" if is_map else "NONE"
        if self.normalise == "AUTO":
            self.normalise = self.usual

    def vector(self, site: Site) -> str:
        """Write what comes before the first learned layer; its top."""
        x = site.bottom
        if self.pool in ("AVE", "MAX"):
            x = site.add(
                "Pooling", x, name="pool",
                pooling_param={"pool": self.pool, "global_pooling": True},
            )  # fmt: skip
        if self.normalise == "STANDARD":
            x = site.add("BatchNorm", x, name="standard")
        elif self.normalise == "LENGTH":
            x = site.add("RMSNorm", x, name="length")
        if self.dropout:
            ratio = {"dropout_ratio": self.dropout}
            x = site.add("Dropout", x, name="drop", dropout_param=ratio)
        return x

    def dense(self, site: Site, x: str, name: str, num_output: int) -> str:
        """Write an InnerProduct that learns; its top."""
        filler = {"type": "msra", "variance_norm": "FAN_IN"} if name != "score" else {
            "type": "gaussian", "std": 0.01,
        }  # fmt: skip
        return site.add_learned(
            "InnerProduct", x, name=name,
            inner_product_param={"num_output": num_output, "weight_filler": filler},
        )  # fmt: skip


@head("Linear")
class Linear(OnVector):
    """One InnerProduct and Softmax: multinomial logistic regression.

    Example:
        head { type: "Linear" bottom: "fc7" num_output: 10 linear_param { dropout: 0.5 } }
    """

    def write(self, site: Site) -> None:
        """Write it."""
        site.classify(self.dense(site, self.vector(site), "score", site.num_output))
