"""LSTM and RNN: the state that they carry, torch's LSTM in pieces, and errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from torrefy.errors import DefinitionError, LayerError
from torrefy.export.onnx import export_onnx
from torrefy.graph import State
from torrefy.layers import lstm
from torrefy.layers.lstm import pieces
from torrefy.net.net import Net, compile_net
from torrefy.schema import parse_text

FILLED = 'num_output: 4 weight_filler { type: "gaussian" std: 0.5 } bias_filler { type: "uniform" }'


def text_of(kind: str, params: str, shapes: dict[str, tuple[int, ...]], tops: str = "y") -> str:
    lines = [
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        + " ".join(f"dim: {dim}" for dim in shape) + " } } }"
        for name, shape in shapes.items()
    ]  # fmt: skip
    ends = " ".join([*(f'bottom: "{n}"' for n in shapes), *(f'top: "{t}"' for t in tops.split())])
    param = f"recurrent_param {{ {params} }}" if params else ""
    return "\n".join([*lines, f'layer {{ name: "op" type: "{kind}" {ends} {param} }}'])


def net_of(
    kind: str, steps: int = 4, streams: int = 3, static: int = 0, phase: str = "test"
) -> Net:
    shapes: dict[str, tuple[int, ...]] = {"x": (steps, streams, 2, 3), "cont": (steps, streams)}
    if static:
        shapes["static"] = (streams, static)
    return compile_net(parse_text(text_of(kind, FILLED, shapes)), State(phase), seed=0)


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_two_batches_are_one_sequence(kind: str) -> None:
    x, cont = random(8, 3, 2, 3), torch.ones(8, 3)
    cont[0] = 0
    whole = net_of(kind, steps=8)(x=x, cont=cont)["y"]
    net = net_of(kind)
    halves = [net(x=a, cont=b)["y"] for a, b in zip(x.chunk(2), cont.chunk(2), strict=True)]
    torch.testing.assert_close(torch.cat(halves), whole)
    again = net(x=x[4:], cont=cont[4:])["y"]
    assert not torch.allclose(again, halves[1])
    net.layers["op"].reset()
    fresh = net(x=x[:4], cont=torch.ones(4, 3))["y"]
    torch.testing.assert_close(fresh, halves[0])


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_a_state_is_in_no_file_and_takes_no_gradient_along(kind: str) -> None:
    net = net_of(kind, phase="train")
    x = random(4, 3, 2, 3)
    names = set(net.state_dict())
    for _ in range(2):  # a graph that went back into the first batch would be freed by now
        net(x=x, cont=torch.ones(4, 3))["y"].sum().backward()
    assert set(net.state_dict()) == names
    assert "op.hidden" not in names
    assert not any(b.requires_grad for b in net.layers["op"].buffers())


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_another_number_of_streams_starts_from_zeros(kind: str) -> None:
    net = net_of(kind)
    net(x=random(4, 3, 2, 3), cont=torch.ones(4, 3))
    x = random(4, 5, 2, 3)
    torch.testing.assert_close(
        net(x=x, cont=torch.ones(4, 5))["y"], net_of(kind)(x=x, cont=torch.ones(4, 5))["y"]
    )


def test_pieces_end_where_any_stream_begins() -> None:
    cont = torch.ones(12, 2)
    assert pieces(cont) == [12]
    cont[0] = 0
    assert pieces(cont) == [12]
    cont[5, 1] = 0
    assert pieces(cont) == [5, 7]
    cont[6, 0] = 0
    assert pieces(cont) == [5, 1, 6]
    cont[7, 0] = 0
    assert pieces(cont) == []  # four pieces of 12 steps are too many
    assert pieces(torch.ones(3, 2)) == []
    assert pieces(torch.full((12, 2), 0.5)) == []
    assert pieces(torch.ones(12, 2, device="meta")) == []


@pytest.mark.parametrize("static", [0, 2])
def test_torchs_lstm_in_pieces_is_the_same_as_step_by_step(
    static: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cont = torch.ones(20, 3)
    cont[0, 1] = cont[7, 2] = cont[12, 0] = cont[12, 1] = 0
    given = {"x": random(20, 3, 2, 3), "cont": cont}
    if static:
        given["static"] = random(3, static)
    up = random(20, 3, 4)
    found = []
    for lengths in ([7, 5, 8], []):
        assert not lengths or pieces(cont) == lengths
        monkeypatch.setattr(lstm, "pieces", lambda _, lengths=lengths: lengths)
        net = net_of("LSTM", 20, static=static, phase="train")
        inputs = {n: v.clone().requires_grad_(n != "cont") for n, v in given.items()}
        tops = []
        for _ in range(2):  # the second batch goes on from the first one's state
            tops.append(net(**inputs)["y"])
            tops[-1].backward(up)
        grads = [v.grad for n, v in inputs.items() if n != "cont"]
        found.append([*tops, *grads, *(p.grad for p in net.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_forget_gates_gradient_is_caffes_where_cont_is_a_fraction() -> None:
    shapes: dict[str, tuple[int, ...]] = {"c": (1, 2, 3), "g": (1, 2, 12), "cont": (1, 2)}
    net = compile_net(parse_text(text_of("LSTMUnit", "", shapes, "cell h")), State("train"))
    cell, gates = random(1, 2, 3), random(1, 2, 12).requires_grad_()
    tops = net(c=cell, g=gates, cont=torch.full((1, 2), 0.5))
    (tops["cell"].sum()).backward()
    f = 0.5 * torch.sigmoid(gates.detach()[..., 3:6])
    assert gates.grad is not None
    torch.testing.assert_close(gates.grad[..., 3:6], cell * f * (1 - f))


def test_an_exported_file_starts_from_zeros_and_so_does_its_check(tmp_path: Path) -> None:
    net = net_of("LSTM")
    x, cont = random(4, 3, 2, 3), torch.ones(4, 3)
    first = net(x=x, cont=cont)["y"]
    assert export_onnx(net, tmp_path / "m.onnx").difference < 1e-5
    torch.testing.assert_close(net(x=x, cont=cont)["y"], first)


def test_the_number_of_steps_is_the_definitions() -> None:
    with pytest.raises(LayerError, match="the net is made for T = 4, bottom 0 is 5x3x2x3"):
        net_of("LSTM")(x=random(5, 3, 2, 3), cont=torch.ones(5, 3))


X = {"x": (4, 3, 5), "cont": (4, 3)}
H = (1, 3, 4)


@pytest.mark.parametrize(
    ("kind", "params", "shapes", "tops", "message"),
    [
        (
            "LSTM", "", X, "y",
            "num_output is missing. Give recurrent_param { num_output: … }.",
        ),
        (
            "LSTM", FILLED, {"x": (4, 3), "cont": (4, 3)}, "y",
            "LSTM takes TxNx…, at least 3 axes; bottom 0 is 4x3",
        ),
        (
            "RNN", FILLED, {"x": (4, 3, 5), "cont": (4, 2)}, "y",
            "bottom 1 (cont) must be TxN as bottom 0, 4x3; it is 4x2",
        ),
        (
            "LSTM", FILLED, X | {"static": (2, 5)}, "y",
            "bottom 2, the static input, must be 3x… as bottom 0 has 3 streams; it is 2x5",
        ),
        (
            "RNN", FILLED, X | {"static": (3, 5), "h": H}, "y",
            "RNN without expose_hidden takes 2 bottoms, or one more with a static input; found 4",
        ),
        (
            "LSTM", FILLED + " expose_hidden: true", X | {"h": H}, "y hT cT",
            "LSTM with expose_hidden takes 2 bottoms and 2 for its state, or one more with a "
            "static input; found 3",
        ),
        (
            "LSTM", FILLED + " expose_hidden: true", X | {"h": H, "c": H}, "y hT",
            "LSTM with expose_hidden takes 1 top and 2 for its state; found 2",
        ),
        (
            "LSTM", FILLED + " expose_hidden: true", X | {"h": H, "c": (1, 3, 5)}, "y hT cT",
            "bottom 3, a state before the first step, must be 1x3x4; it is 1x3x5",
        ),
        (
            "LSTM", 'num_output: 4 weight_filler { type: "bilinear" }', X, "y",
            "the bilinear filler is for square kernels of two spatial axes",
        ),
        (
            "LSTMUnit", "", {"c": (1, 3, 4), "g": (1, 3, 12), "cont": (1, 3)}, "cell h",
            "the bottoms must be 1xNxD, 1xNx4D and 1xN; they are 1x3x4, 1x3x12 and 1x3",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(
    kind: str, params: str, shapes: dict[str, tuple[int, ...]], tops: str, message: str
) -> None:
    with pytest.raises(DefinitionError) as error:
        compile_net(parse_text(text_of(kind, params, shapes, tops)), State("test"))
    assert str(error.value).split('layer "op": ', 1)[1] == message


def test_every_weight_counts_once_a_step_and_stream() -> None:
    for kind, each in (("LSTM", 16 * 6 + 16 * 4), ("RNN", 4 * 6 + 4 * 4 + 4 * 4)):
        net = net_of(kind, static=2)
        shapes = [net.shapes[b] for b in ("x", "cont", "static")]
        static = 3 * (16 if kind == "LSTM" else 4) * 2
        assert net.layers["op"].multiply_adds(shapes, [(4, 3, 4)]) == 4 * 3 * each + static
