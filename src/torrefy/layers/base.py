"""What a layer is: one class that holds a layer type's whole truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from torrefy.errors import LayerError, PluginError
from torrefy.layers.fillers import unfit
from torrefy.schema import schema
from torrefy.schema.fields import (
    Field,
    FieldError,
    Fields,
    declared,
    has_fields,
    is_fields,
    snake_case,
    values,
)

Shape = tuple[int, ...]

Outline = tuple[int | str, ...]
"""A shape as far as the definition tells it: (64, 3, "H", "W") where only the data tell the size
of an axis, (64, "...") where they tell how many axes there are."""

MOST_ELEMENTS = 1 << 31
"""As in Caffe, a blob has fewer elements than a signed 32-bit integer can count."""


OWN_FIELDS = ("bottom", "top", "type", "param", "loss_weight", "propagate_down", "transform_param")
"""Fields at fault that stand in the layer itself, not in its type's parameters."""


HIDEABLE = ("axis", "type")
"""Fields may be called so though `Layer` has these: Caffe's words, and what they hide can rest."""
_IN_INIT = ("spec", "name", "num_tops", "p", "declared", "training")


@dataclass(frozen=True)
class Filled:
    """How one blob of a layer comes to be: its attribute, its shape, and what fills it."""

    attribute: str
    shape: Shape
    filler: Any
    """A FillerParameter message, a constant, or a tensor of the blob's shape."""
    statistic: bool = False


