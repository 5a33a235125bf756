"""Recurrent layers over T steps of N streams: what all of them share, and RNN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from torrefy.layers.base import Layer, Shape, layer, shape_text


class Recurrent(Layer):
    """What LSTM and RNN share: bottoms and tops, the carried state, and the checks.

    The state after the last step is where the next batch goes on: no gradient crosses, and a
    change of N starts anew. It is kept in buffers that are none of the layer's blobs and that no
    file holds.
    """

    param = "recurrent_param"
    example = (
        "recurrent_param {\n"
        '  num_output: 256 weight_filler { type: "uniform" min: -0.08 max: 0.08 }\n'
        "}"
    )
    bottoms = (2, 5)
    tops = (1, 3)
    in_place = False
    states: ClassVar[tuple[str, ...]]
    """What goes from one step to the next."""

    def setup(self, *bottoms: Shape) -> None:
        """Check the bottoms and make the params."""
        shape, cont = bottoms[:2]
        self.size = self.require("num_output")
        if len(shape) < 3:
            raise self.error(
                f"{self.type_name} takes TxNx…, at least 3 axes; bottom 0 is {shape_text(shape)}",
                field="bottom",
            )
        if cont != shape[:2]:
            raise self.error(
                f"bottom 1 (cont) must be TxN as bottom 0, {shape_text(shape[:2])}; it is "
                f"{shape_text(cont)}",
                field="bottom",
            )
        self.steps = shape[0]
        self.exposed = len(self.states) if self.p.expose_hidden else 0
        self.has_static = len(bottoms) == 3 + self.exposed
        if len(bottoms) not in (2 + self.exposed, 3 + self.exposed):
            raise self.error(self.counts("2 bottoms", len(bottoms)), field="bottom")
        if self.num_tops != 1 + self.exposed:
            raise self.error(self.counts("1 top", self.num_tops), field="top")
        state = (1, shape[1], self.size)
        for i in range(len(bottoms) - self.exposed, len(bottoms)):
            if bottoms[i] != state:
                raise self.error(
                    f"bottom {i}, a state before the first step, must be {shape_text(state)}; it "
                    f"is {shape_text(bottoms[i])}",
                    field="bottom",
                )
        static = 0
        if self.has_static:
            if len(bottoms[2]) < 2 or bottoms[2][0] != shape[1]:
                raise self.error(
                    f"bottom 2, the static input, must be {shape[1]}x… as bottom 0 has "
                    f"{shape[1]} streams; it is {shape_text(bottoms[2])}",
                    field="bottom",
                )
            static = math.prod(bottoms[2][1:])
        self.make_params(math.prod(shape[2:]), static)
        for name in self.states:
            self.register_buffer(name, None, persistent=False)

    def counts(self, usual: str, found: int) -> str:
        """What is wrong with the number of bottoms or tops."""
        expose = "with" if self.exposed else "without"
        states = f" and {len(self.states)} for its state" if self.exposed else ""
        static = ", or one more with a static input" if "bottom" in usual else ""
        return (
            f"{self.type_name} {expose} expose_hidden takes {usual}{states}{static}; found {found}"
        )

    def make_params(self, inputs: int, static: int) -> None:
        """Declare the params, for so many numbers a step and so many static ones (0: none)."""
        raise NotImplementedError

    def add_weight(self, attribute: str, outputs: int, inputs: int) -> None:
        """A param that `weight_filler` fills."""
        self.add_param(attribute, (outputs, inputs), self.p.weight_filler, "weight_filler")

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Every weight once a step and stream, the static input's once a stream."""
        steps, streams = bottoms[0][:2]
        count = 0
        for filled in self.declared:
            times = 1 if filled.attribute == "weight_static" else steps
            count += times * streams * math.prod(filled.shape) if len(filled.shape) == 2 else 0
        return count

    def reset(self) -> None:
        """Forget the carried state: the next batch starts from zeros."""
        for name in self.states:
            setattr(self, name, None)

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run all steps; with `expose_hidden` from the given state, and give the last one too."""
        x, cont = bottoms[0], bottoms[1].detach()
        if x.shape[0] != self.steps:
            raise self.error(
                f"the net is made for T = {self.steps}, bottom 0 is {shape_text(x.shape)}",
                field="bottom",
            )
        if cont.shape != x.shape[:2]:
            raise self.error(
                f"bottom 1 (cont) must be {shape_text(x.shape[:2])}; it is "
                f"{shape_text(cont.shape)}",
                field="bottom",
            )
        # As Caffe: no gradient reaches a given state, nor comes from one that is handed on.
        given = bottoms[len(bottoms) - self.exposed :]
        before = [state.detach().squeeze(0) for state in given] or self.carried(x)
        static = bottoms[2].flatten(1) if self.has_static else None
        top, after = self.run(x.flatten(2), cont, static, before)
        after = [state.detach() for state in after]
        if self.exposed:
            return top, *(state.unsqueeze(0) for state in after)
        if not x.is_meta and not torch.compiler.is_exporting():
            for name, state in zip(self.states, after, strict=True):
                setattr(self, name, state)
        return top

    def carried(self, x: Tensor) -> list[Tensor]:
        """The state that the batch before left; zeros at the start, and in an exported file."""
        states: list[Tensor] = []
        for name in self.states:
            state: Tensor | None = getattr(self, name)
            fits = state is not None and (len(state), state.device, state.dtype) == (
                x.shape[1],
                x.device,
                x.dtype,
            )
            if state is None or not fits or torch.compiler.is_exporting():
                state = x.new_zeros(x.shape[1], self.size)
            states.append(state)
        return states

    def inputs(self, x: Tensor, static: Tensor | None) -> Tensor:
        """What the bottoms give to each step, of all steps at once."""
        inputs = F.linear(x, self.weight_x, self.bias)  # type: ignore[arg-type]
        if static is not None:
            inputs = inputs + F.linear(static, self.weight_static)  # type: ignore[arg-type]
        return inputs

    def run(
        self, x: Tensor, cont: Tensor, static: Tensor | None, before: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """The top and the last state, from T×N×K, T×N, N×K' and states of N×D."""
        raise NotImplementedError


