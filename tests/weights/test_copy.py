"""Weights into a net by layer name: what fits, what doesn't, and what is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import LENET

from torrefy.errors import TorrefyError, WeightsError
from torrefy.graph import State
from torrefy.net.net import Net, compile_net
from torrefy.net.stored import StoredLayer, StoredNet, read_weights, write_weights
from torrefy.schema import parse_text
from torrefy.weights.copy import copy_weights
from torrefy.weights.load import load_net


@pytest.fixture
def net() -> Net:
    return compile_net(parse_text(LENET), State(), seed=0)


def stored(**layers: tuple[tuple[int, ...], ...]) -> StoredNet:
    """A file with blobs of these shapes, filled with ones."""
    return StoredNet(
        "net",
        tuple(
            StoredLayer(name, "", tuple(np.ones(shape, np.float32) for shape in shapes))
            for name, shapes in layers.items()
        ),
        "w.caffemodel",
    )


CONV, IP = ((4, 1, 5, 5), (4,)), ((10, 576), (10,))


def told(net: Net, file: StoredNet, *fresh: str) -> list[str]:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(WeightsError) as error:
        copy_weights(net, file, fresh)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    return [str(problem) for problem in error.value.problems]


def test_what_matched_and_what_did_not_is_reported(net: Net) -> None:
    report = copy_weights(net, stored(conv1=CONV, aux=((3,),), ip1=IP, relu1=()))
    assert report.copied == ("conv1", "ip1")
    assert report.fresh == ()
    assert report.ignored == ("aux",)
    assert str(report) == "2 layers got their weights, 1 in the file are not in the net (aux)"
    assert all(bool((p == 1).all()) for p in net.parameters())


def test_shapes_of_old_files_fit(net: Net) -> None:
    old = stored(conv1=((4, 1, 5, 5), (1, 1, 1, 4)), ip1=((1, 1, 10, 576), (1, 1, 1, 10)))
    assert copy_weights(net, old).copied == ("conv1", "ip1")


def test_half_and_double_precision_are_taken(net: Net) -> None:
    layers = [
        StoredLayer("conv1", "", tuple(np.full(s, 0.5, np.float64) for s in CONV)),
        StoredLayer("ip1", "", tuple(np.full(s, 0.5, np.float16) for s in IP)),
    ]
    copy_weights(net, StoredNet("n", tuple(layers)))
    assert all(bool((p == 0.5).all()) for p in net.parameters())


def test_another_shape_is_refused_with_both(net: Net) -> None:
    assert told(net, stored(conv1=CONV, ip1=((20, 576), (20,)))) == [
        'w.caffemodel: layer "ip1": blob 0 is 20x576 in the file, 10x576 in the net. '
        "To learn the layer anew, give it another name."
    ]


def test_another_number_of_blobs_is_refused(net: Net) -> None:
    assert told(net, stored(conv1=((4, 1, 5, 5),), ip1=IP)) == [
        'w.caffemodel: layer "conv1": the file has 1 blobs (4x1x5x5), the layer takes 2 '
        "(4x1x5x5, 4). Is bias_term, or the layer's type, another one?"
    ]


def test_a_layer_that_gets_nothing_is_refused_unless_it_is_named(net: Net) -> None:
    file = stored(conv1=CONV, ip_1=IP)
    assert told(net, file) == [
        'w.caffemodel: the file has nothing for 1 of the net\'s layers: ip1. Did you mean "ip_1"?'
    ]
    assert copy_weights(net, file, fresh=["ip*"]).fresh == ("ip1",)


def test_a_file_of_another_net_is_told(net: Net) -> None:
    assert told(net, stored(fc6=IP, fc7=IP)) == [
        "w.caffemodel: the file has nothing for 2 of the net's layers: conv1, ip1. "
        "The file has fc6, fc7. Do definition and weights belong together?"
    ]


def test_a_file_without_weights_is_told(net: Net) -> None:
    assert told(net, stored(conv1=())) == [
        "w.caffemodel: the file has nothing for 2 of the net's layers: conv1, ip1. "
        "The file has no weights at all. Do definition and weights belong together?"
    ]


SIAMESE = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "a"
  param { name: "w" } param { name: "b" } inner_product_param { num_output: 3 } }
layer { name: "ip/p" type: "InnerProduct" bottom: "data" top: "b"
  param { name: "w" } param { name: "b" } inner_product_param { num_output: 3 } }
layer { name: "half" type: "InnerProduct" bottom: "data" top: "c"
  param { name: "w" } inner_product_param { num_output: 3 } }
"""
WHOLE = ((3, 3), (3,))


@pytest.fixture
def siamese() -> Net:
    return compile_net(parse_text(SIAMESE), State(), seed=0)


def part(name: str, *names: str) -> StoredLayer:
    """What a file has of an InnerProduct."""
    blobs = {"0": (3, 3), "1": (3,), "weight": (3, 3), "bias": (3,)}
    return StoredLayer(name, "", tuple(np.ones(blobs[x], "f4") for x in names), names=names)


