"""Activations: ReLU, PReLU, ELU, Sigmoid, TanH, Swish, BNLL, Clip, Threshold."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer
from torrefy.layers.gradients import clamped, with_gradient, works_in_place


@layer("ReLU")
class ReLU(Layer):
    """max(x, 0) + negative_slope · min(x, 0).

    The top has the bottom's shape. The gradient at 0 is the slope, as in torch.
    """

    param = "relu_param"
    example = "relu_param { negative_slope: 0.1 }"
    fresh = True
    overwrites = True

    def setup(self, *bottoms: Shape) -> None:
        """Read the slope."""
        self.negative_slope: float = self.p.negative_slope

    def forward(self, *bottoms: Tensor, overwrite: int | None = None) -> Tensor:
        """Rectify; leaky where `negative_slope` is set."""
        (x,) = bottoms
        if self.negative_slope:
            # torch finds the sign of x in the result, which has another one below a slope of 0.
            own = overwrite is not None and self.negative_slope > 0
            return F.leaky_relu(x, self.negative_slope, own)
        return F.relu(x, overwrite is not None)


@layer("PReLU")
class PReLU(Layer):
    """max(x, 0) + a · min(x, 0), a learned for each channel (He et al. 2015, arXiv:1502.01852).

    The top has the bottom's shape, N×C×…. Params: slope, of C numbers, or of no axes with
    `channel_shared`. It starts as 0.25.
    """

    param = "prelu_param"
    example = "prelu_param { channel_shared: true }"

    def setup(self, *bottoms: Shape) -> None:
        """Make the slope."""
        (shape,) = bottoms
        if len(shape) < 2:
            raise self.error("PReLU takes at least 2 axes (N, C)", field="bottom")
        filler = self.p.filler if self.p.HasField("filler") else 0.25
        self.add_param("slope", () if self.p.channel_shared else (shape[1],), filler)

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Rectify with the learned slope."""
        (x,) = bottoms
        slope: Tensor = self.slope  # type: ignore[assignment]
        return F.prelu(x, slope.reshape(1) if slope.dim() == 0 else slope)


@layer("ELU")
class ELU(Layer):
    """x for x > 0, else alpha · (exp(x) − 1) (Clevert et al. 2015, arXiv:1511.07289).

    The top has the bottom's shape. As torch's.
    """

    param = "elu_param"
    example = "elu_param { alpha: 1 }"
    fresh = True

    def setup(self, *bottoms: Shape) -> None:
        """Read alpha."""
        self.alpha: float = self.p.alpha

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Bend the negative side towards −alpha."""
        (x,) = bottoms
        return F.elu(x, self.alpha)


@layer("Sigmoid")
class Sigmoid(Layer):
    """1 / (1 + exp(−x)); the top has the bottom's shape."""

    param = "sigmoid_param"
    fresh = True

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Squash to 0 … 1."""
        (x,) = bottoms
        return torch.sigmoid(x)


@layer("TanH")
class TanH(Layer):
    """tanh(x); the top has the bottom's shape."""

    param = "tanh_param"
    fresh = True

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Squash to −1 … 1."""
        (x,) = bottoms
        return torch.tanh(x)


@layer("Swish")
class Swish(Layer):
    """x · sigmoid(beta · x) (Ramachandran et al. 2017, arXiv:1710.05941).

    The top has the bottom's shape. With the default beta of 1 this is torch's SiLU.
    """

    param = "swish_param"
    example = "swish_param { beta: 1 }"
    fresh = True

    def setup(self, *bottoms: Shape) -> None:
        """Read beta."""
        self.beta: float = self.p.beta

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Gate x by its own sigmoid."""
        (x,) = bottoms
        return F.silu(x) if self.beta == 1 else x * torch.sigmoid(self.beta * x)


@layer("BNLL")
class BNLL(Layer):
    """log(1 + exp(x)), the binomial normal log likelihood; torch's softplus.

    In place Caffe's gradient is sigmoid(y), of the result y that has overwritten x, where the
    derivative is sigmoid(x).
    """

    fresh = True

    def setup(self, *bottoms: Shape) -> None:
        """See whether the bottom is overwritten."""
        self.overwritten = works_in_place(self)

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Compute the softplus."""
        (x,) = bottoms
        if not self.overwritten:
            return F.softplus(x)
        y = F.softplus(x.detach())
        return with_gradient(x, y, lambda: torch.sigmoid(y))


@layer("Clip")
class Clip(Layer):
    """x limited to min … max; the gradient passes between the bounds and on them.

    In place Caffe's gradient passes everywhere: it looks at the result, which is within the
    bounds.
    """

    param = "clip_param"
    example = "clip_param { min: 0 max: 6 }"
    fresh = True

    def setup(self, *bottoms: Shape) -> None:
        """Read the bounds."""
        for bound in ("min", "max"):
            if not self.p.HasField(bound):
                raise self.error(
                    f"{bound} is missing", field=bound, hint="Give clip_param { min: … max: … }."
                )
        self.min: float = self.p.min
        self.max: float = self.p.max
        self.overwritten = works_in_place(self)

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Limit."""
        (x,) = bottoms
        if not self.overwritten:
            return x.clamp(self.min, self.max)
        return clamped(x, self.min, self.max)


@layer("Threshold")
class Threshold(Layer):
    """1 where x > threshold, else 0 (where they are equal, too).

    The top has the bottom's shape. There is no gradient.
    """

    param = "threshold_param"
    example = "threshold_param { threshold: 0.5 }"
    fresh = True

    def setup(self, *bottoms: Shape) -> None:
        """Read the threshold."""
        self.threshold: float = self.p.threshold

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Compare."""
        (x,) = bottoms
        return (x > self.threshold).to(x.dtype)