class Layer(nn.Module):
    """One layer of a net.

    A subclass says its prototxt type with `@layer("Type")`, reads its parameters from
    `self.p`, makes its params in `setup` and computes in `forward`. Output shapes come from
    running `forward` on the meta device, so there is no second shape rule to keep in step.
    `self.training` is the phase.
    """

    type_name: ClassVar[str] = ""
    """The prototxt type; `@layer` sets it."""
    param: ClassVar[str] = ""
    """The field of LayerParameter that holds this type's parameters: "convolution_param"."""
    fields: ClassVar[type[Fields] | None] = None
    """The class of fields that `param` is made of, where a plugin declares it apart (by the hook
    `torrefy_schema_fields`): its values are the layer's attributes."""
    bottoms: ClassVar[tuple[int, int | None]] = (1, 1)
    """Fewest and most bottoms; None is no limit."""
    tops: ClassVar[tuple[int, int | None]] = (1, 1)
    """Fewest and most tops; None is no limit."""
    example: ClassVar[str] = ""
    """What an example of use holds beside its ends: "pooling_param { kernel_size: 3 }"."""
    example_bottoms: ClassVar[tuple[Shape, ...]] = ()
    """The shapes of the example's bottoms, for tests; empty: 2x4x6x6 each."""
    no_onnx: str = ""
    """Why the type can't be exported to ONNX ("its batch depends on the data"); empty if it can.
    A layer may say so of itself alone, where its parameters decide."""
    pairs: ClassVar[bool] = False
    """Whether every bottom makes one top (Convolution with several bottoms)."""
    in_place: ClassVar[bool] = True
    """Whether a top may have its bottom's name."""
    feeds: ClassVar[bool] = False
    """Whether the tops are inputs of the net: what one feeds it comes out of them."""
    fresh: ClassVar[bool] = False
    """Whether the tops are always memory of their own, never a view of a bottom."""
    loss: ClassVar[bool] = False
    """Whether the first top has a loss weight of 1 where the definition gives none."""
    scores: ClassVar[str] = ""
    """The type that a loss's bottom 0 goes through where there are no labels, as in a net that is
    exported: "Softmax"; empty: none, bottom 0 is the answer."""
    needs_tops: ClassVar[bool] = True
    """Whether its gradient may be computed from its tops, as ReLU's is and Convolution's is not:
    while gradients are recorded, nothing is computed in the memory of tops that are needed."""
    overwrites: ClassVar[bool] = False
    """Whether `forward` takes `overwrite=i`, to compute in the memory of bottom i. A net says so
    where nothing else reads that bottom."""

    def __init__(self, spec: Any, num_tops: int = 1) -> None:
        """Take a LayerParameter message. Shapes are not known yet: `setup` gets them."""
        super().__init__()
        self.spec = spec
        self.name: str = spec.name
        self.num_tops = num_tops
        self.p: Any = schema().part(spec, self.param) if self.param else None
        self.declared: list[Filled] = []
        self._read_fields()
        self._check_one_each("loss_weight", "top", num_tops)
        self._check_one_each("propagate_down", "bottom", len(spec.bottom))

    def _read_fields(self) -> None:
        """Give the layer the values of its annotated fields as attributes."""
        holder = self.fields or (type(self) if has_fields(type(self)) else None)
        if holder is None:
            return
        given = schema().part(self.spec, self.param) if self.param else None
        try:
            for name, value in values(holder, given):
                setattr(self, name, value)
        except FieldError as problem:
            hint = f"Give {self.param} {{ {problem.path}: … }}." if problem.hint else ""
            raise self.error(str(problem), field=problem.path, hint=hint) from None

    @classmethod
    def claims(cls, spec: Any) -> bool:
        """Whether a LayerParameter is this class's, where several plugins have its type.

        A dialect tells its text by what only it has: a field that is set, the number of bottoms
        or params. It says True only where it is sure.
        """
        return False

    def setup(self, *bottoms: Shape) -> None:
        """Check the parameters against the bottoms' shapes and make the params, in Caffe's order.

        Raises:
            LayerError: by `raise self.error(...)`, when parameters and shapes contradict.
        """

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute the top, or a tuple of tops when `num_tops` is not 1."""
        raise NotImplementedError

    def exported(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        """What an ONNX file computes for this layer: `forward`, written in ONNX's operators.

        A layer overrides this where another form measures faster in ONNX Runtime, or where
        `forward` can't be written in ONNX. It is torch code that computes the same numbers;
        `torch.onnx.ops.symbolic("GlobalMaxPool", (x,), dtype=x.dtype, shape=(*x.shape[:2], 1, 1))`
        asks for an operator by name. It may call `forward`. The export compares the file with
        `forward`, and so does `torrefy.testing.check_onnx`.
        """
        tops: Tensor | tuple[Tensor, ...] = self.forward(*bottoms)
        return tops

    def shapes(self, *bottoms: Shape) -> Sequence[Shape] | None:
        """The tops' shapes, where `forward` on the meta device can't tell them; else None.

        Only a layer whose tops don't follow from its bottoms' shapes overrides this: Input, and
        Filter, whose batch depends on the data. It is asked after `setup`.

        Raises:
            LayerError: the definition gives no shapes.
        """
        return None

    def outline(self) -> Sequence[Outline]:
        """The tops' shapes of a layer that `feeds`, as far as the definition tells them.

        Raises:
            LayerError: the definition lacks what it should tell.
        """
        return self.shapes() or ()

    def foreign_code(self) -> str:
        """The name of code that is neither Torrefy's nor a plugin's and that the layer runs.

        Where it has one ("module.Class"), the layer is set up only if that name is allowed.

        Raises:
            LayerError: the definition lacks the name.
        """
        return ""

    def index_limit(self, bottom: int, shapes: Sequence[Shape]) -> int | None:
        """Where a bottom holds indices: the number that they all are below; None: any numbers.

        Whoever makes up data for a net (the check of an export) keeps to it.
        """
        return None

    def reset(self) -> None:
        """Forget what the layer carries from one batch to the next, as LSTM does."""

    def add_param(
        self, attribute: str, shape: Sequence[int], filler: Any = 0.0, field: str = ""
    ) -> None:
        """Declare the next blob as a learned `nn.Parameter` called `attribute`.

        It is made on the meta device: memory is taken only when the net is given a device.
        `field` is the filler's name in the text where that isn't the attribute's: several
        weights can have one filler.
        """
        self._check_count(shape)
        reason = unfit(filler, tuple(shape))
        if reason:
            place = field or f"{attribute}_filler"
            raise self.error(reason[0], field=f"{place}.{reason[2]}", hint=reason[1])
        self.declared.append(Filled(attribute, tuple(shape), filler))
        self.register_parameter(attribute, nn.Parameter(torch.empty(tuple(shape), device="meta")))

    def add_statistic(self, attribute: str, shape: Sequence[int], value: float = 0.0) -> None:
        """Declare the next blob as a buffer: saved with the weights, not learned."""
        self._check_count(shape)
        self.declared.append(Filled(attribute, tuple(shape), value, statistic=True))
        self.register_buffer(attribute, torch.empty(tuple(shape), device="meta"))

    def _check_one_each(self, field: str, of: str, count: int) -> None:
        given = len(getattr(self.spec, field))
        if given not in (0, count):
            raise self.error(
                f"{given} {field} for {count} {of}{'s' * (count != 1)}: give one for each, or none",
                field=field,
            )

    def _check_count(self, shape: Sequence[int]) -> None:
        if math.prod(shape) >= MOST_ELEMENTS:
            raise self.error(
                f"a param of {shape_text(shape)} would have {math.prod(shape):,} numbers; "
                f"a blob holds fewer than {MOST_ELEMENTS:,}"
            )

    def share(self, attribute: str, holder: Layer, theirs: str) -> None:
        """Make a declared param the same as one of another layer (`param { name: … }`).

        With another shape of the same count (share_mode PERMISSIVE) it is a view of the
        holder's, taken at each use so that gradients and moves to a device reach the holder.
        """
        shape = next(f.shape for f in self.declared if f.attribute == attribute)
        held = getattr(holder, theirs)
        del self._parameters[attribute]
        if held.shape == shape:
            self.register_parameter(attribute, held)
            return

        def view(_: Layer) -> Tensor:
            viewed: Tensor = getattr(holder, theirs).view(shape)
            return viewed

        own = type(self)
        self.__class__ = type(own.__name__, (own,), {attribute: property(view)})

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """How many multiplications with a weight one forward pass makes (0: none worth counting).

        A layer that does its work by multiplying with weights overrides this.
        """
        return 0

    @property
    def loss_weights(self) -> tuple[float, ...]:
        """The weight that each top has in the loss of the net: 0 for most."""
        first = 1.0 if self.loss else 0.0
        return (
            tuple(self.spec.loss_weight) or (first, *[0.0] * (self.num_tops - 1))[: self.num_tops]
        )

    @property
    def blobs(self) -> list[Tensor]:
        """The layer's params and statistics in Caffe's order."""
        return [getattr(self, filled.attribute) for filled in self.declared]

    def error(self, message: str, *, field: str = "", hint: str = "") -> LayerError:
        """An error about this layer. `field` names what is at fault ("kernel_size", "bottom")."""
        error = LayerError(message, layer=self.name, hint=hint)
        if field and self.param and field.partition(".")[0] not in OWN_FIELDS:
            field = f"{self.param}.{field}"
        error.field = field
        return error

    def axis(self, value: int, rank: int, field: str = "axis") -> int:
        """An axis that may count from the end, as a number from 0.

        Raises:
            LayerError: the bottom has no such axis.
        """
        if not -rank <= value < rank:
            raise self.error(f"axis {value} of a bottom that has {rank} axes", field=field)
        return value % rank

    def require(self, field: str, positive: bool = True) -> int:
        """A parameter that must be given (and be above 0)."""
        if not self.p.HasField(field) or (positive and getattr(self.p, field) <= 0):
            got = f", found {getattr(self.p, field)}" if self.p.HasField(field) else ""
            what = "must be above 0" if got else "is missing"
            raise self.error(
                f"{field} {what}{got}",
                field=field,
                hint="" if got else f"Give {self.param} {{ {field}: … }}.",
            )
        return int(getattr(self.p, field))

    def extra_repr(self) -> str:
        """The layer's name and type, for printing a net."""
        return f"{self.type_name} {self.name!r}"


