"""Layers that move numbers: Concat, Slice, Split, Flatten, Reshape, Tile, Crop, Padding."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer, shape_text


@layer("Concat")
class Concat(Layer):
    """Bottoms joined along `axis` (default 1, the channels); all other axes must agree.

    Bottoms N×C₁×…, N×C₂×…; top N×(C₁ + C₂ + …)×…. It is torch's `cat`.
    """

    param = "concat_param"
    example = "concat_param { axis: 1 }"
    bottoms = (1, None)
    in_place = False

    def setup(self, *bottoms: Shape) -> None:
        """Check the axes."""
        p = self.p
        if p.HasField("concat_dim") and p.HasField("axis"):
            raise self.error("both axis and its older name concat_dim are given", field="axis")
        legacy = p.HasField("concat_dim")
        field = "concat_dim" if legacy else "axis"
        self.along = self.axis(p.concat_dim if legacy else p.axis, len(bottoms[0]), field)
        rest = [s[: self.along] + s[self.along + 1 :] for s in bottoms]
        for i, shape in enumerate(bottoms):
            if len(shape) != len(bottoms[0]) or rest[i] != rest[0]:
                raise self.error(
                    f"all bottoms must agree but for axis {self.along}: bottom 0 is "
                    f"{shape_text(bottoms[0])}, bottom {i} is {shape_text(shape)}",
                    field="bottom",
                )

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Join."""
        return bottoms[0] if len(bottoms) == 1 else torch.cat(bottoms, self.along)


@layer("Slice")
class Slice(Layer):
    """A bottom cut along `axis` at `slice_point`s, or into equal parts, one for each top.

    N×C×… becomes N×C₁×…, N×C₂×…. Slice points are places, where torch's `split` takes extents.
    """

    param = "slice_param"
    example = 'top: "slice2"\nslice_param { axis: 1 slice_point: 2 }'
    tops = (1, None)
    in_place = False

    def setup(self, *bottoms: Shape) -> None:
        """Check the points."""
        (shape,) = bottoms
        p = self.p
        if p.HasField("slice_dim") and p.HasField("axis"):
            raise self.error("both axis and its older name slice_dim are given", field="axis")
        legacy = p.HasField("slice_dim")
        field = "slice_dim" if legacy else "axis"
        self.along = self.axis(p.slice_dim if legacy else p.axis, len(shape), field)
        size = shape[self.along]
        points = list(p.slice_point)
        if points:
            if len(points) != self.num_tops - 1:
                raise self.error(
                    f"{self.num_tops} tops need {self.num_tops - 1} slice_point, "
                    f"found {len(points)}",
                    field="slice_point",
                )
            edges = [0, *points, size]
            if any(b <= a for a, b in itertools.pairwise(edges)):
                raise self.error(
                    f"slice_point must rise from above 0 to below {size}, the size of axis "
                    f"{self.along}; found {', '.join(map(str, points))}",
                    field="slice_point",
                )
            self.sizes = [b - a for a, b in itertools.pairwise(edges)]
        else:
            if size % self.num_tops:
                raise self.error(
                    f"axis {self.along} of {size} can't be cut into {self.num_tops} equal parts",
                    field="axis",
                    hint="Give slice_point.",
                )
            self.sizes = []

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Cut. Without slice_point the parts are equal at any size."""
        (x,) = bottoms
        if self.num_tops == 1:
            return x
        if self.sizes:
            # The last part takes what is left, at sizes other than the definition's too.
            last = x.shape[self.along] - sum(self.sizes[:-1])
            return torch.split(x, [*self.sizes[:-1], last], self.along)
        return torch.split(x, x.shape[self.along] // self.num_tops, self.along)


@layer("Split")
class Split(Layer):
    """One bottom under several names; its gradient is their sum.

    Tops have the bottom's shape. Caffe inserts this where several layers read a blob; here no
    definition needs it.
    """

    tops = (1, None)
    in_place = False

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Hand the bottom to each top."""
        (x,) = bottoms
        return x if self.num_tops == 1 else (x,) * self.num_tops


