"""How passes are run: precision, memory format, compiled, the same bits each time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torrefy.errors import TorrefyError
from torrefy.graph import State
from torrefy.net.net import Net, compile_net
from torrefy.net.stored import read_weights
from torrefy.schema import parse_text, upgrade
from torrefy.train.execution import WORKSPACE, Execution
from torrefy.train.feed import Arrays
from torrefy.train.scores import score
from torrefy.train.solver import Solver

CPU = torch.device("cpu")
PICTURES = """
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 4 dim: 3 dim: 8 dim: 8 } shape { dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 6 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "side" type: "Convolution" bottom: "conv" top: "side"
  convolution_param { num_output: 6 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Eltwise" bottom: "conv" bottom: "side" top: "sum" }
layer { name: "pool" type: "Pooling" bottom: "sum" top: "pool"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
SOLVER = """net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" momentum: 0.9
  weight_decay: 0.001 max_iter: 20 random_seed: 7 snapshot_prefix: "snap"
"""
Make = Callable[..., Solver]


def pictures() -> Arrays:
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(12) % 3
    data = torch.randn(12, 3, 8, 8, generator=generator)
    data[torch.arange(12), label] += 1
    return Arrays({"data": data, "label": label}, 4, shuffle=True, seed=1)


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """`trained(more, **options)`: a solver of a small convolutional net."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(PICTURES)

    def make(more: str = "", **options: object) -> Solver:
        (tmp_path / "solver.prototxt").write_text(SOLVER + more)
        given = {"feeds": pictures(), **options}
        given["test_feeds"] = pictures() if "test_iter" in more else None
        return Solver("solver.prototxt", **given)  # type: ignore[arg-type]

    return make


def refusal(**options: object) -> str:
    with pytest.raises(TorrefyError) as caught:
        Execution(CPU, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_precision_that_there_is_not_is_refused() -> None:
    assert refusal(precision="bf61") == 'there is no precision "bf61". Did you mean "bf16"?'
    with pytest.raises(
        TorrefyError, match=r'^torch has no mixed precision on "meta"\. Take fp32\.$'
    ):
        Execution(torch.device("meta"), "bf16")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_net_learns_in_mixed_precision_what_it_learns_in_fp32(
    trained: Make, precision: str
) -> None:
    exact = trained().step(20)
    solver = trained(precision=precision)
    seen: dict[str, torch.dtype] = {}
    for name in ("conv", "ip", "loss"):
        solver.net.layers[name].register_forward_hook(
            lambda _, __, top, name=name: seen.update({name: top.dtype})
        )
    losses = solver.step(20)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert seen == {"conv": half, "ip": half, "loss": torch.float32}
    assert losses[0] != exact[0]
    assert losses[0] == pytest.approx(exact[0], abs=0.02)
    assert max(losses[-1], exact[-1]) < exact[0] / 2
    assert all(p.dtype == torch.float32 for p in solver.net.parameters())
    assert all(b.dtype == torch.float32 for b in solver.net.buffers())


def test_statistics_of_a_batch_in_half_precision_keep_their_digits() -> None:
    text = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 64 dim: 2 } } }
    layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" }"""
    net = compile_net(upgrade(parse_text(text)), State("train"))
    x = (torch.randn(64, 2, generator=torch.Generator().manual_seed(0)) + 3).bfloat16()
    net(x=x)
    mean, variance, _ = net.params["bn"]
    torch.testing.assert_close(mean, x.float().mean(0))
    torch.testing.assert_close(variance, x.float().var(0))


@pytest.mark.parametrize(
    ("layer", "bottoms"),
    [
        ('type: "EuclideanLoss"', [(40, 30), (40, 30)]),
        ('type: "SigmoidCrossEntropyLoss"', [(40, 30), (40, 30)]),
        ('type: "HingeLoss"', [(40, 30), (40,)]),
        ('type: "SoftmaxWithLoss"', [(40, 30), (40,)]),
        ('type: "ContrastiveLoss"', [(40, 30), (40, 30), (40,)]),
        ('type: "Reduction" loss_weight: 2 reduction_param { operation: SUMSQ }', [(40, 30)]),
    ],
)
def test_what_counts_in_the_loss_is_computed_in_fp32(
    layer: str, bottoms: list[tuple[int, ...]]
) -> None:
    text, ends = "", ""
    for i, shape in enumerate(bottoms):
        dims = " ".join(f"dim: {size}" for size in shape)
        text += (
            f'layer {{ name: "in{i}" type: "Input" top: "in{i}" '
            f"input_param {{ shape {{ {dims} }} }} }}\n"
        )
        ends += f'bottom: "in{i}" '
    text += f'layer {{ name: "loss" {layer} {ends} top: "loss" }}'
    torch.manual_seed(0)
    fed = {
        f"in{i}": (torch.randn(shape) if len(shape) > 1 else torch.ones(shape)).bfloat16()
        for i, shape in enumerate(bottoms)
    }

    def net() -> Net:
        return compile_net(upgrade(parse_text(text)), State("train"))

    mixed = Execution(CPU, "bf16").prepare(net())(fed)["loss"]
    wanted = net()(**{name: x.float() for name, x in fed.items()})["loss"]
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, wanted)


def scaled(solver: Solver, scale: float) -> Solver:
    """A solver in fp16 whose losses are scaled so."""
    solver._scaler.load_state_dict({**solver._scaler.state_dict(), "scale": scale})
    return solver


def change(solver: Solver) -> Tensor:
    """What an update does to all params."""
    before = nn.utils.parameters_to_vector(solver.net.parameters()).detach().clone()
    solver.step(1)
    return nn.utils.parameters_to_vector(solver.net.parameters()).detach() - before


def test_an_update_of_infinite_gradients_is_passed_over_and_the_scale_halved(
    trained: Make,
) -> None:
    batch = [next(pictures())]
    solver = scaled(trained(precision="fp16", feeds=batch), 2.0**60)
    assert not change(solver).any()
    assert solver.iteration == 1
    assert solver._scaler.get_scale() == 2.0**59
    wanted = change(trained(feeds=batch))
    found = change(scaled(solver, 2.0**10))
    assert float((found - wanted).norm() / wanted.norm()) < 0.02


def test_gradients_are_clipped_by_their_own_size_and_not_by_the_scaled_one(trained: Make) -> None:
    more = "clip_gradients: 1 iter_size: 2"
    wanted = change(trained(more))
    found = change(scaled(trained(more, precision="fp16"), 2.0**10))
    assert float((found - wanted).norm() / wanted.norm()) < 0.05
    assert float((change(trained("iter_size: 2")) - wanted).norm() / wanted.norm()) > 0.1


@pytest.mark.parametrize("solver_type", ["SGD", "Adam"])
def test_a_resumed_run_in_fp16_goes_on_with_its_scale(trained: Make, solver_type: str) -> None:
    more = f'type: "{solver_type}" snapshot: 4'.replace("SGD", "Nesterov")
    options = {"precision": "fp16", "channels_last": True, "deterministic": True}
    whole = scaled(trained(more, **options), 2.0**30)
    losses = whole.step(8)
    assert whole._scaler.get_scale() < 2.0**30  # some updates were passed over
    resumed = trained(more, **options, resume="snap_iter_4.solverstate")
    assert resumed.step(4) == losses[4:]
    for mine, other in zip(resumed.net.parameters(), whole.net.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_with_channels_last_a_net_learns_the_same_and_its_files_are_caffes(trained: Make) -> None:
    plain, last = trained(), trained(channels_last=True)
    assert last.net.params["conv"][0].is_contiguous(memory_format=torch.channels_last)
    seen: list[Tensor] = []
    last.net.layers["conv"].register_forward_hook(lambda _, __, top: seen.append(top))
    assert last.step(10) == pytest.approx(plain.step(10), abs=1e-3)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    for ending in ("caffemodel", "h5", "safetensors"):
        last.net.save(f"last.{ending}")
        weight, _ = next(x.blobs for x in read_weights(f"last.{ending}").layers if x.name == "conv")
        np.testing.assert_array_equal(weight, last.net.params["conv"][0].detach().numpy())


def test_two_deterministic_runs_give_the_same_bits(trained: Make) -> None:
    first, second = (trained(deterministic=True) for _ in range(2))
    assert first.step(10) == second.step(10)
    for mine, other in zip(first.net.parameters(), second.net.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_torchs_flags_are_set_for_the_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WORKSPACE, raising=False)
    execution = Execution(CPU, deterministic=True)
    with execution.running():
        with execution.running():
            pass
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.deterministic
        assert os.environ[WORKSPACE] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic
    assert WORKSPACE not in os.environ


def test_what_torch_can_not_compute_alike_is_told() -> None:
    values, index = F.max_pool2d(torch.randn(1, 1, 4, 4), 2, return_indices=True)
    with pytest.raises(TorrefyError) as caught, Execution(CPU, deterministic=True).running():
        torch.zeros(16).put_(index.flatten(), values.flatten())
        nn.MaxUnpool2d(2)(values, index)
    assert str(caught.value).startswith("torch can't compute this alike each time: ")
    assert str(caught.value).endswith("Run it without deterministic.")


def test_a_compiled_net_learns_the_same(trained: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.compiler.reset()
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda net: real(net, backend="aot_eager"))
    more = "test_iter: 2 test_interval: 2 test_initialization: true"
    plain, compiled = trained(more), trained(more, compile=True)
    told = "each net is compiled at its first pass, which takes a while"
    assert told in compiled.notes
    assert told not in plain.notes
    assert compiled.step(6) == pytest.approx(plain.step(6), abs=1e-4)
    torch.testing.assert_close(compiled.scores, plain.scores, atol=1e-4, rtol=1e-4)


def test_a_compiler_that_fails_is_told_in_one_line(
    trained: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.compiler.reset()
    real = torch.compile

    def broken(*_: object) -> None:
        raise RuntimeError("No working C++ compiler found in ('g++',)\nmore\nlines")

    monkeypatch.setattr(torch, "compile", lambda net: real(net, backend=broken))
    with pytest.raises(TorrefyError) as caught:
        trained(compile=True).step(1)
    assert str(caught.value) == (
        "torch.compile can't compile the net: No working C++ compiler found in ('g++',). Run it "
        "without compile; torch.compile needs a C++ compiler here."
    )


def test_weights_are_tested_in_mixed_precision_too(trained: Make) -> None:
    trained().step(5)
    solver = trained()
    solver.net.save("w.caffemodel")
    exact, mixed = (
        score("net.prototxt", "w.caffemodel", 3, feeds=pictures(), precision=p, channels_last=True)
        for p in ("fp32", "bf16")
    )
    assert mixed.blobs["loss"].dtype == torch.float32
    assert float(mixed.blobs["loss"]) == pytest.approx(float(exact.blobs["loss"]), abs=0.02)
    assert float(mixed.blobs["loss"]) != float(exact.blobs["loss"])


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_learns_in_any_precision_and_the_same_bits_each_time(
    trained: Make, precision: str
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    options = {"precision": precision, "channels_last": True, "deterministic": True}
    first, second = (trained(device="cuda", **options).step(20) for _ in range(2))
    assert first == second
    assert first == pytest.approx(trained().step(20), abs=0.1)
