"""Regression, Keypoints, Specialists: numbers, and points in a picture."""

from __future__ import annotations

from typing import ClassVar

from torrefy.errors import TorrefyError
from torrefy.finetune.heads.linear import OnVector
from torrefy.schema.fields import Fields, field
from torrefy.schema.head import Site, head

FIXED = [{"lr_mult": 0, "decay_mult": 0}] * 2


class OfNumbers(OnVector):
    """A head that learns numbers, by their mean and deviation in the data.

    The Scale layers "targets" and "units" stand for (x − mean) / deviation and its inverse, so
    that the loss is the same whatever the numbers' units; they don't learn. Finetuning sets their
    blobs by the data; in a definition of your own they are 1 and 0.
    """

    kinds: ClassVar[tuple[str, ...]] = ("numbers",)
    usual = "STANDARD"
    bounded: ClassVar[bool] = False
    """Whether answers are between 0 and 1."""

    def compare(self, site: Site, score: str) -> None:
        """Write what follows the score: the loss, or the answer."""
        scale = {"bias_term": True}
        if site.learns:
            dims = {"shape": {"dim": [0, site.num_output]}}
            rows = site.add("Reshape", site.label, name="rows", reshape_param=dims)
            targets = site.add("Scale", rows, name="targets", scale_param=scale, param=FIXED)
            site.loss("EuclideanLoss", score, targets)
            return
        answer = site.add("Scale", score, name="units", scale_param=scale, param=FIXED)
        if self.bounded:
            answer = site.add("Clip", answer, name="bounded", clip_param={"min": 0, "max": 1})
        site.answer(answer)


@head("Regression")
class Regression(OfNumbers):
    """One InnerProduct and EuclideanLoss: a linear regression, or one of hidden units.

    Example:
        head { type: "Regression" bottom: "fc7" num_output: 1 label: "age" }
    """

    hidden: list[int] = field(doc="ReLU units of layers before; none: linear")

    def write(self, site: Site) -> None:
        """Write it."""
        x = self.vector(site)
        for number, units in enumerate(self.hidden, 1):
            x = self.dense(site, x, f"hidden{number}", units)
            x = site.add("ReLU", x, name=f"relu{number}", in_place=True)
        self.compare(site, self.dense(site, x, "score", site.num_output))


@head("Keypoints")
class Keypoints(Regression):
    """x and y of points as shares of the picture's width and height, between 0 and 1.

    Maps are read whole: where something is, is what counts.

    Example:
        head { type: "Keypoints" bottom: "pool5" num_output: 8 keypoints_param { hidden: 128 } }
    """

    kinds = ("points",)
    bounded = True

    def suit(self, shapes: object, bottom: str) -> None:
        """Take all of a map."""
        del shapes, bottom
        self.pool = "NONE" if self.pool == "AUTO" else self.pool
        self.normalise = self.usual if self.normalise == "AUTO" else self.normalise


class Group(Fields):
    """Targets that one specialist learns."""

    name: str = field(doc='what it is called: "eyes"')
    num_output: int = field(doc="how many of the targets it learns, in their order", at_least=1)


@head("Specialists")
class Specialists(OfNumbers):
    """A head of its own for each group of targets, which follow one another in the label.

    Each has hidden units of its own, so that what tells one group nothing may tell another much
    (as Nouri 2014 learned facial points, a net for each group).

    Example:
        head { type: "Specialists" bottom: "pool5" num_output: 6 specialists_param {
          group { name: "eyes" num_output: 4 } group { name: "nose" num_output: 2 } } }
    """

    kinds = ("numbers", "points")

    hidden: int = field(128, doc="ReLU units of each specialist", at_least=1)
    group: list[Group] = field(doc="the groups, in the order of the targets")

    def setup(self) -> None:
        """See that there are groups of different names."""
        names = [one.name for one in self.group]
        if not names:
            raise TorrefyError("Specialists: there is no group")
        if len(set(names)) < len(names):
            raise TorrefyError("Specialists: two groups have one name")

    def write(self, site: Site) -> None:
        """Write them."""
        total = sum(one.num_output for one in self.group)
        if total != site.num_output:
            raise TorrefyError(
                f"Specialists: the groups have {total} targets together, but num_output is "
                f"{site.num_output}"
            )
        x = self.vector(site)
        scores = []
        for one in self.group:
            own = self.dense(site, x, f"{one.name}/hidden", self.hidden)
            own = site.add("ReLU", own, name=f"{one.name}/relu", in_place=True)
            scores.append(self.dense(site, own, f"{one.name}/score", one.num_output))
        self.compare(site, site.add("Concat", *scores, name="score"))
