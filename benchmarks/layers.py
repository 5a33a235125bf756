"""Layers, forward and backward, against the best plain PyTorch for the same thing, on the CPU.

Exit code 1 when a layer takes more than 1.05 times as long, or LRN more than half as long as
`torch.nn.functional.local_response_norm`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import compare
from torrefy.graph import State
from torrefy.net.compile import layer_types
from torrefy.net.net import Net, compile_net
from torrefy.schema import parse_text

LIMIT = 1.05
LRN_LIMIT = 0.5
ROUNDS = 31


def compiled(layers: str, **inputs: Tensor) -> Net:
    """A net in phase train: Input layers of such shapes, and layers whose last top is "y"."""
    lines = [
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        + " ".join(f"dim: {dim}" for dim in x.shape)
        + " } } }"
        for name, x in inputs.items()
    ]
    return compile_net(parse_text("\n".join([*lines, layers])), State("train"), seed=0)


def contest(
    name: str,
    net: Net,
    inputs: dict[str, Tensor],
    plain: Callable[[Tensor], Tensor],
    params: Sequence[Tensor] = (),
    *,
    limit: float = LIMIT,
) -> bool:
    """Time both, once they agree; whether ours is fast enough.

    Gradients go to the first input and to the params.
    """
    x = next(iter(inputs.values())).requires_grad_()

    def ours() -> Tensor:
        return net(**inputs)["y"]

    def theirs() -> Tensor:
        return plain(x)

    def both_ways(compute: Callable[[], Tensor], into: list[Tensor], up: Tensor) -> Tensor:
        y = compute()
        return torch.autograd.grad(y, into, up)[0]

    up = torch.randn_like(theirs())
    run_ours = partial(both_ways, ours, [x, *net.parameters()], up)
    run_theirs = partial(both_ways, theirs, [x, *params], up)
    torch.testing.assert_close(ours(), theirs(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(run_ours(), run_theirs(), rtol=1e-3, atol=1e-4)
    return compare(name, run_ours, run_theirs, limit=limit, rounds=ROUNDS) <= limit


def lrn(*shape: int) -> bool:
    """LRN as AlexNet has it."""
    x = torch.randn(shape)
    net = compiled(
        'layer { name: "y" type: "LRN" bottom: "x" top: "y" '
        "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 } }",
        x=x,
    )
    plain = partial(F.local_response_norm, size=5, alpha=1e-4, beta=0.75, k=1.0)
    return contest(f"LRN, {'x'.join(map(str, shape))}", net, {"x": x}, plain, limit=LRN_LIMIT)


def pooling(method: str, plain: Callable[[Tensor], Tensor]) -> bool:
    """3×3 with stride 2, as AlexNet, GoogLeNet and ResNet have it."""
    x = torch.randn(8, 64, 112, 112)
    net = compiled(
        'layer { name: "y" type: "Pooling" bottom: "x" top: "y" '
        f"pooling_param {{ pool: {method} kernel_size: 3 stride: 2 }} }}",
        x=x,
    )
    return contest(f"Pooling, {method}", net, {"x": x}, plain)


def lstm(steps: int, streams: int, inputs: int, size: int) -> list[bool]:
    """An LSTM over streams of sequences that begin anywhere, and of one sequence each.

    torch's LSTM does the same for one sequence alone. The other way is to write the steps out.
    """
    x, cont = torch.randn(steps, streams, inputs), torch.ones(steps, streams)
    cont[0] = 0
    net = compiled(
        'layer { name: "y" type: "LSTM" bottom: "x" bottom: "cont" top: "y" recurrent_param { '
        f'num_output: {size} weight_filler {{ type: "xavier" }} }} }}',
        x=x, cont=cont,
    )  # fmt: skip
    params = weight_x, bias, weight_h = [p.detach().clone() for p in net.params["y"]]
    for param in params:
        param.requires_grad_()
    module = nn.LSTM(inputs, size)
    order = torch.cat([torch.arange(4 * size).view(4, size)[i] for i in (0, 1, 3, 2)])
    with torch.no_grad():
        module.weight_ih_l0.copy_(weight_x[order])
        module.weight_hh_l0.copy_(weight_h[order])
        module.bias_ih_l0.copy_(bias[order])
        module.bias_hh_l0.zero_()
    scattered = cont.clone()
    scattered[torch.rand(steps, streams) < 0.1] = 0

    def by_hand(x: Tensor) -> Tensor:
        gates = F.linear(x, weight_x, bias)
        h, c, outputs = x.new_zeros(streams, size), x.new_zeros(streams, size), []
        for given, on in zip(gates, scattered.unsqueeze(-1), strict=True):
            gate = torch.addmm(given, h * on, weight_h.t())
            i, f, o = torch.sigmoid(gate[:, : 3 * size]).chunk(3, 1)
            c = f * (c * on) + i * torch.tanh(gate[:, 3 * size :])
            h = o * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs)

    inputs_of_both = {"x": x, "cont": scattered}
    return [
        contest("LSTM, sequences that begin anywhere", net, inputs_of_both, by_hand, params),
        contest(
            "LSTM, one sequence a stream", net, {"x": x, "cont": cont},
            lambda x: module(x)[0], list(module.parameters()),
        ),
    ]  # fmt: skip


def softmax_loss(*shape: int) -> bool:
    """SoftmaxWithLoss as a classifier or a segmentation ends in it."""
    x, label = torch.randn(shape), torch.randint(shape[1], (shape[0], *shape[2:]))
    net = compiled(
        'layer { name: "y" type: "SoftmaxWithLoss" bottom: "x" bottom: "label" top: "y" }',
        x=x,
        label=label,
    )
    plain = partial(F.cross_entropy, target=label)
    name = f"SoftmaxWithLoss, {'x'.join(map(str, shape))}"
    return contest(name, net, {"x": x, "label": label}, plain)


def batch_norm() -> bool:
    """BatchNorm and its Scale, against torch's BatchNorm2d, statistics and all."""
    x = torch.randn(16, 64, 56, 56)
    net = compiled(
        'layer { name: "n" type: "BatchNorm" bottom: "x" top: "n" }\n'
        'layer { name: "y" type: "Scale" bottom: "n" top: "y" scale_param { bias_term: true } }',
        x=x,
    )
    module = nn.BatchNorm2d(64)
    return contest("BatchNorm+Scale", net, {"x": x}, module, list(module.parameters()))


def main() -> int:
    """Compare all; the exit code."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # threads that wait for each other measure what else is running
    passed = [lrn(8, 96, 55, 55), lrn(8, 256, 27, 27)]
    passed.append(pooling("MAX", lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True)))
    passed.append(pooling("AVE", lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True)))
    passed += lstm(50, 32, 128, 512)
    if "SoftmaxWithLoss" in layer_types():
        passed += [softmax_loss(2048, 1000), softmax_loss(4, 21, 256, 256)]
    else:
        print("SoftmaxWithLoss is no layer yet; left out", file=sys.stderr)
    passed.append(batch_norm())
    return int(not all(passed))


if __name__ == "__main__":
    sys.exit(main())
