"""LSTM over T steps of N streams, and its unit alone."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from torrefy.layers.base import Layer, Shape, layer, shape_text
from torrefy.layers.recurrent import Recurrent

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

    Caffe (on the CPU) takes f (1 − f) for the forget gate with f = cont · σ, where the derivative
    would be cont · σ (1 − σ). The two differ where cont is neither 0 nor 1.
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
    def forward(  # noqa: PLR0917
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


@layer("LSTM")
class LSTM(Recurrent):
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
    example_bottoms = ((3, 2, 4), (3, 2))

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
    example_bottoms = ((1, 2, 4), (1, 2, 16), (1, 2))

    def setup(self, *bottoms: Shape) -> None:
        """Check that the shapes fit each other."""
        cell, gates, cont = bottoms
        expected: tuple[Shape, ...] = ()
        if len(cell) == 3 and cell[0] == 1:
            expected = (cell, (1, cell[1], 4 * cell[2]), (1, cell[1]))
        if bottoms != expected:
            raise self.error(
                "the bottoms must be 1xNxD, 1xNx4D and 1xN; they are "
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
