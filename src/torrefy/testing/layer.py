"""The checks of one layer: shapes, text, files of weights, ONNX, its page; and all of them.

Each failure is an AssertionError of one sentence that begins with the layer's type.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torrefy.errors import TorrefyError
from torrefy.export.onnx import TOLERANCE, export_onnx
from torrefy.graph import State
from torrefy.layers.base import Layer, Shape, shape_text
from torrefy.layers.describe import describe
from torrefy.layers.registry import layer_types
from torrefy.net.net import compile_net
from torrefy.net.stored import read_weights
from torrefy.runtime.session import OnnxModel
from torrefy.schema import new_message, parse_text, write_text
from torrefy.schema.fields import declared, has_fields, is_fields
from torrefy.testing.failure import fail, told
from torrefy.testing.gradients import check_gradients
from torrefy.testing.use import Use, dialect_line, layer_of, offered
from torrefy.weights.copy import match_weights

SUFFIXES = (".caffemodel", ".safetensors")


def check_layer(
    layer: str | type[Layer],
    bottoms: Sequence[Shape] = (),
    params: str = "",
    *,
    tops: int | None = None,
    below: Mapping[int, int] | None = None,
    positive: bool = False,
    feed: Callable[[list[Tensor]], list[Tensor]] | None = None,
    smooth: bool = True,
    varying: bool = False,
    phase: str = "test",
) -> None:
    """Check all that holds for a sound layer, in one use of it.

    Its tops have the shapes that are inferred; its gradients are those of finite differences;
    its text and its binary form read back as they were written; its params survive a caffemodel
    and a safetensors file; its ONNX file computes the same, unless the class says `no_onnx`; it
    has a docstring, an example that compiles, and a `doc` for each of its fields.

    Args:
        layer: a layer class, which need not be given by any plugin yet; a type, "Pooling"; or
            the whole text of a layer.
        bottoms: the bottoms' shapes; none: those of the class's example.
        params: what the layer holds beside its ends, "snake_param { a: 2 }"; empty where
            `bottoms` are, too: the class's example.
        tops: how many; None: the fewest that the type makes.
        below: bottoms that hold whole numbers, by their index, and what these are below.
        positive: whether the bottoms hold numbers above 0 only.
        feed: makes what the bottoms hold of random numbers, where these won't do.
        smooth: False where finite differences can't tell the gradient: a kink, or a jump.
        varying: whether the tops' first axis depends on the numbers.
        phase: "train" or "test"; ONNX is for test alone.

    Raises:
        AssertionError: one sentence about what differs and by how much.

    Example:
        check_layer(Snake, bottoms=[(2, 3)], params="snake_param { a: 2 }")
    """
    with offered(layer):
        cls = _class_of(layer)
        if not bottoms and not params and not _is_text(layer):
            bottoms, params = example_bottoms(cls), cls.example
        count = tops if tops is not None else cls.tops[0]
        use = Use(
            layer, bottoms, params, count, below or {}, positive, feed, smooth, varying, phase
        )
        check_docs(cls)
        check_example(cls, cls.example_bottoms or bottoms[: cls.bottoms[0]])
        check_text(use)
        check_shapes(use)
        check_gradients(use)
        check_weights(use)
        if phase == "test":
            check_onnx(use)


def check_docs(layer: str | type[Layer]) -> None:
    """A class says what it computes, and what each of its fields is.

    Raises:
        AssertionError: what has no docstring or no `doc`.
    """
    cls = _class_of(layer)
    if not (cls.__doc__ or "").strip():
        fail(cls.type_name, "the class has no docstring; say what it computes, and the source")
    fields = cls.fields or (cls if has_fields(cls) else None)
    bare = list(_undocumented(fields)) if fields else []
    if bare:
        fail(cls.type_name, f"the field {bare[0]} has no doc; say what it is, and in which unit")


def _undocumented(cls: type[Any], path: str = "") -> Iterator[str]:
    for name, one in declared(cls).items():
        if not one.doc.strip():
            yield path + name
        if is_fields(one.kind):
            yield from _undocumented(one.kind, f"{path}{name}.")


def example_bottoms(cls: type[Layer]) -> tuple[Shape, ...]:
    """The shapes of the bottoms of a class's example."""
    return cls.example_bottoms or ((2, 4, 6, 6),) * cls.bottoms[0]


