"""Definitions of older days, brought to the layers of Caffe 1.0."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torrefy.errors import DefinitionError, Problem
from torrefy.schema.compose import new_message
from torrefy.schema.head import written_heads
from torrefy.schema.solver import upgrade_solver
from torrefy.schema.source import Definition, Mark
from torrefy.schema.v0 import is_v0, upgrade_v0, v0_mark
from torrefy.schema.v1 import upgrade_v1_layer, v1_mark


def upgrade(definition: Definition) -> Definition:
    """The same net as layers of Caffe 1.0 alone.

    V0 and V1 layers, legacy inputs and BatchNorm params are rewritten, and heads write their
    layers. The given definition, of a net or a solver, is not changed. Places still lead to the
    text as it was written.

    Raises:
        DefinitionError: V0 layers that can't be upgraded, inputs whose shapes can't be told, or a
            head that is wrong.
    """
    old = definition.message
    if old.DESCRIPTOR.name == "SolverParameter":
        return upgrade_solver(definition)
    needs = old.layers or old.input or old.head or _stale_batch_norms(old)
    if not needs:
        return definition
    message = type(old)()
    message.CopyFrom(old)
    root = definition.root or Mark(0)
    notes = list(definition.notes)
    marks = list(root.fields.get("layer", []))
    if message.layers:
        if message.layer:
            # Caffe kept `layers` and dropped `layer`, with a message in its log; 1.0 stops here.
            notes.append(
                f"the file mixes `layer` and `layers`: as in Caffe the {len(message.layer)} "
                "`layer` entries are dropped"
            )
            del message.layer[:]
        marks = list(root.fields.get("layers", []))
        if is_v0(message):
            kept, left_out = upgrade_v0(definition)
            marks = [v0_mark(marks[i]) for i, _ in kept] if marks else []
            for _, layer in kept:
                message.layer.add().CopyFrom(layer)
            for name in ("debug_info", "input_shape", "state"):  # as Caffe's upgrade
                message.ClearField(name)
            notes += ["upgraded from V0 layers", *left_out]
        else:
            for layer in message.layers:
                upgrade_v1_layer(layer, message.layer.add())
            marks = [v1_mark(mark) for mark in marks]
            notes.append("upgraded from V1 layers")
        del message.layers[:]
    shapeless: tuple[str, ...] = ()
    if message.input and not (message.input_shape or message.input_dim):
        # Nets inside old caffemodels name inputs without a shape: Caffe drops those.
        shapeless = tuple(message.input)
        message.ClearField("input")
    if message.input:
        marks = _upgrade_inputs(definition, message, marks)
    for layer in _stale_batch_norms(message):
        for param in layer.param:
            param.lr_mult = 0
            param.decay_mult = 0
    if message.head:
        marks = _write_heads(definition, message, marks)
    new_root = Mark(root.offset)
    new_root.fields = {**root.fields, "layer": marks}
    return replace(
        definition,
        message=message,
        root=None if definition.root is None else new_root,
        notes=tuple(notes),
        shapeless=shapeless,
    )


def _write_heads(definition: Definition, message: Any, marks: list[Mark]) -> list[Mark]:
    """Heads become the layers that they write, which stand where their head stands."""
    blobs = [top for layer in message.layer for top in layer.top]
    given = (definition.root or Mark(0)).fields.get("head", [])
    for index, layers in written_heads(message.head, blobs, definition.place):
        message.layer.extend(layers)
        if given:
            marks = [*marks, *(Mark(given[index].offset) for _ in layers)]
    message.ClearField("head")
    return marks


def _stale_batch_norms(message: Any) -> list[Any]:
    return [
        layer
        for layer in message.layer
        if layer.type == "BatchNorm"
        and len(layer.param) == 3
        and any(
            not p.HasField("lr_mult") or p.lr_mult or not p.HasField("decay_mult") or p.decay_mult
            for p in layer.param
        )
    ]


def _upgrade_inputs(definition: Definition, message: Any, marks: list[Mark]) -> list[Mark]:
    """`input` with `input_shape` or `input_dim` becomes one Input layer, put first."""
    names = list(message.input)
    problems = []
    shapes: list[list[int]] = []
    if message.input_shape:
        shapes = [list(shape.dim) for shape in message.input_shape]
        if len(shapes) not in (1, len(names)):
            problems.append(
                f"{len(names)} inputs, but {len(shapes)} input_shape: give one for each"
            )
    elif message.input_dim:
        dims = list(message.input_dim)
        shapes = [dims[i : i + 4] for i in range(0, len(dims), 4)]
        if len(dims) != 4 * len(names):
            problems.append(
                f"{len(names)} inputs need {4 * len(names)} input_dim (num, channels, height, "
                f"width of each), found {len(dims)}"
            )
    if problems:
        raise DefinitionError([Problem(p, definition.place("input")) for p in problems])
    first_mark = (definition.root or Mark(0)).fields.get("input", [Mark(0)])[0]
    mark = Mark(first_mark.offset)
    mark.fields = {"top": (definition.root or mark).fields.get("input", [])}
    layer = new_message("caffe.LayerParameter")
    layer.name = "input"
    layer.type = "Input"
    layer.top.extend(names)
    for shape in shapes:
        layer.input_param.shape.add().dim.extend(shape)
    kept = [layer, *message.layer]
    new = type(message)()
    new.CopyFrom(message)
    del new.layer[:]
    for layer in kept:
        new.layer.add().CopyFrom(layer)
    for name in ("input", "input_shape", "input_dim"):
        new.ClearField(name)
    message.CopyFrom(new)
    return [mark, *marks]