@layer("RNN")
class RNN(Recurrent):
    """The plain recurrent net over T×N×…: T steps of N independent streams.

    h ← tanh(W_x x + b + W_h (cont · h) (+ W_static x_static)); o = tanh(W_o h + b_o). cont is
    T×N: 0 where a sequence begins, else 1.

    Bottoms: x, cont, an optional N×… static input and, with `expose_hidden`, h before the first
    step (1×N×D). Top: o of all steps, T×N×D; with `expose_hidden` also the last h. Otherwise the
    last h carries over to the next batch. Params: W_x D×K, b D, [W_static D×K'], W_h D×D,
    W_o D×D, b_o D. (torch's RNN has no second layer W_o and no cont.) T is fixed by the
    definition; an ONNX file starts from zeros at each run.
    """

    states = ("hidden",)
    example_bottoms = ((3, 2, 4), (3, 2))

    def make_params(self, inputs: int, static: int) -> None:
        """Declare W_x, b, W_static, W_h, W_o, b_o."""
        self.add_weight("weight_x", self.size, inputs)
        self.add_param("bias", (self.size,), self.p.bias_filler)
        if static:
            self.add_weight("weight_static", self.size, static)
        self.add_weight("weight_h", self.size, self.size)
        self.add_weight("weight_o", self.size, self.size)
        self.add_param("bias_o", (self.size,), self.p.bias_filler, "bias_filler")

    def run(
        self, x: Tensor, cont: Tensor, static: Tensor | None, before: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """All steps, and the outputs of all at once."""
        (h,) = before
        weight: Tensor = self.weight_h.t()  # type: ignore[operator]
        steps = []
        inputs = self.inputs(x, static)
        for given, on in zip(inputs.unbind(), cont.unsqueeze(-1).unbind(), strict=True):
            h = torch.tanh(torch.addmm(given, h * on, weight))
            steps.append(h)
        top = torch.tanh(F.linear(torch.stack(steps), self.weight_o, self.bias_o))  # type: ignore[arg-type]
        return top, [h]
