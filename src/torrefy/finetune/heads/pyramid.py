"""SpatialPyramid: maps of any size as one vector."""

from __future__ import annotations

from torrefy.finetune.heads.linear import OnVector
from torrefy.schema.fields import field
from torrefy.schema.head import Site, head


@head("SpatialPyramid")
class SpatialPyramid(OnVector):
    """Largest values of 1, 4, 16, … parts of a map, then one InnerProduct and Softmax.

    As SPP-net (He et al. 2014, arXiv:1406.4729): what is where counts, roughly, and maps of any
    size give as many numbers.

    Example:
        head { type: "SpatialPyramid" bottom: "conv5" num_output: 10
          spatial_pyramid_param { levels: 3 } }
    """

    levels: int = field(3, doc="of the pyramid", at_least=1, at_most=6)

    def suit(self, shapes: object, bottom: str) -> None:
        """It pools by itself."""
        del shapes, bottom
        self.pool = "NONE"
        self.normalise = self.usual if self.normalise == "AUTO" else self.normalise

    def write(self, site: Site) -> None:
        """Write it."""
        x = site.add("SPP", site.bottom, name="pyramid", spp_param={"pyramid_height": self.levels})
        inner = Site(x, site.num_output, site.label, site.name, site.lr_mult, site.loss_weight)
        inner.layers, inner.scores = site.layers, site.scores
        site.classify(self.dense(site, self.vector(inner), "score", site.num_output))