@layer("Silence")
class Silence(Layer):
    """Takes bottoms of any shape and gives nothing, so that they are no outputs of the net."""

    bottoms = (1, None)
    tops = (0, 0)

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Nothing."""
        return ()


@layer("Flatten")
class Flatten(Layer):
    """The axes from `axis` to `end_axis` (default: the last) as one: N×C×H×W becomes N×(C·H·W)."""

    param = "flatten_param"
    example = "flatten_param { axis: 1 }"
    in_place = False

    def setup(self, *bottoms: Shape) -> None:
        """Check the axes."""
        (shape,) = bottoms
        self.start = self.axis(self.p.axis, len(shape))
        self.end = self.axis(self.p.end_axis, len(shape), "end_axis")
        if self.end < self.start:
            raise self.error(f"end_axis {self.end} is before axis {self.start}", field="end_axis")

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Flatten."""
        (x,) = bottoms
        return x.flatten(self.start, self.end)


@layer("Reshape")
class Reshape(Layer):
    """The same numbers under another shape.

    A dim of 0 keeps the bottom's extent at that place, one −1 is inferred. Only `num_axes` axes
    from `axis` on are replaced (default: all); a negative `axis` counts from behind the last.
    """

    param = "reshape_param"
    example = "reshape_param { shape { dim: 0 dim: -1 } }"
    in_place = False

    def setup(self, *bottoms: Shape) -> None:
        """Check the shape."""
        (shape,) = bottoms
        p = self.p
        rank = len(shape)
        start = p.axis if p.axis >= 0 else rank + p.axis + 1
        if not 0 <= start <= rank:
            raise self.error(f"axis {p.axis} of a bottom that has {rank} axes", field="axis")
        if p.num_axes < -1:
            raise self.error(f"num_axes must be -1 or more, found {p.num_axes}", field="num_axes")
        end = rank if p.num_axes == -1 else start + p.num_axes
        if end > rank:
            raise self.error(
                f"num_axes {p.num_axes} from axis {start} of a bottom that has {rank} axes",
                field="num_axes",
            )
        self.start, self.end = start, end
        self.dims = list(p.shape.dim)
        if self.dims.count(-1) > 1:
            raise self.error("only one dim may be -1", field="shape")
        if any(dim < -1 for dim in self.dims):
            raise self.error(f"a dim of {min(self.dims)}", field="shape")
        for i, dim in enumerate(self.dims):
            if dim == 0 and start + i >= rank:
                raise self.error(
                    f"dim {i} is 0 and copies axis {start + i} of the bottom, which has "
                    f"{rank} axes",
                    field="shape",
                )
        self.target(shape)

    def target(self, shape: Shape | torch.Size) -> list[int]:
        """The top's shape for a bottom's.

        Raises:
            LayerError: the counts differ.
        """
        start = self.start
        dims = [shape[start + i] if dim == 0 else dim for i, dim in enumerate(self.dims)]
        full = [*shape[:start], *dims, *shape[self.end :]]
        known = math.prod(d for d in full if d != -1)
        count = math.prod(shape)
        inferred = -1 in dims
        if (inferred and (known == 0 or count % known)) or (not inferred and known != count):
            asked = shape_text(["?" if d == -1 else d for d in full])  # type: ignore[misc]
            raise self.error(
                f"the bottom of {shape_text(shape)} holds {count} numbers and can't become {asked}",
                field="shape",
            )
        if inferred:
            full[start + dims.index(-1)] = count // known
        return full

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Reshape."""
        (x,) = bottoms
        if torch.compiler.is_compiling():
            dims = [x.shape[self.start + i] if d == 0 else d for i, d in enumerate(self.dims)]
            return x.reshape(*x.shape[: self.start], *dims, *x.shape[self.end :])
        return x.reshape(self.target(x.shape))


@layer("Tile")
class Tile(Layer):
    """The bottom `tiles` times behind itself along `axis` (default 1): N×C becomes N×(tiles·C)."""

    param = "tile_param"
    example = "tile_param { tiles: 2 }"
    in_place = False

    def setup(self, *bottoms: Shape) -> None:
        """Check the axis."""
        (shape,) = bottoms
        self.along = self.axis(self.p.axis, len(shape))
        self.tiles = self.require("tiles")

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Repeat."""
        (x,) = bottoms
        if self.tiles == 1:
            return x
        return x.repeat(*(self.tiles if i == self.along else 1 for i in range(x.dim())))


