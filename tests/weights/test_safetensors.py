"""Safetensors: the names of the tensors, what is read without metadata, and what is refused."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.weights.conftest import floats, refusal, same

from torrefy.errors import WeightsError
from torrefy.graph import State
from torrefy.net.compile import layer_types
from torrefy.net.net import Net, compile_net
from torrefy.net.stored import StoredLayer, StoredNet, read_weights, write_weights
from torrefy.schema import parse_text
from torrefy.weights.copy import copy_weights
from torrefy.weights.safetensors import read_safetensors, write_safetensors

EVERY_TYPE = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 4 dim: 6 dim: 6 } } }
layer { name: "conv/3x3" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "3up" type: "Deconvolution" bottom: "conv" top: "up"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "up" top: "up" }
layer { name: "scale" type: "Scale" bottom: "up" top: "up" scale_param { bias_term: true } }
layer { name: "bias" type: "Bias" bottom: "up" top: "up" }
layer { name: "prelu" type: "PReLU" bottom: "up" top: "up" }
layer { name: "forward" type: "InnerProduct" bottom: "up" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "ip" type: "InnerProduct" bottom: "ip" top: "ip2"
  inner_product_param { num_output: 5 bias_term: false weight_filler { type: "xavier" } } }
"""

RECURRENT = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 dim: 2 } } }
layer { name: "c" type: "Input" top: "c" input_param { shape { dim: 3 dim: 2 } } }
layer { name: "s" type: "Input" top: "s" input_param { shape { dim: 2 dim: 4 } } }
layer { name: "embed" type: "Embed" bottom: "x" top: "e"
  embed_param { num_output: 5 input_dim: 9 weight_filler { type: "xavier" } } }
layer { name: "lstm" type: "LSTM" bottom: "e" bottom: "c" top: "a"
  recurrent_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "lstm_s" type: "LSTM" bottom: "e" bottom: "c" bottom: "s" top: "b"
  recurrent_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "rnn" type: "RNN" bottom: "e" bottom: "c" top: "d"
  recurrent_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "rnn_s" type: "RNN" bottom: "e" bottom: "c" bottom: "s" top: "f"
  recurrent_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 2 dim: 3 } } }
