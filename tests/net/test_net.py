"""The compiled net: what it takes, what it gives, and what becomes of its params."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import LENET

import torrefy
from torrefy.errors import DefinitionError, LayerError, TorrefyError
from torrefy.graph import State
from torrefy.net.net import Net, compile_net
from torrefy.schema import parse_text, upgrade

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 6 } } }\n'


def net_of(text: str, phase: str = "test", seed: int = 0) -> Net:
    definition = upgrade(parse_text(text, file="net.prototxt"))
    return compile_net(definition, State(phase), seed=seed)


@pytest.fixture
def net() -> Net:
    return net_of(LENET)


def test_inputs_and_outputs_are_shapes_by_name(net: Net) -> None:
    assert net.inputs == {"data": (2, 1, 28, 28)}
    assert net.outputs == {"prob": (2, 10)}


def test_names_are_given_as_lists(lenet: Path) -> None:
    with pytest.raises(TorrefyError, match=r'^stages takes a list of names: \["deploy"\]$'):
        torrefy.load_net(lenet, stages="deploy")


def test_params_are_in_caffes_order_and_shapes(net: Net) -> None:
    assert list(net.params) == ["conv1", "ip1"]
    assert [tuple(p.shape) for p in net.params["conv1"]] == [(4, 1, 5, 5), (4,)]
    assert all(isinstance(p, torch.nn.Parameter) for p in net.params["ip1"])
    assert list(net.state_dict()) == ["conv1.weight", "conv1.bias", "ip1.weight", "ip1.bias"]


def test_a_net_takes_another_batch_and_says_which_sizes_do_not_fit(net: Net) -> None:
    assert net(data=torch.zeros(5, 1, 28, 28))["prob"].shape == (5, 10)
    with pytest.raises(
        LayerError,
        match='layer "ip1": the weights are made for 576 inputs, the bottom of 1x4x13x13 gives 676',
    ):
        net(data=torch.zeros(1, 1, 30, 30))


def test_a_net_without_a_classifier_takes_another_picture_size(net: Net) -> None:
    out = net.run({"data": torch.zeros(1, 1, 40, 50)}, ["pool1"])
    assert out["pool1"].shape == (1, 4, 18, 23)


def test_run_computes_nothing_downstream(net: Net) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("ip1 ran")

    net.layers["ip1"].register_forward_hook(refuse)
    assert list(net.run({"data": torch.zeros(1, 1, 28, 28)}, ["pool1"])) == ["pool1"]
    with pytest.raises(AssertionError, match="ip1 ran"):
        net.run({"data": torch.zeros(1, 1, 28, 28)})


def test_run_gives_overwritten_values_and_starts_in_the_middle(net: Net) -> None:
    x = torch.randn(1, 1, 28, 28)
    blobs = net.run({"data": x}, ["conv1@conv1", "conv1", "pool1", "prob"])
    assert torch.equal(blobs["conv1"], blobs["conv1@conv1"].relu())
    assert (blobs["conv1@conv1"] < 0).any()
    again = net.run({"pool1": blobs["pool1"]}, ["prob"])
    assert torch.equal(again["prob"], blobs["prob"])


def test_an_input_that_is_overwritten_in_place_keeps_its_name() -> None:
    net = net_of(INPUT + 'layer { name: "r" type: "ReLU" bottom: "data" top: "data" }')
    x = torch.randn(2, 6)
    assert net.inputs == {"data": (2, 6)}
    assert torch.equal(net(data=x)["data"], x.relu())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n: n(dta=1), 'the net has no input "dta". Did you mean "data"?'),
        (lambda n: n(), 'the input "data" (2x1x28x28) is missing. The net takes data.'),
        (
            lambda n: n(data=torch.zeros(28, 28)),
            'the input "data" takes 4 axes, as in 2x1x28x28; found 28x28',
        ),
        (lambda n: n.run({}, ["pol1"]), 'the net has no blob "pol1". Did you mean "pool1"?'),
        (lambda n: n.run({}, ["prob"]), 'the input "data" is missing'),
        (lambda n: n.run({}, "prob"), 'blobs takes a list of names: ["prob"]'),
    ],
)
def test_slips_are_told_in_words(net: Net, call: object, message: str) -> None:
    with pytest.raises(TorrefyError) as error:
        call(net)  # type: ignore[operator]
    assert str(error.value) == message


def test_arrays_of_numpy_are_taken(net: Net) -> None:
    x = np.random.default_rng(0).standard_normal((1, 1, 28, 28))
    ours = net(data=x)["prob"]
    assert torch.equal(ours, net(data=torch.from_numpy(x).float())["prob"])


def test_compile_channels_last_and_copies_compute_the_same(net: Net) -> None:
    torch.compiler.reset()  # torch compiles Net.forward for eight nets of a process at most
    x = torch.randn(2, 1, 28, 28)
    with torch.no_grad():
        compiled = torch.compile(net, fullgraph=True)(data=x)["prob"]
        expected = net(data=x)["prob"]
        copied = copy.deepcopy(net)
        last = copied.to(memory_format=torch.channels_last)
        ours = last(data=x.to(memory_format=torch.channels_last))["prob"]
    torch.testing.assert_close(compiled, expected)
    torch.testing.assert_close(ours, expected)


def test_training_reaches_every_param(net: Net) -> None:
    net.train()
    net(data=torch.randn(2, 1, 28, 28))["prob"].log().sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_a_seed_gives_the_same_params() -> None:
    one, two, other = net_of(LENET, seed=1), net_of(LENET, seed=1), net_of(LENET, seed=2)
    assert torch.equal(one.params["ip1"][0], two.params["ip1"][0])
    assert not torch.equal(one.params["ip1"][0], other.params["ip1"][0])


SHARED = """
layer { name: "a" type: "InnerProduct" bottom: "data" top: "a" param { name: "w" }
  inner_product_param { num_output: 6 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b"
  param { name: "w" share_mode: %s }
  inner_product_param { num_output: %d axis: %d bias_term: false } }
"""


def test_params_of_one_name_are_one() -> None:
    net = net_of(INPUT + SHARED % ("STRICT", 6, 1))
    assert net.params["a"][0] is net.params["b"][0]
    assert len(list(net.parameters())) == 1
    net.double()
    assert net.params["a"][0] is net.params["b"][0]


def test_permissive_sharing_looks_at_one_param_in_another_shape() -> None:
    net = net_of(INPUT + SHARED % ("PERMISSIVE", 3, 0))
    a, b = net.params["a"][0], net.params["b"][0]
    assert (tuple(a.shape), tuple(b.shape)) == ((6, 6), (3, 12))
    assert a.data_ptr() == b.data_ptr()
    net(data=torch.randn(2, 6))["b"].sum().backward()
    assert a.grad is not None
    alone = net_of(INPUT + SHARED % ("PERMISSIVE", 3, 0))
    assert len(list(alone.parameters())) == 1


def test_sharing_between_other_shapes_names_both() -> None:
    with pytest.raises(DefinitionError) as error:
        net_of(INPUT + SHARED % ("STRICT", 3, 0))
    assert str(error.value) == (
        'net.prototxt:6:3: layer "b": param "w" is 3x12 here and 6x6 in layer "a", which shares '
        "it. share_mode: PERMISSIVE takes another shape of the same count."
    )


def test_layers_may_be_called_like_methods_or_not_be_identifiers() -> None:
    text = INPUT
    for i, name in enumerate(("forward", "graph", "params", "1x1/conv.a", "", "1x1_conv_a")):
        text += f'layer {{ name: "{name}" type: "Power" bottom: "data" top: "t{i}"\n'
        text += f"  power_param {{ shift: {i} }} }}\n"
    net = net_of(text)
    x = torch.zeros(2, 6)
    assert [int(v[0, 0]) for v in net(data=x).values()] == list(range(6))
    assert net.layers["1x1/conv.a"].shift == 3


def test_a_repeated_name_is_kept_apart() -> None:
    relu = 'layer { name: "r" type: "ReLU" bottom: "data" top: "%s" }\n'
    net = net_of(INPUT + relu % "x" + relu % "y")
    assert list(net.layers) == ["data", "r", "r#2"]


def test_a_device_that_is_not_there_is_told() -> None:
    definition = upgrade(parse_text(LENET))
    with pytest.raises(TorrefyError, match=r'there is no device "gpu" here: .*Take "cpu"'):
        compile_net(definition, State(), device="gpu")
    if not torch.backends.mps.is_available():
        with pytest.raises(
            TorrefyError, match=r'there is no device "mps" here: .*or "mps" on a Mac'
        ):
            compile_net(definition, State(), device="mps")


def test_saved_weights_come_back(net: Net, lenet: Path, tmp_path: Path) -> None:
    net.save(tmp_path / "w.caffemodel")
    again = torrefy.load_net(lenet, weights=tmp_path / "w.caffemodel")
    x = torch.randn(2, 1, 28, 28)
    assert torch.equal(again(data=x)["prob"], net(data=x)["prob"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_net_on_the_gpu_computes_the_same(lenet: Path) -> None:
    cpu, gpu = (torrefy.load_net(lenet, device=d, seed=0) for d in ("cpu", "cuda"))
    x = torch.randn(2, 1, 28, 28)
    ours = gpu(data=x.cuda())["prob"]
    assert ours.is_cuda
    torch.testing.assert_close(ours.cpu(), cpu(data=x)["prob"], atol=1e-4, rtol=1e-3)
    last = gpu.to(memory_format=torch.channels_last)
    assert torch.compile(last)(data=x.cuda())["prob"].shape == (2, 10)


def test_a_solver_is_no_net_and_a_folder_no_weights(tmp_path: Path) -> None:
    solver = tmp_path / "solver.prototxt"
    solver.write_text('net: "train_val.prototxt" base_lr: 0.01')
    with pytest.raises(DefinitionError) as error:
        torrefy.load_net(solver)
    assert str(error.value) == (
        f"{solver}: this is a solver's definition, not a net's. Load its net, "
        '"train_val.prototxt".'
    )
    net = tmp_path / "net.prototxt"
    net.write_text(LENET)
    with pytest.raises(TorrefyError) as wrong:
        torrefy.load_net(net, tmp_path)
    assert str(wrong.value) == f"{tmp_path}: a directory"
