"""A net's preprocessing as ONNX nodes in front of it: the file then takes pictures of any size."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.pictures import grey_of
from torrefy.data.preprocess import Preprocessor
from torrefy.data.recipe import Recipe
from torrefy.errors import ExportError
from torrefy.export.resampling import CONSTANTS, SUPPORT, averaged, nearest
from torrefy.layers.base import shape_text
from torrefy.net.net import Net
from torrefy.runtime.session import OnnxModel

PICTURES = "pictures"
"""The file's input, NxHxWx3 bytes in RGB."""
PREFIX = "preprocessing/"
"""What the nodes' and values' names begin with."""
MOST_LEVELS = 0.01
"""What resizing inside may differ from Pillow by: by rounding of float32 alone."""
TRIED = ((1, 1), (30, 500), (97, 61), (224, 224), (375, 500), (500, 333), (640, 480))
"""Heights and widths of the pictures that a file is tried with."""

_SIZES = """
    shape = Shape(pictures)
    y_old = Gather(shape, one)
    x_old = Gather(shape, two)
"""
_STRETCHED = """
    x_new = Identity(resize_width)
    y_new = Identity(resize_height)
"""
_COVERING = """
    sx_old = Cast<to = 11>(x_old)
    sy_old = Cast<to = 11>(y_old)
    sx_to = Cast<to = 11>(resize_width)
    sy_to = Cast<to = 11>(resize_height)
    sx_scale = Div(sx_to, sx_old)
    sy_scale = Div(sy_to, sy_old)
    s_scale = Max(sx_scale, sy_scale)
    sx_new = Mul(sx_old, s_scale)
    sy_new = Mul(sy_old, s_scale)
    sx_round = Round(sx_new)
    sy_round = Round(sy_new)
    sx_whole = Cast<to = 7>(sx_round)
    sy_whole = Cast<to = 7>(sy_round)
    x_new = Max(sx_whole, resize_width)
    y_new = Max(sy_whole, resize_height)
"""
_CROPPED = """
    x_margin = Sub(x_new, width)
    y_margin = Sub(y_new, height)
    x_start = Div(x_margin, two)
    y_start = Div(y_margin, two)
    x_stop = Add(x_start, width)
    y_stop = Add(y_start, height)
"""
_GREY = """
    wide = Cast<to = 6>(pictures)
    parts = Mul(wide, grey_parts)
    mixed = ReduceSum<keepdims = 1>(parts, threes)
    shifted = Div(mixed, grey_unit)
    grey = Cast<to = 2>(shifted)
    planes = Transpose<perm = [0, 3, 1, 2]>(grey)
"""
_FINISHED = {
    "RGB": "seen = Identity(resized)\n",
    "BGR": "seen = Gather<axis = 1>(resized, turned)\n",
    "GRAY": "seen = Identity(resized)\n",
}