@layer("Crop")
class Crop(Layer):
    """Bottom 0 cut to the size of bottom 1 from `axis` (default 2) on.

    It starts at `offset`: one number for all axes or one for each, default 0. Bottoms have
    equally many axes; the top has bottom 0's extents before `axis`, bottom 1's from it on.
    Bottom 1 gives its shape alone, no gradient goes to it.
    """

    param = "crop_param"
    example = "crop_param { axis: 2 offset: 19 }"
    example_bottoms = ((2, 4, 30, 30), (2, 4, 6, 6))
    bottoms = (2, 2)
    in_place = False

    def setup(self, *bottoms: Shape) -> None:
        """Check the offsets."""
        shape, like = bottoms
        if len(shape) != len(like):
            raise self.error(
                f"both bottoms must have as many axes: {shape_text(shape)} and {shape_text(like)}",
                field="bottom",
            )
        self.start = self.axis(self.p.axis, len(shape))
        axes = len(shape) - self.start
        offsets = list(self.p.offset)
        if len(offsets) not in (0, 1, axes):
            raise self.error(
                f"{len(offsets)} offset for {axes} cropped axes: give 1 or {axes}", field="offset"
            )
        self.offsets = offsets if len(offsets) == axes else (offsets or [0]) * axes
        for axis, offset in enumerate(self.offsets, self.start):
            if offset + like[axis] > shape[axis]:
                raise self.error(
                    f"axis {axis}: {like[axis]} from offset {offset} on is beyond the bottom's "
                    f"{shape[axis]}",
                    field="offset",
                )

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Cut."""
        x, like = bottoms
        for axis, offset in enumerate(self.offsets, self.start):
            x = x.narrow(axis, offset, like.shape[axis])
        return x


@layer("Padding")
class Padding(Layer):
    """Columns and rows around the bottom: N×C×H×W becomes N×C×(t + H + b)×(l + W + r).

    `pad_method: CONSTANT` fills them with `pad_value`, REPEAT with the nearest value of the edge;
    it must be given. A convolution's own `pad` is the same on both sides; before one this gives
    TensorFlow's padding "SAME", which for an even picture, a stride of 2 and a kernel of k is
    ⌊(k − 2) / 2⌋ to the left and the top, ⌈(k − 2) / 2⌉ to the right and the bottom. Caffe 1.0
    has no such layer; the parameters are those proposed in BVLC/caffe#6294.
    """

    param = "padding_param"
    example = "padding_param { pad_method: CONSTANT pad_r: 1 pad_b: 1 }"
    in_place = False
    needs_tops = False

    def setup(self, *bottoms: Shape) -> None:
        """Read the margins."""
        (shape,) = bottoms
        p = self.p
        if len(shape) != 4:
            raise self.error(
                f"Padding takes 4 axes (N, C, H, W), the bottom is {shape_text(shape)}",
                field="bottom",
            )
        if not p.HasField("pad_method"):
            raise self.error(
                "pad_method is missing",
                field="pad_method",
                hint="Give padding_param { pad_method: CONSTANT }, or REPEAT.",
            )
        self.repeats = p.PadMethod.Name(p.pad_method) == "REPEAT"
        if self.repeats and p.HasField("pad_value"):
            raise self.error("REPEAT takes no pad_value", field="pad_value")
        self.margins = (p.pad_l, p.pad_r, p.pad_t, p.pad_b)
        self.value: float = p.pad_value

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Pad."""
        (x,) = bottoms
        if self.repeats:
            return F.pad(x, self.margins, mode="replicate")
        return F.pad(x, self.margins, value=self.value)
