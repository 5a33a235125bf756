"""Recurrent layers: LSTM and RNN over T steps of N streams, and the LSTM's unit alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from torrefy.layers.base import Layer, Shape, layer, shape_text

Kept = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""The gates i, f, o, g of one step and tanh(c): what its gradient needs."""


def unit(cell: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor, Kept]:
    """One LSTM step: the new cell and output, from N×D cells, N×4D gate inputs, N×1 cont."""
    size = cell.shape[-1]
    i, f, o = torch.sigmoid(gates[..., : 3 * size]).chunk(3, -1)
    g = torch.tanh(gates[..., 3 * size :])
    f = f * cont
    cell = torch.addcmul(i * g, f, cell)
    tanh = torch.tanh(cell)
    return cell, o * tanh, (i, f, o, g, tanh)


def unit_gradient(
    cell: Tensor, kept: Kept, d_cell: Tensor | None, d_output: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of the old cell and of the gate inputs.

    Caffe takes f (1 − f) for the forget gate with f = cont · σ, where the derivative would be
    cont · σ (1 − σ). The two differ where cont is neither 0 nor 1.
    """
    i, f, o, g, tanh = kept
    sigmoid_backward, tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward
    d_inner = tanh_backward(d_output * o, tanh)
    if d_cell is not None:
        d_inner += d_cell
    d_gates = torch.cat(
        [
            sigmoid_backward(d_inner * g, i),
            sigmoid_backward(d_inner * cell, f),
            sigmoid_backward(d_output * tanh, o),
            tanh_backward(d_inner * i, g),
        ],
        -1,
    )
    return d_inner * f, d_gates


class _Unit(torch.autograd.Function):
    """`unit` with Caffe's gradient."""

    @staticmethod
    def forward(ctx: Any, cell: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
        new, output, kept = unit(cell, gates, cont)
        ctx.save_for_backward(cell, *kept)
        return new, output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_cell: Tensor, d_output: Tensor) -> tuple[Tensor, Tensor, None]:
        cell, *kept = ctx.saved_tensors
        d_old, d_gates = unit_gradient(cell, tuple(kept), d_cell, d_output)
        return d_old, d_gates, None


def unroll(
    inputs: Tensor, cont: Tensor, output: Tensor, cell: Tensor, weight: Tensor
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """All steps of an LSTM: outputs, cells, and what each step keeps for its gradient."""
    outputs: list[Tensor] = []
    cells: list[Tensor] = []
    kept: list[Tensor] = []
    transposed = weight.t()
    for given, on in zip(inputs.unbind(), cont.unsqueeze(-1).unbind(), strict=True):
        gates = torch.addmm(given, output * on, transposed)
        cell, output, keep = unit(cell, gates, on)
        outputs.append(output)
        cells.append(cell)
        kept.extend(keep)
    return outputs, cells, kept


class _Unrolled(torch.autograd.Function):
    """`unroll` with Caffe's gradient: one matrix product a step, and one for all of the weight's.

    (Recorded step by step, the weight's gradient alone would be a product and a sum each.)
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, cont: Tensor, output: Tensor, cell: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        outputs, cells, kept = unroll(inputs, cont, output, cell, weight)
        top = torch.stack(outputs)
        ctx.save_for_backward(cont, weight, top, output, cell, *cells[:-1], *kept)
        ctx.mark_non_differentiable(cells[-1])
        return top, cells[-1]

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_top: Tensor, _: Tensor
    ) -> tuple[Tensor, None, None, None, Tensor | None]:
        cont, weight, top, output, *rest = ctx.saved_tensors
        steps = len(top)
        cells, kept = rest[:steps], rest[steps:]
        on = cont.unsqueeze(-1)
        d_gates: list[Tensor] = [top] * steps
        d_cell: Tensor | None = None
        for t in reversed(range(steps)):
            d_output = d_top[t]
            if t + 1 < steps:
                d_output = torch.addcmul(d_output, d_gates[t + 1] @ weight, on[t + 1])
            d_cell, d_gates[t] = unit_gradient(
                cells[t], tuple(kept[5 * t : 5 * t + 5]), d_cell, d_output
            )
        d_inputs = torch.stack(d_gates)
        d_weight = None
        if ctx.needs_input_grad[4]:
            before = torch.cat([output.unsqueeze(0), top[:-1]]) * on
            d_weight = d_inputs.flatten(0, 1).t() @ before.flatten(0, 1)
        return d_inputs, None, None, None, d_weight


FEWEST_STEPS = 4
"""A piece of fewer steps is faster step by step than as a call of torch's LSTM (measured)."""


def pieces(cont: Tensor) -> list[int]:
    """The lengths of the pieces that no stream begins within; none where torch's LSTM won't do.

    It has no cont, so its sequences end where any stream begins anew. It won't do for pieces
    that are short, for a cont that is neither 0 nor 1 (Caffe's gradient is another there), nor
    where numbers can't be looked at: on the meta device and in a graph.
    """
    if cont.is_meta or torch.compiler.is_compiling():
        return []
    steps = len(cont)
    values = cont.cpu()
    if steps < FEWEST_STEPS or bool(((values != 0) & (values != 1)).any()):
        return []
    starts = [0, *((values[1:] != 1).any(1).nonzero().flatten() + 1).tolist(), steps]
    if steps < FEWEST_STEPS * (len(starts) - 1):
        return []
    return [end - start for start, end in itertools.pairwise(starts)]


def fused(
    x: Tensor, cont: Tensor, state: list[Tensor], params: tuple[Tensor, ...], lengths: list[int]
) -> tuple[Tensor, list[Tensor]]:
    """An LSTM by torch's own (oneDNN's or cuDNN's), piece by piece: outputs and the last state.

    Its gates are i, f, g, o, its biases two, and cuDNN wants all weights in one block.
    """
    size = state[0].shape[-1]
    block = []
    for param in params:
        i_f, o, g = torch.split(param, [2 * size, size, size])
        block += [i_f.flatten(), g.flatten(), o.flatten()]
    flat = torch.cat([*block, x.new_zeros(4 * size)])
    weights = [
        part if param.dim() == 1 else part.view_as(param)
        for param, part in zip(
            (*params, params[-1]),
            torch.split(flat, [*(p.numel() for p in params), 4 * size]),
            strict=True,
        )
    ]
    training = torch.is_grad_enabled()
    tops = []
    for piece, on in zip(torch.split(x, lengths), torch.split(cont, lengths), strict=True):
        begin = tuple((part * on[0].unsqueeze(-1)).unsqueeze(0) for part in state)
        top, *after = torch.lstm(piece, begin, weights, True, 1, 0.0, training, False, False)
        state = [part.squeeze(0) for part in after]
        tops.append(top)
    return torch.cat(tops) if len(tops) > 1 else tops[0], state


class _Recurrent(Layer):
    """What LSTM and RNN share: bottoms and tops, the carried state, and the checks.

    The state after the last step is where the next batch goes on: no gradient crosses, and a
    change of N starts anew. It is kept in buffers that are none of the layer's blobs and that no
    file holds.
    """

    param = "recurrent_param"
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
                f"{self.type_name} takes T×N×…, at least 3 axes; bottom 0 is {shape_text(shape)}",
                field="bottom",
            )
        if cont != shape[:2]:
            raise self.error(
                f"bottom 1 (cont) must be T×N as bottom 0, {shape_text(shape[:2])}; it is "
                f"{shape_text(cont)}",
                field="bottom",
            )
        self.steps = shape[0]
        self.exposed = len(self.states) if self.p.expose_hidden else 0
        self.has_static = len(bottoms) == 3 + self.exposed
        if len(bottoms) not in (2 + self.exposed, 3 + self.exposed):
            raise self.error(self.counts("bottoms", 2, len(bottoms)), field="bottom")
        if self.num_tops != 1 + self.exposed:
            raise self.error(self.counts("tops", 1, self.num_tops), field="top")
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
                    f"bottom 2, the static input, must be {shape[1]}×… as bottom 0 has "
                    f"{shape[1]} streams; it is {shape_text(bottoms[2])}",
                    field="bottom",
                )
            static = math.prod(bottoms[2][1:])
        self.make_params(math.prod(shape[2:]), static)
        for name in self.states:
            self.register_buffer(name, None, persistent=False)

    def counts(self, what: str, usual: int, found: int) -> str:
        """What is wrong with the number of bottoms or tops."""
        names = f" and {len(self.states)} for its state" if self.exposed else ""
        static = ", or one more with a static input" if what == "bottoms" else ""
        expose = "with" if self.exposed else "without"
        return (
            f"{self.type_name} {expose} expose_hidden takes {usual} {what}{names}{static}; "
            f"found {found}"
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
                f"the net is made for {self.steps} steps, bottom 0 has {x.shape[0]}", field="bottom"
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
            fits = state is not None and len(state) == x.shape[1] and state.device == x.device
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


@layer("LSTM")
class LSTM(_Recurrent):
    """Long short-term memory over T×N×…: T steps of N independent streams.

    With h ← cont · h before each step: i, f, o = σ(·), g = tanh(·) of W_x x + b + W_h h
    (+ W_static x_static), f ← cont · f; c ← f c + i g; h = o tanh(c) (Hochreiter and Schmidhuber
    1997; Donahue et al. 2015, arXiv:1411.4389). cont is T×N: 0 where a sequence begins, else 1.

    Bottoms: x, cont, an optional N×… static input and, with `expose_hidden`, h and c before the
    first step (1×N×D). Top: h of all steps, T×N×D; with `expose_hidden` also the last h and c.
    Otherwise the last state carries over to the next batch.
    Params: W_x 4D×K, b 4D, [W_static 4D×K'], W_h 4D×D, gates in the order i, f, o, g. (torch's
    LSTM has i, f, g, o, two biases and no cont.) T is fixed by the definition; an ONNX file
    starts from zeros at each run.
    """

    states = ("hidden", "cell")

    def make_params(self, inputs: int, static: int) -> None:
        """Declare W_x, b, W_static, W_h."""
        self.add_weight("weight_x", 4 * self.size, inputs)
        self.add_param("bias", (4 * self.size,), self.p.bias_filler)
        if static:
            self.add_weight("weight_static", 4 * self.size, static)
        self.add_weight("weight_h", 4 * self.size, self.size)

    def run(
        self, x: Tensor, cont: Tensor, static: Tensor | None, before: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """All steps, in long pieces where that gives the same."""
        params: Any = (self.weight_x, self.weight_h, self.bias)
        lengths = pieces(cont)
        if lengths:
            if static is not None:
                x = torch.cat([x, static.expand(len(x), -1, -1)], 2)
                params = (torch.cat([self.weight_x, self.weight_static], 1), *params[1:])  # type: ignore[list-item]
            return fused(x, cont, before, params, lengths)
        arguments = (self.inputs(x, static), cont, *before, self.weight_h)
        if torch.is_grad_enabled():
            top, cell = _Unrolled.apply(*arguments)  # type: ignore[no-untyped-call]
        else:
            outputs, cells, _ = unroll(*arguments)  # type: ignore[arg-type]
            top, cell = torch.stack(outputs), cells[-1]
        return top, [top[-1], cell]


@layer("RNN")
class RNN(_Recurrent):
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


@layer("LSTMUnit")
class LSTMUnit(Layer):
    """One step of an LSTM, as the LSTM layer makes it of its gates' inputs.

    i, f, o = σ(·), g = tanh(·) of the gate inputs; f ← cont · f; c = f c_before + i g;
    h = o tanh(c). Bottoms: c_before 1×N×D, gate inputs 1×N×4D in the order i, f, o, g, cont 1×N.
    Tops: c and h, 1×N×D. No gradient goes to cont.
    """

    bottoms = (3, 3)
    tops = (2, 2)
    in_place = False

    def setup(self, *bottoms: Shape) -> None:
        """Check that the shapes fit each other."""
        cell, gates, cont = bottoms
        expected: tuple[Shape, ...] = ()
        if len(cell) == 3 and cell[0] == 1:
            expected = (cell, (1, cell[1], 4 * cell[2]), (1, cell[1]))
        if bottoms != expected:
            raise self.error(
                "the bottoms must be 1×N×D, 1×N×4D and 1×N; they are "
                f"{shape_text(cell)}, {shape_text(gates)} and {shape_text(cont)}",
                field="bottom",
            )

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Make the step."""
        cell, gates, cont = bottoms
        cont = cont.detach().unsqueeze(-1)
        if torch.is_grad_enabled():
            new, output = _Unit.apply(cell, gates, cont)  # type: ignore[no-untyped-call]
            return new, output
        return unit(cell, gates, cont)[:2]