class Whole:
    """What is done to a picture before a net sees it, for the inside of an ONNX file.

    Resizing is Pillow's to the bit: both passes are products with its own weights, which are
    computed from the picture's size. The centre is cut out, colours are put in the net's order, or
    mixed to grey as `read_picture` mixes them; then (x − mean)·scale.

    Example:
        Whole(preprocessor).put_before(model)  # an onnx.ModelProto
    """

    def __init__(self, preprocessor: Preprocessor) -> None:
        """Take what is done to a picture."""
        self.preprocessor = preprocessor
        self.blob = preprocessor.blob
        """The net's input."""
        self.given = PICTURES
        """The file's input."""
        self._sizes = itertools.cycle(TRIED[-2:])

    @classmethod
    def of(cls, recipe: Recipe | None, net: Net) -> Whole:
        """What a recipe does to a picture before a net sees it.

        Raises:
            ExportError: it isn't known, or makes something else than the net takes.
        """
        if recipe is None or recipe.preprocessor is None:
            raise ExportError(
                "nothing says what is done to a picture, so the file can't do it",
                hint="Give --preprocessing FILE.",
            )
        seen = recipe.preprocessor
        taken = net.inputs.get(seen.blob, (0,))[1:]
        if taken != seen.shape:
            raise ExportError(
                f'the preprocessing makes {shape_text(seen.shape)}, but the net\'s "{seen.blob}" '
                f"is {shape_text(taken) if taken else 'no input'}"
            )
        return cls(seen)

    def nodes(self) -> str:
        """The nodes in ONNX's text syntax, from `pictures` to `made`."""
        message = self.preprocessor.message
        kind = message.Interpolation.Name(message.interpolation)
        colour = self.preprocessor.colour
        text = _SIZES + (_STRETCHED if message.resize == message.STRETCH else _COVERING) + _CROPPED
        text += _GREY if colour == "GRAY" else "planes = Transpose<perm = [0, 3, 1, 2]>(pictures)\n"
        text += nearest() if kind == "NEAREST" else averaged(kind)
        text += _FINISHED[colour]
        text += "centred = Sub(seen, mean)\nmade = Mul(centred, scale)\n"
        numbers = [*message.mean] or [0.0]
        constants = CONSTANTS + f""",
            double support = {{{SUPPORT.get(kind, 0.0)!r}}},
            int64 width = {{{self.preprocessor.width}}},
            int64 height = {{{self.preprocessor.height}}},
            int64 resize_width = {{{message.resize_width or self.preprocessor.width}}},
            int64 resize_height = {{{message.resize_height or self.preprocessor.height}}},
            int32[3] grey_parts = {{9797, 19234, 3737}}, int32 grey_unit = {{32768}},
            int64[3] turned = {{2, 1, 0}},
            float[1,{len(numbers)},1,1] mean = {{{", ".join(f"{x!r}" for x in numbers)}}},
            float scale = {{{message.scale!r}}}
        """  # fmt: skip
        c, h, w = self.preprocessor.shape
        return (
            f"whole (uint8[batch,height,width,3] {PICTURES}) => (float[batch,{c},{h},{w}] made)\n"
            f"<{constants}>\n{{{text}}}"
        )

    def put_before(self, model: Any) -> None:
        """Let an ONNX model begin with this: it gets the input PICTURES for the net's own.

        Raises:
            ExportError: the model uses the name PICTURES for something else.
        """
        import onnx

        graph = onnx.parser.parse_graph(self.nodes())
        if any(PICTURES in (*node.input, *node.output) for node in model.graph.node):
            raise ExportError(
                f'the net has a blob "{PICTURES}", which is what the file\'s input is to be called'
            )
        (given,) = (value for value in model.graph.input if value.name == self.blob)
        batch = given.type.tensor_type.shape.dim[0]
        names = {PICTURES: PICTURES, "made": self.blob}
        used = {name for node in graph.node for name in _renamed(node, names)}
        for one in graph.initializer:
            one.name = PREFIX + one.name
            if one.name in used:
                model.graph.initializer.append(one)
        graph.input[0].type.tensor_type.shape.dim[0].CopyFrom(batch)
        given.CopyFrom(graph.input[0])
        theirs = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend([*graph.node, *theirs])

    def samples(self, random: np.random.Generator, count: int) -> NDArray[np.uint8]:
        """Pictures to try a file with, of another size each time."""
        return _picture(random, count, *next(self._sizes))

    def expected(self, pictures: NDArray[Any]) -> NDArray[np.float32]:
        """What the net sees of N×H×W×3 pictures, by Pillow."""
        return np.stack([self.preprocessor(self._ordered(one)) for one in pictures])

    def difference(self, opset: int) -> float:
        """The largest difference from Pillow, in levels of 0..255, over pictures of sizes TRIED.

        Raises:
            ExportError: it is above MOST_LEVELS.
        """
        import onnx
        from onnx import TensorProto, helper

        shape: list[str | int | None] = ["batch", *self.preprocessor.shape]
        blobs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name in (self.blob, "seen")
        ]
        graph = helper.make_graph(
            [helper.make_node("Identity", [self.blob], ["seen"])], "whole", blobs[:1], blobs[1:]
        )
        version = helper.make_opsetid("", opset)
        model = helper.make_model_gen_version(graph, opset_imports=[version])
        self.put_before(model)
        random, worst = np.random.default_rng(0), 0.0
        with tempfile.TemporaryDirectory(prefix="torrefy-") as folder:
            file = Path(folder) / "whole.onnx"
            onnx.save_model(model, file)
            trial = OnnxModel(file)
            for size in TRIED:
                pictures = _picture(random, 1, *size)
                difference = np.abs(
                    trial.run({PICTURES: pictures})["seen"] - self.expected(pictures)
                )
                levels = float(difference.max()) / abs(self.preprocessor.message.scale)
                if not levels <= MOST_LEVELS:
                    raise ExportError(
                        f"a picture of {size[1]}x{size[0]} is resized {levels:.3g} levels of "
                        f"0..255 away from Pillow's; allowed is {MOST_LEVELS:g}",
                        hint="Nothing was written.",
                    )
                worst = max(worst, levels)
        return worst

    def _ordered(self, picture: NDArray[Any]) -> NDArray[np.uint8]:
        if self.preprocessor.colour == "GRAY":
            return grey_of(picture)
        turned = picture[..., ::-1] if self.preprocessor.colour == "BGR" else picture
        return np.ascontiguousarray(turned)


def _picture(random: np.random.Generator, count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Pictures with slopes, edges and noise, whose levels go up to both ends."""
    y, x = np.mgrid[:height, :width]
    slopes = np.stack([x * 3 + y, y * 5 - x, (x // 7 + y // 5) % 2 * 255], axis=-1)
    noise = random.integers(0, 128, (count, height, width, 3)) * (x % 3 == 0)[..., np.newaxis]
    made: NDArray[np.uint8] = ((slopes + noise) % 256).astype(np.uint8)
    return made


def _renamed(node: Any, names: Mapping[str, str]) -> Iterator[str]:
    """Give a node, and those in its branches, and their values the names that the file has."""

    def full(name: str) -> str:
        return names.get(name, PREFIX + name)

    node.input[:] = [full(name) for name in node.input]
    node.output[:] = [full(name) for name in node.output]
    node.name = f"{PREFIX}{node.op_type}/{node.output[0]}"
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _renamed(inner, names)
        for value in attribute.g.output:
            value.name = full(value.name)