LayerType = TypeVar("LayerType", bound=type[Layer])


def layer(type_name: str) -> Callable[[LayerType], LayerType]:
    """Give a Layer class its prototxt type: `@layer("Convolution")`."""

    def name_it(cls: LayerType) -> LayerType:
        cls.type_name = type_name
        own = any(isinstance(value, Field) for value in vars(cls).values())
        derived = any(has_fields(parent) for parent in cls.__bases__)
        _check_names(cls)
        if own and (not cls.param or derived) and "param" not in vars(cls):
            cls.param = f"{snake_case(type_name)}_param"
        return cls

    return name_it


def _check_names(cls: type[Layer]) -> None:
    """Refuse fields whose values, as attributes, would hide what a layer is made of."""
    names = [n for parent in cls.__mro__ for n, v in vars(parent).items() if isinstance(v, Field)]
    if cls.fields is not None and is_fields(cls.fields):
        names += declared(cls.fields)
    for name in names:
        if name not in HIDEABLE and (name in _IN_INIT or hasattr(Layer, name)):
            raise PluginError(
                f"{cls.__module__}.{cls.__qualname__}: a field called {name} would hide "
                f"Layer.{name}",
                hint="Call it otherwise, or declare it by the hook torrefy_schema_fields and "
                f"read it as self.p.{name}.",
            )


def shape_text(shape: Sequence[int]) -> str:
    """A shape as error messages print it: 1x3x227x227."""
    return "x".join(map(str, shape)) if len(shape) else "scalar"