"""


@pytest.fixture(params=[EVERY_TYPE, RECURRENT], ids=["images", "sequences"])
def net(request: pytest.FixtureRequest) -> Net:
    types = set(re.findall(r'type: "([A-Z]\w+)"', request.param))
    if not types <= layer_types().keys():
        pytest.skip("a layer type is not there")
    return compile_net(parse_text(request.param), State(), seed=0)


def forget(net: Net) -> Net:
    for tensor in net.state_dict().values():
        tensor.fill_(np.nan)
    return net


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_a_saved_file_is_the_nets_state_dict(net: Net, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    expected = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.save(path)
    equal(load_file(path), expected)
    forget(net).load_state_dict(load_file(path))
    equal(dict(net.state_dict()), expected)
    copy_weights(forget(net), read_weights(path))
    equal(dict(net.state_dict()), expected)


def test_a_saved_state_dict_is_read_by_its_names(net: Net, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    expected = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    save_file(expected, path)
    stored = read_weights(path)
    assert stored.notes == ()
    assert copy_weights(forget(net), stored).ignored == ()
    equal(dict(net.state_dict()), expected)
    mine = {x.name.replace("/", "_").replace("3up", "_3up"): x for x in net.stored().layers}
    mine = {name.replace("forward", "forward_2"): layer for name, layer in mine.items()}
    for layer in stored.layers:  # the order is Caffe's, though the file's is another
        assert layer.names == mine[layer.name].names


def test_a_file_made_of_a_caffemodel_has_the_names_of_the_net_too(net: Net, tmp_path: Path) -> None:
    caffemodel, path = tmp_path / "w.caffemodel", tmp_path / "w.safetensors"
    net.save(caffemodel)
    write_weights(path, read_weights(caffemodel))
    equal(load_file(path), dict(net.state_dict()))


def test_names_types_and_order_are_in_the_metadata(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    layers = (
        StoredLayer("conv1/7x7", "Convolution", (floats(2, 3, 1, 1), floats(2))),
        StoredLayer("conv1_7x7", "Odd", (floats(1),), names=("1",)),
        StoredLayer("relu", "ReLU", ()),
        StoredLayer("relu", "", (floats(2), floats(3))),
    )
    write_safetensors(path, StoredNet("LeNet", layers))
    with safe_open(path, "numpy") as file:
        assert set(file.metadata()) == {"torrefy"}
        described = json.loads(file.metadata()["torrefy"])
    assert described == {
        "name": "LeNet",
        "layers": [
            {
                "name": "conv1/7x7",
                "type": "Convolution",
                "blobs": {"0": "conv1_7x7.weight", "1": "conv1_7x7.bias"},
            },
            {"name": "conv1_7x7", "type": "Odd", "blobs": {"1": "conv1_7x7_2.1"}},
            {"name": "relu", "type": "ReLU", "blobs": {}},
            {"name": "relu", "type": "", "blobs": {"0": "relu_2.0", "1": "relu_2.1"}},
        ],
    }
    same(read_safetensors(path), StoredNet("LeNet", layers))


def test_half_and_double_precision_and_any_byte_order_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    kinds = ("<f2", ">f4", "<f8", ">f8")
    layers = [StoredLayer(kind, "Bias", (floats(2, 3, dtype=kind),)) for kind in kinds]
    layers.append(StoredLayer("scalar", "PReLU", (floats(),)))
    layers.append(StoredLayer("none", "Bias", (floats(0, 3),)))
    layers.append(StoredLayer("turned", "InnerProduct", (floats(5, 7).T,)))
    write_safetensors(path, StoredNet("n", tuple(layers)))
    same(read_safetensors(path), StoredNet("n", tuple(layers)))
    assert load_file(path)["turned.weight"].shape == (7, 5)
    blob = read_safetensors(path).layers[1].blobs[0]
    with pytest.raises(ValueError, match="read-only"):
        blob[0] = 1


def test_bfloat16_becomes_float32(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    values = torch.randn(3, 4).to(torch.bfloat16)
    save_file({"a.weight": values}, path)
    blob = read_safetensors(path).layers[0].blobs[0]
    assert blob.dtype == np.float32
    np.testing.assert_array_equal(blob, values.float().numpy())


def test_unknown_names_are_taken_in_their_order_and_that_is_told(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    tensors = {"a.gamma": torch.zeros(1), "a.alpha": torch.ones(1), "b.10": torch.zeros(1)}
    save_file({**tensors, "b.9": torch.ones(1), "c.odd": torch.zeros(1)}, path)
    net = read_safetensors(path)
    assert {x.name: x.names for x in net.layers} == {
        "a": ("alpha", "gamma"),
        "b": ("9", "10"),
        "c": ("odd",),
    }
    assert net.notes == ('layer "a": its blobs are taken in the order alpha, gamma',)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        "[]",
        "{}",
        '{"name": "n", "layers": [{}]}',
        '{"name": 3, "layers": []}',
        '{"name": "n", "layers": [{"name": "a", "type": "", "blobs": {"0": "a.none"}}]}',
        '{"name": "n", "layers": [{"name": "a", "type": "", "blobs": {"00": "a.weight"}}]}',
        '{"name": "n", "layers": [{"name": "a", "type": "", "blobs": {"0": ["a.weight"]}}]}',
        '{"name": "n", "layers": [{"name": 1, "type": "", "blobs": {"0": "a.weight"}}]}',
        '{"name": "n", "layers": []}',
    ],
)
def test_metadata_that_do_not_fit_are_passed_over(tmp_path: Path, text: str) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a.weight": torch.zeros(1)}, path, {"torrefy": text})
    net = read_safetensors(path)
    assert [x.names for x in net.layers] == [("weight",)]
    assert net.notes == ("what it says of the layers doesn't fit its tensors, and is passed over",)


def raw(header: Any, values: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + values


def one(dtype: str, shape: list[int], size: int, name: str = "a.weight") -> bytes:
    return raw({name: {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}, bytes(size))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (bytes(100), "this is a file of zero bytes, not a safetensors file"),
        (b"\x89HDF\r\n\x1a\n\0", "this is an HDF5 file, not a safetensors file"),
        (b"name: 'x'", "cut off, damaged, or not a safetensors file: header too large"),
        (raw({}), "there is no tensor in it"),
        (
            one("F32", [2], 8)[:-1],
            "cut off, damaged, or not a safetensors file: incomplete metadata, file not fully "
            "covered",
        ),
        (
            one("F32", [3], 8),
            "cut off, damaged, or not a safetensors file: invalid shape, data type, or offset for "
            "tensor",
        ),
        (
            one("I64", [1], 8),
            'the tensor "a.weight" is I64; weights are F16, BF16, F32 or F64',
        ),
        (
            one("F8_E4M3", [1], 1),
            'the tensor "a.weight" is F8_E4M3; weights are F16, BF16, F32 or F64',
        ),
        (
            one("F32", [1], 4, "weight"),
            'the tensor "weight" is not called by layer and blob, as "conv1.weight" is',
        ),
        (one("F32", [1] * 33, 4), 'the tensor "a.weight" has more than 32 axes'),
        (
            one("F32", [0, 1 << 62], 0),
            f'the tensor "a.weight" is 0x{1 << 62}: too large',
        ),
    ],
)
def test_what_can_not_be_read_is_refused_in_these_words(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    assert refusal(path) == expected


def test_a_missing_file_and_too_many_tensors_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusal(tmp_path / "w.safetensors") == "no such file"
    save_file({f"a.{i}": torch.zeros(1) for i in range(3)}, tmp_path / "w.safetensors")
    monkeypatch.setattr("torrefy.weights.safetensors.MOST_TENSORS", 2)
    assert refusal(tmp_path / "w.safetensors") == "more than 2 tensors"


def test_what_is_not_of_floats_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(WeightsError) as error:
        write_safetensors(path, StoredNet("n", (StoredLayer("a", "Bias", (np.arange(3),)),)))
    assert str(error.value) == (
        f'{path}: layer "a": blob 0 is int64, but weights are float16, float32 or float64'
    )
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_with_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_safetensors(path, StoredNet("n", (StoredLayer("a", "Bias", (floats(3),)),)))
    path.chmod(0o640)
    net = read_safetensors(path)
    write_safetensors(path, net)
    same(read_safetensors(path), net)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_safetensors(path, StoredNet("n", (StoredLayer("a", "Bias", (floats(3),)),)))
    script = (
        "import sys; from pathlib import Path; from torrefy.weights.safetensors import *; "
        "read_safetensors(Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(path)]
    assert subprocess.run(command, check=False).returncode == 0


@settings(max_examples=200)
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_give_nothing_but_a_weights_error(
    survive: Callable[[bytes, str], None], content: bytes, measured: bool
) -> None:
    survive((len(content).to_bytes(8, "little") if measured else b"") + content, ".safetensors")


TOKENS = (
    b'"F64"', b'"BF16"', b'"U8"', b"0", b"1", b"18446744073709551615", b"9223372036854775808",
    b"4611686018427387904,0,4", b"[", b"]", b"{", b"}", b'"', b"null", b"-1", b"1e9", b"\\u0000",
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_a_mutated_file_gives_nothing_but_a_weights_error(
    survive: Callable[[bytes, str], None], data: st.DataObject
) -> None:
    text = {"name": "n", "layers": [{"name": "a", "type": "", "blobs": {"0": "a.x", "1": "a.y"}}]}
    header = bytearray(
        json.dumps(
            {
                "__metadata__": {"torrefy": json.dumps(text)},
                "a.x": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
                "a.y": {"dtype": "BF16", "shape": [4], "data_offsets": [8, 16]},
            }
        ).encode()
    )
    for _ in range(data.draw(st.integers(1, 4))):
        numbers = [found.span() for found in re.finditer(rb'\d+|"\w+"', header)]
        spots = st.sampled_from(numbers) if numbers else st.nothing()
        start, end = data.draw(
            spots | st.integers(0, len(header)).map(lambda at: (at, min(at + 1, len(header))))
        )
        header[start:end] = data.draw(st.sampled_from(TOKENS) | st.binary(max_size=3))
    size = data.draw(st.sampled_from([len(header), len(header) - 1, len(header) + 1]))
    survive(size.to_bytes(8, "little") + bytes(header) + bytes(16), ".safetensors")