def check_example(
    layer: str | type[Layer], bottoms: Sequence[Shape] = (), allow_python: Sequence[str] = ()
) -> None:
    """The example on a type's page compiles.

    Args:
        layer: a layer class or a type.
        bottoms: their shapes; none: what the class says, else 2x4x6x6 each.
        allow_python: as `load_net`.

    Raises:
        AssertionError: why it doesn't.
    """
    with offered(layer):
        cls = _class_of(layer)
        shapes = bottoms or example_bottoms(cls)
        net = new_message("caffe.NetParameter")
        try:
            text = "\n".join([*dialect_line(cls), describe(cls).example])
            example = parse_text(text).message
            if len(shapes) != len(example.layer[0].bottom):
                fail(
                    cls.type_name,
                    f"its example has {len(example.layer[0].bottom)} bottoms, and shapes are given "
                    f"for {len(shapes)}",
                )
            for name, dims in zip(example.layer[0].bottom, shapes, strict=True):
                entry = net.layer.add(name=name, type="Input", top=[name])
                entry.input_param.shape.add(dim=dims)
            net.MergeFrom(example)
            whole = "\n".join([*dialect_line(cls), write_text(net)])
            data = dict.fromkeys(example.layer[0].top, (64, 3, 227, 227)) if cls.feeds else {}
            compile_net(parse_text(whole), State(), shapes=data, allow_python=allow_python)
        except TorrefyError as error:
            shown = " and ".join(map(shape_text, shapes))
            given = f" with bottoms of {shown}" if shapes else ""
            fail(
                cls.type_name,
                f"its example doesn't compile{given}: {error.problems[0].message}",
                error,
            )


def check_text(use: Use) -> None:
    """Text and binary form, written and read again, are what they were.

    Raises:
        AssertionError: the line that has changed.
    """
    with offered(use.layer), told(use.type):
        message = use.definition().message
        written = write_text(message)
        again = parse_text("\n".join([*_dialect_of(use), written])).message
        if again != message or write_text(again) != written:
            fail(use.type, f"written as text and read again, {_change(message, again)}")
        binary = type(message).FromString(message.SerializeToString())
        if binary != message:
            fail(use.type, f"written as binary and read again, {_change(message, binary)}")


def check_shapes(use: Use) -> None:
    """The tops have the shapes that are inferred, hold finite numbers, and leave bottoms alone.

    Raises:
        AssertionError: the top and both its shapes, or where a number isn't finite.
    """
    with offered(use.layer), told(use.type):
        net = use.net().double()
        given = use.values(net)
        kept = {name: value.clone() for name, value in given.items()}
        bottoms, tops = use.ends
        with torch.no_grad():
            values = net.run(given, tops)
        for name in tops:
            inferred, computed = net.shapes[name], tuple(values[name].shape)
            skip = 1 if use.varying else 0
            if inferred[skip:] != computed[skip:] or len(inferred) != len(computed):
                fail(
                    use.type,
                    f'top "{name}" is inferred as {shape_text(inferred)} and computed as '
                    f"{shape_text(computed)}",
                )
            wrong = (~values[name].isfinite()).nonzero()
            if len(wrong):
                at = tuple(wrong[0].tolist())
                fail(use.type, f'top "{name}" holds {values[name][at].item()} at {at}')
        for name in bottoms:
            if name not in tops and not torch.equal(given[name], kept[name]):
                most = (given[name] - kept[name]).abs().max().item()
                fail(use.type, f'forward changes bottom "{name}", by up to {most:.3g}')


