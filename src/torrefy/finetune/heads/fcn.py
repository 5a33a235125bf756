"""FCN: a class for each pixel."""

from __future__ import annotations

from torrefy.errors import TorrefyError
from torrefy.schema.fields import Fields, field
from torrefy.schema.head import Head, Site, head


class Skip(Fields):
    """A finer map that is looked at, too."""

    blob: str = field(doc="its blob")
    stride: int = field(doc="pixels of the picture to one of its own", at_least=1)


@head("FCN")
class FCN(Head):
    """Scores by 1x1 convolutions, made larger by Deconvolution, skips added (Long et al. 2015).

    The label is N×1×H×W, as large as the picture; 255 doesn't count (arXiv:1411.4038). The first
    values of a Deconvolution are those of bilinear enlarging. Scores are cut to the picture from
    their centre's side as the strides say: the backbone should pad by half a kernel.

    Example:
        head { type: "FCN" bottom: "conv5" num_output: 21 fcn_param {
          stride: 32 skip { blob: "pool4" stride: 16 } skip { blob: "pool3" stride: 8 } } }
    """

    kinds = ("masks",)

    stride: int = field(doc="pixels of the picture to one of the blob's", at_least=2)
    skip: list[Skip] = field(doc="finer maps, the coarsest first")
    data: str = field("data", doc="the blob of the pictures, whose size the answer has")
    ignore_label: int = field(255, doc="the label that doesn't count")

    def setup(self) -> None:
        """See that each stride is a part of the one before."""
        stride = self.stride
        for one in self.skip:
            if one.stride >= stride or stride % one.stride:
                raise TorrefyError(
                    f'FCN: the stride of "{one.blob}" is {one.stride}, expected a part of {stride}'
                )
            stride = one.stride

    def write(self, site: Site) -> None:
        """Write it."""
        score, stride = self._scored(site, site.bottom, "score"), self.stride
        for number, one in enumerate(self.skip, 1):
            larger = self._enlarged(site, score, f"up{number}", stride // one.stride)
            own = self._scored(site, one.blob, f"score{number}")
            cut = site.add("Crop", larger, own, name=f"cut{number}")
            score = site.add("Eltwise", cut, own, name=f"sum{number}")
            stride = one.stride
        larger = self._enlarged(site, score, "up", stride)
        whole = site.add("Crop", larger, self.data, name="whole")
        if site.learns:
            ignored = {"ignore_label": self.ignore_label}
            site.loss("SoftmaxWithLoss", whole, loss_param=ignored)
            site.metric("Accuracy", whole, "accuracy", accuracy_param=ignored)
        else:
            site.answer(site.add("Softmax", whole, name="prob"))

    def _scored(self, site: Site, blob: str, name: str) -> str:
        param = {"num_output": site.num_output, "kernel_size": [1], "weight_filler": FILLER}
        return site.add_learned("Convolution", blob, name=name, convolution_param=param)

    @staticmethod
    def _enlarged(site: Site, x: str, name: str, factor: int) -> str:
        """Write a Deconvolution that makes a map so many times as large."""
        kernel = 2 * factor - factor % 2
        param = {
            "num_output": site.num_output, "group": site.num_output, "kernel_size": [kernel],
            "stride": [factor], "pad": [(kernel - factor) // 2], "bias_term": False,
            "weight_filler": {"type": "bilinear"},
        }  # fmt: skip
        fixed = [{"lr_mult": 0, "decay_mult": 0}]
        return site.add("Deconvolution", x, name=name, convolution_param=param, param=fixed)


FILLER = {"type": "gaussian", "std": 0.01}