def test_what_another_layer_shares_may_be_left_out(siamese: Net) -> None:
    file = StoredNet("n", (part("half", "1"), part("ip", "0", "1"), part("ip/p")), "w.h5")
    report = copy_weights(siamese, file)
    assert sorted(report.copied) == ["half", "ip", "ip/p"]
    assert report.fresh == ()
    assert all(bool((p == 1).all()) for p in siamese.parameters())


def test_it_may_be_the_second_layer_that_has_it(siamese: Net) -> None:
    file = StoredNet("n", (part("ip", "0"), part("ip/p", "1"), part("half", "1")))
    assert sorted(copy_weights(siamese, file).copied) == ["half", "ip", "ip/p"]


def test_what_nobody_has_is_refused(siamese: Net) -> None:
    file = StoredNet("n", (part("ip", "0"), part("half", "1")), "w.h5")
    assert told(siamese, file) == [
        'w.h5: layer "ip": the file lacks blob 1 (3). '
        "Only what another layer shares may be left out.",
        "w.h5: the file has nothing for 1 of the net's layers: ip/p. "
        "Name them as fresh if they are to be learned.",
    ]
    file = StoredNet("n", (part("ip", "0", "1"), part("half", "0")), "w.h5")
    assert told(siamese, file) == [
        'w.h5: layer "half": the file lacks blob 1 (3). '
        "Only what another layer shares may be left out.",
    ]


def test_a_layer_that_is_partly_shared_is_fresh_without_its_own_part(siamese: Net) -> None:
    file = StoredNet("n", (part("ip", "0", "1"),), "w.h5")
    assert told(siamese, file) == [
        "w.h5: the file has nothing for 1 of the net's layers: half. "
        "Name them as fresh if they are to be learned."
    ]
    assert copy_weights(siamese, file, fresh=["half"]).fresh == ("half",)


def test_fresh_layers_are_given_as_a_list(siamese: Net) -> None:
    file = StoredNet("n", (part("ip", "0", "1"),), "w.h5")
    with pytest.raises(TorrefyError, match=r'^fresh takes a list of names: \["half"\]$'):
        copy_weights(siamese, file, fresh="half")


def test_filling_a_fresh_layer_leaves_what_it_shares_as_it_was_loaded(tmp_path: Path) -> None:
    definition, weights = tmp_path / "net.prototxt", tmp_path / "w.h5"
    definition.write_text(SIAMESE)
    write_weights(weights, StoredNet("n", (part("ip", "0", "1"),)))
    net = load_net(definition, weights, fresh=["half"])
    assert bool((net.params["half"][0] == 1).all())
    assert bool((net.params["half"][1] == 0).all())


def test_blobs_called_by_attribute_are_found_in_any_order(siamese: Net) -> None:
    half = StoredLayer("half", "", (np.full(3, 2, "f4"), np.ones((3, 3), "f4")), None,
                       ("bias", "weight"))  # fmt: skip
    file = StoredNet("n", (part("ip", "bias", "weight"), part("ip_p", "weight"), half))
    report = copy_weights(siamese, file)
    assert sorted(report.copied) == ["half", "ip", "ip/p"], "ip_p is ip/p as an identifier"
    assert report.ignored == ()
    assert siamese.params["half"][1].tolist() == [2, 2, 2]


def test_blobs_that_the_layer_does_not_have_are_refused(siamese: Net) -> None:
    gamma = StoredLayer("ip", "", (np.ones(3, "f4"),), names=("gamma",))
    third = StoredLayer("half", "", (np.ones(3, "f4"),), names=("2",))
    file = StoredNet("n", (gamma, part("ip/p", "0", "1"), third), "w.safetensors")
    assert told(siamese, file) == [
        'w.safetensors: layer "ip": the file has blobs called gamma, the layer weight, bias. '
        "Is the layer's type another one?",
        'w.safetensors: layer "half": the file has 1 blobs (3), the layer takes 2 (3x3, 3). '
        "Is bias_term, or the layer's type, another one?",
    ]


@pytest.mark.parametrize("suffix", [".caffemodel", ".h5", ".safetensors"])
def test_a_net_that_shares_params_comes_back_from_every_format(
    siamese: Net, tmp_path: Path, suffix: str
) -> None:
    for tensor in siamese.parameters():
        torch.nn.init.normal_(tensor)
    siamese.save(tmp_path / f"w{suffix}")
    net = compile_net(parse_text(SIAMESE), State())
    assert copy_weights(net, read_weights(tmp_path / f"w{suffix}")).fresh == ()
    for name, value in siamese.state_dict().items():
        assert torch.equal(value, net.state_dict()[name])


def test_caffes_hdf5_files_load_as_its_caffemodels(shared: Path) -> None:
    folders = [path.parent for path in sorted(shared.glob("golden/nets/*/weights.h5"))]
    assert len(folders) > 10
    for folder in folders:
        phase = json.loads((folder / "meta.json").read_text())["phase"].lower()
        nets = []
        for name in ("weights.caffemodel", "weights.h5"):
            fresh = ["new"] if folder.name == "transfer" else []
            net = load_net(folder / "net.prototxt", folder / name, phase=phase, fresh=fresh, seed=1)
            nets.append(net.state_dict())
        for name, value in nets[0].items():
            assert torch.equal(value, nets[1][name]), (folder, name)