def check_weights(use: Use) -> None:
    """What a layer learns and keeps is in its files of weights, and comes back from them.

    Raises:
        AssertionError: what is not kept, or the blob that comes back changed, by how much.
    """
    with offered(use.layer), told(use.type):
        net = use.net(seed=0)
        layer = layer_of(net)
        known = {id(blob) for blob in layer.blobs}
        lost = [n for n, p in (*layer.named_parameters(), *layer.named_buffers())
                if id(p) not in known]  # fmt: skip
        if lost:
            fail(
                use.type,
                f"{lost[0]} is in no file of weights; declare it by add_param or add_statistic",
            )
        if not layer.declared:
            return
        with tempfile.TemporaryDirectory(prefix="torrefy-") as folder:
            for suffix in SUFFIXES:
                path = Path(folder) / f"weights{suffix}"
                net.save(path)
                other = use.net(seed=1)
                match_weights(other, read_weights(path)).copy()
                for filled, mine, theirs in zip(
                    layer.declared, layer.blobs, layer_of(other).blobs, strict=True
                ):
                    difference = (mine - theirs).abs().max().item()
                    if difference:
                        fail(
                            use.type,
                            f"{filled.attribute} comes back from {suffix} changed by up to "
                            f"{difference:.3g}",
                        )


def check_onnx(use: Use, tolerance: float = TOLERANCE) -> None:
    """The layer's ONNX file computes in ONNX Runtime what it computes in PyTorch.

    A class that says `no_onnx` is passed over, and a layer without bottoms or tops.

    Raises:
        AssertionError: it can't be exported, and why; or the top that differs, by how much.
    """
    bottoms, tops = use.ends
    with offered(use.layer), told(use.type):
        net = use.net()
        layer = layer_of(net)
        if layer.no_onnx or layer.feeds or not bottoms or not tops:
            return
        with tempfile.TemporaryDirectory(prefix="torrefy-") as folder:
            path = Path(folder) / "layer.onnx"
            try:
                export_onnx(net, path, tolerance=tolerance)
            except TorrefyError as error:
                fail(
                    use.type,
                    f"no ONNX file can be made of it: {error.problems[0].message}; mend that, or "
                    "say why not in no_onnx",
                    error,
                )
            model = OnnxModel(path)
            given = {name: value.float() for name, value in use.values(net).items()}
            layer.reset()
            with torch.no_grad():
                expected = net.run(given, tops)
            found = model.run({name: given[name].numpy() for name in model.inputs})
        for name in tops:
            wanted = expected[name].numpy()
            got = found[name] if name in found else found[f"{name}_out"]
            if got.shape != wanted.shape:
                fail(
                    use.type,
                    f'top "{name}" is {shape_text(wanted.shape)} in PyTorch and '
                    f"{shape_text(got.shape)} in ONNX Runtime",
                )
            difference = np.abs(got - wanted).max(initial=0)
            if not difference <= tolerance * max(1, np.abs(wanted).max(initial=0)):
                fail(
                    use.type,
                    f'top "{name}" differs between PyTorch and ONNX Runtime by {difference:.3g}',
                )


def _is_text(layer: str | type[Layer]) -> bool:
    return isinstance(layer, str) and "{" in layer


def _class_of(layer: str | type[Layer]) -> type[Layer]:
    if not isinstance(layer, str):
        return layer
    name = Use(layer).type
    types = layer_types()
    if name not in types:
        fail(name, "there is no layer type of that name")
    cls: type[Layer] = types[name]
    return cls


def _dialect_of(use: Use) -> list[str]:
    return [] if isinstance(use.layer, str) else dialect_line(use.layer)


def _change(before: Any, after: Any) -> str:
    lines = (write_text(message).splitlines() for message in (before, after))
    for old, new in itertools.zip_longest(*lines, fillvalue=""):
        if old != new:
            return f"`{old.strip()}` has become `{new.strip()}`"
    return "the message has changed where its text has not"
