"""Caffemodels: what is read, what is refused and in which words, and what is written."""

from __future__ import annotations

import os
import signal
import stat
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from torrefy.errors import WeightsError
from torrefy.net.stored import StoredLayer, StoredNet, read_weights, write_weights
from torrefy.schema import new_message
from torrefy.weights.caffemodel import read_caffemodel, write_caffemodel

RANDOM = np.random.default_rng(7)


def floats(*shape: int, dtype: str = "f4") -> np.ndarray[Any, Any]:
    return RANDOM.standard_normal(shape).astype(dtype)


def small_net() -> Any:
    """A NetParameter with a convolution, a scalar PReLU and a layer without blobs."""
    net = new_message("caffe.NetParameter")
    net.name = "small"
    conv = net.layer.add(name="conv", type="Convolution", bottom=["data"], top=["conv"])
    conv.convolution_param.num_output = 2
    for shape in ((2, 3, 1, 1), (2,)):
        blob = conv.blobs.add()
        blob.shape.dim.extend(shape)
        blob.data.extend(range(int(np.prod(shape))))
    net.layer.add(name="relu", type="ReLU")
    prelu = net.layer.add(name="prelu", type="PReLU").blobs.add()
    prelu.shape.SetInParent()
    prelu.data.append(0.25)
    return net


SMALL = small_net().SerializeToString()


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def part(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def one_blob(*parts: bytes, name: bytes = b"a") -> bytes:
    """A file of one layer that has one blob of these parts."""
    return part(100, part(1, name) + part(7, b"".join(parts)))


def shaped(*dims: int) -> bytes:
    return part(7, part(1, b"".join(map(varint, dims))))


UNPACKED = b"\x2d" + bytes(4)
OLD = (
    part(2, part(4, b"v1") + b"\x28\x04" + part(6, b"\x08\x01\x18\x01" + part(5, b"")))
    + part(2, part(1, part(1, b"v0") + part(2, b"conv") + part(50, UNPACKED)))
    + part(2, part(1, part(1, b"v0") + part(50, shaped(2) + UNPACKED * 2)))
)


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Any]:
    """Read bytes as if they were a file."""

    def read_bytes(content: bytes) -> StoredNet:
        path = tmp_path / "w.caffemodel"
        path.write_bytes(content)
        return read_caffemodel(path)

    yield read_bytes


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as error:
        read_caffemodel(path)
    return str(error.value)


def same(net: StoredNet, other: StoredNet) -> None:
    assert (net.name, [(x.name, x.type) for x in net.layers]) == (
        other.name,
        [(x.name, x.type) for x in other.layers],
    )
    for mine, theirs in zip(net.layers, other.layers, strict=True):
        assert len(mine.blobs) == len(theirs.blobs)
        for blob, expected in zip(mine.blobs, theirs.blobs, strict=True):
            assert blob.shape == expected.shape
            assert blob.dtype == expected.dtype or not blob.size
            np.testing.assert_array_equal(blob, expected)


def test_names_types_shapes_and_values_are_read(read: Any) -> None:
    net = read(SMALL)
    assert net.name == "small"
    assert [(x.name, x.type) for x in net.layers] == [
        ("conv", "Convolution"),
        ("relu", "ReLU"),
        ("prelu", "PReLU"),
    ]
    weight, bias = net.layers[0].blobs
    np.testing.assert_array_equal(weight, np.arange(6, dtype="f4").reshape(2, 3, 1, 1))
    np.testing.assert_array_equal(bias, np.float32([0, 1]))
    assert net.layers[1].blobs == ()
    assert net.layers[2].blobs[0].shape == ()
    assert net.notes == ()


def test_packed_values_are_views_of_the_file_and_read_only(read: Any) -> None:
    weight = read(SMALL).layers[0].blobs[0]
    assert weight.base is not None
    with pytest.raises(ValueError, match="read-only"):
        weight[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        weight.setflags(write=True)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_values_that_are_not_packed_are_read(read: Any, dtype: str, count: int) -> None:
    tag = b"\x2d" if dtype == "f4" else b"\x41"
    values = floats(count, dtype=dtype)
    unpacked = b"".join(tag + value.tobytes() for value in values)
    blob = read(one_blob(shaped(count), unpacked)).layers[0].blobs[0]
    assert blob.dtype == dtype
    np.testing.assert_array_equal(blob, values)
    assert not blob.flags.writeable


def test_values_in_several_pieces_are_put_together(read: Any) -> None:
    values = floats(9)
    pieces = [
        part(5, values[:2].tobytes()),
        part(6, bytes(16)),
        b"\x2d" + values[2].tobytes() + b"\x2d" + values[3].tobytes(),
        shaped(9),
        part(5, b""),
        b"\x2d" + values[4].tobytes(),
        part(5, values[5:].tobytes()),
    ]
    np.testing.assert_array_equal(read(one_blob(*pieces)).layers[0].blobs[0], values)


def test_double_data_stays_double_and_wins_over_data_as_in_caffe(read: Any) -> None:
    values = floats(3, dtype="f8")
    net = read(one_blob(shaped(3), part(5, bytes(12)), part(8, values.tobytes())))
    np.testing.assert_array_equal(net.layers[0].blobs[0], values, strict=True)


def test_the_legacy_shape_wins_over_the_new_one_as_in_caffe(read: Any) -> None:
    legacy = b"\x08\x01\x10\x01\x18\x02\x20\x03"
    net = read(one_blob(legacy, shaped(6), part(5, bytes(24))))
    assert net.layers[0].blobs[0].shape == (1, 1, 2, 3)


def test_dims_that_are_not_packed_are_read(read: Any) -> None:
    net = read(one_blob(part(7, b"\x08\x02\x08\x03"), part(5, bytes(24))))
    assert net.layers[0].blobs[0].shape == (2, 3)


def test_v1_layers_are_read_by_their_numbers(read: Any) -> None:
    old = new_message("caffe.NetParameter")
    layer = old.layers.add(name="ip", type=14)
    layer.blobs.add(num=1, channels=1, height=2, width=3, data=range(6))
    old.layers.add(name="odd").SetInParent()
    net = read(old.SerializeToString() + part(2, part(4, b"new") + b"\x28\xe7\x07"))
    assert [(x.name, x.type) for x in net.layers] == [
        ("ip", "InnerProduct"),
        ("odd", ""),
        ("new", ""),
    ]
    assert net.layers[0].blobs[0].shape == (1, 1, 2, 3)


def test_v0_layers_are_read_within_v1_layers(read: Any) -> None:
    old = new_message("caffe.NetParameter")
    for kind in ("conv", "innerproduct", "pool", "images", "softmax_loss", "relu", "mine"):
        old.layers.add().layer.name = kind
        old.layers[-1].layer.type = kind
    old.layers[0].layer.blobs.add(num=1, channels=1, height=1, width=2, data=[1, 2])
    net = read(old.SerializeToString())
    assert [(x.name, x.type) for x in net.layers] == [
        ("conv", "Convolution"),
        ("innerproduct", "InnerProduct"),
        ("pool", "Pooling"),
        ("images", "ImageData"),
        ("softmax_loss", "SoftmaxWithLoss"),
        ("relu", "ReLU"),
        ("mine", "mine"),
    ]
    assert net.layers[0].blobs[0].tolist() == [[[[1, 2]]]]


def test_a_file_that_mixes_layer_and_layers_keeps_layers_as_caffe_does(read: Any) -> None:
    mixed = new_message("caffe.NetParameter")
    mixed.layer.add(name="new")
    mixed.layers.add(name="old")
    net = read(mixed.SerializeToString())
    assert [x.name for x in net.layers] == ["old"]
    assert net.notes == (
        "the file mixes `layer` and `layers`: as in Caffe `layers` is kept, `layer` dropped",
    )


def test_fields_of_unknown_forks_are_skipped_by_their_wire_type(read: Any) -> None:
    group = b"\xa3\x7d" + b"\x0a\x03xyz" + b"\x0b\x0c" + b"\xa4\x7d"
    odd = b"".join((
        part(2000, b"\xff\xff\xff"),
        varint(2001 << 3) + b"\xff\x01",
        varint(2002 << 3 | 1) + bytes(8),
        varint(2003 << 3 | 5) + bytes(4),
        group,
    ))  # fmt: skip
    blob = part(7, odd + shaped(1) + part(5, bytes(4)) + odd)
    net = read(odd + part(100, odd + part(1, b"a") + blob + part(106, b"\xff")) + odd)
    assert net.layers[0].name == "a"
    assert net.layers[0].blobs[0].tolist() == [0]
    assert net.notes == (
        "unknown fields of BlobProto skipped: 8",
        "unknown fields of NetParameter skipped: 8",
    )


def test_a_known_number_with_another_wire_type_is_an_unknown_field(read: Any) -> None:
    net = read(b"\x08\x01" + one_blob(shaped(1), b"\x28\x05", part(5, bytes(4))))
    assert net.layers[0].blobs[0].shape == (1,)


@pytest.mark.parametrize(("kind", "dtype"), [(0, "f8"), (1, "f4"), (2, "f2")])
def test_raw_values_of_nvidias_caffe_are_read(read: Any, kind: int, dtype: str) -> None:
    values = floats(4, dtype=dtype)
    net = read(one_blob(shaped(2, 2), b"\x50" + bytes([kind]), part(12, values.tobytes())))
    np.testing.assert_array_equal(net.layers[0].blobs[0], values.reshape(2, 2), strict=True)
    assert net.notes == ("blobs read from `raw_data`, a field of NVIDIA's Caffe: 1",)


def test_a_name_that_is_not_utf8_is_read(read: Any) -> None:
    net = read(one_blob(shaped(1), part(5, bytes(4)), name=b"caf\xe9"))
    assert net.layers[0].name == "caf\ufffd"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (bytes(9000), "this is a file of zero bytes, not a caffemodel"),
        (b"\xff\xd8\xff\xe0JFIF\0", "this is a JPEG picture, not a caffemodel"),
        (b"\x89HDF\r\n\x1a\n\0", "this is an HDF5 file, not a caffemodel"),
        (
            b"<!DOCTYPE html>\n<html></html>",
            "this is a web page (a download that failed?), not a caffemodel",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
            "this is a git-lfs pointer (run `git lfs pull`), not a caffemodel",
        ),
        (
            b'# mine\nname: "LeNet"\nlayer {\n}\n',
            "this is a prototxt, not a caffemodel. "
            "A definition holds no weights: they are in a file of their own.",
        ),
        (b"404: Not Found", "this is a text, not a caffemodel"),
        (
            b"\x08\x05\x12\x03a.b\x20\x00",
            "this is no caffemodel. "
            "It begins like a solverstate, a mean image (binaryproto) or an ONNX model.",
        ),
        (part(1, b"LeNet"), "not a caffemodel: there is no layer in it"),
        (
            b"\x80\x02}q\x00.",
            "the file is cut off, or not a caffemodel: "
            "the field at byte 3 would reach to byte 12, but the file ends at byte 6",
        ),
        (
            SMALL[:-9],
            "the file is cut off, or not a caffemodel: the field at byte 114 would reach to byte "
            f"{len(SMALL)}, but the file ends at byte {len(SMALL) - 9}",
        ),
        (
            SMALL + bytes(5000),
            f"the file is zeros from byte {len(SMALL)} on. "
            "A download that was never finished? Get it again.",
        ),
        (
            part(100, part(1, b"a") + b"\x3a\x05\x2a"),
            "damaged, or not a caffemodel: "
            "the field at byte 6 would reach to byte 13, but its message ends at byte 9",
        ),
        (
            part(100, b"\x0f"),
            "damaged, or not a caffemodel: no field can begin with 0x0f at byte 3",
        ),
        (
            part(100, b"\x08" + b"\xff" * 11),
            "damaged, or not a caffemodel: an integer of more than ten bytes at byte 3",
        ),
        (
            b"\x1b" * 101 + b"\0",
            "damaged, or not a caffemodel: groups nest deeper than 100 at byte 100",
        ),
        (
            b"\x53\x5c\x00",
            "damaged, or not a caffemodel: a group ends that did not begin at byte 1",
        ),
        (b"\x53\x08\x01", "damaged, or not a caffemodel: a group does not end at byte 3"),
        (
            one_blob(shaped(2, 3), part(5, bytes(20))),
            'layer "a": blob 0 is 2x3 (6 values), but the file holds 5',
        ),
        (
            one_blob(part(5, bytes(20))),
            'layer "a": blob 0 is a scalar (1 value), but the file holds 5',
        ),
        (
            one_blob(b"\x08\x07", part(5, bytes(4))),
            'layer "a": blob 0 is 7x0x0x0 (0 values), but the file holds 1',
        ),
        (
            one_blob(shaped(2, 1 << 62, 1 << 62), part(5, bytes(8))),
            f'layer "a": blob 0 is 2x{1 << 62}x{1 << 62} ({1 << 125} values), but the file holds 2',
        ),
        (
            one_blob(shaped(0, 1 << 62, 1 << 62)),
            f'layer "a": blob 0 is 0x{1 << 62}x{1 << 62}: too large',
        ),
        (
            one_blob(shaped(2, (1 << 64) - 1), part(5, bytes(8))),
            'layer "a": blob 0 is 2x-1: an axis is negative',
        ),
        (one_blob(shaped(*[1] * 33)), 'layer "a": blob 0 has more than 32 axes'),
        (
            one_blob(shaped(1), part(5, bytes(5))),
            "damaged, or not a caffemodel: 5 bytes are no array of numbers of 4 bytes at byte 15",
        ),
    ],
)
def test_what_can_not_be_read_is_refused_in_these_words(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    path = tmp_path / "w.caffemodel"
    path.write_bytes(content)
    assert refusal(path) == f"{path}: {expected}"


def test_a_missing_file_a_directory_and_a_pipe_are_told(tmp_path: Path) -> None:
    path = tmp_path / "lenet.caffemodel"
    path.write_bytes(SMALL)
    wrong = tmp_path / "lent.caffemodel"
    assert refusal(wrong) == f'{wrong}: no such file. Did you mean "lenet.caffemodel"?'
    assert (
        refusal(tmp_path)
        == f"{tmp_path}: this is a directory, not a caffemodel. It holds lenet.caffemodel."
    )
    pipe = tmp_path / "pipe.caffemodel"
    os.mkfifo(pipe)
    assert refusal(pipe) == f"{pipe}: this is a device or a pipe, not a caffemodel"


def test_a_file_cut_short_while_it_is_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.caffemodel"
    path.write_bytes(SMALL)
    before = SimpleNamespace(st_size=len(SMALL) + 100)
    monkeypatch.setattr("torrefy.weights.files.os.fstat", lambda _: before)
    assert refusal(path) == f"{path}: the file was cut short while it was read"


def test_a_file_cut_short_after_it_was_read_changes_no_blob(tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    path.write_bytes(SMALL)
    weight = read_caffemodel(path).layers[0].blobs[0]
    path.write_bytes(b"")
    assert weight.ravel().tolist() == [0, 1, 2, 3, 4, 5]


def test_gigabytes_of_zeros_are_refused_without_reading_them(tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    with path.open("wb") as file:
        file.truncate(8 << 30)
    start = time.process_time()
    assert refusal(path) == f"{path}: this is a file of zero bytes, not a caffemodel"
    assert time.process_time() - start < 1


def test_every_truncation_is_refused_or_ends_between_two_layers(read: Any) -> None:
    whole = [x.name for x in read(SMALL).layers]
    seen = set()
    for size in range(1, len(SMALL)):
        try:
            names = [x.name for x in read(SMALL[:size]).layers]
        except WeightsError:
            continue
        assert names == whole[: len(names)]
        seen.add(len(names))
    assert seen == {1, 2}


@given(st.binary(max_size=300))
def test_random_bytes_give_nothing_but_a_weights_error(content: bytes) -> None:
    survive(content)


@settings(max_examples=500)
@given(st.data())
def test_a_mutated_caffemodel_gives_nothing_but_a_weights_error(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from([SMALL, OLD])))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
        if not content:
            break
    survive(bytes(content))


def survive(content: bytes) -> None:
    """Read bytes; anything but success and `WeightsError`, or a large allocation, fails."""
    path = Path(f"/dev/shm/torrefy-{os.getpid()}.caffemodel")
    if not path.parent.is_dir():
        pytest.skip("no /dev/shm")
    path.write_bytes(content)
    tracemalloc.start()
    try:
        for layer in read_caffemodel(path).layers:
            for blob in layer.blobs:
                blob.sum()
    except WeightsError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        path.unlink()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(b"\xa2\x06\x00", id="empty layers"),
        pytest.param(b"\xa2\x06\x02\x0a\x00", id="layers with an empty name"),
        pytest.param(b"\x48\x01", id="unknown fields"),
        pytest.param(b"\x4d" + bytes(4) + b"\x48\x01", id="runs that are interrupted"),
        pytest.param(b"\x4b\x4c", id="groups"),
    ],
)
def test_a_flood_of_fields_is_stopped_in_bounded_time(read: Any, flood: bytes) -> None:
    start = time.process_time()
    with pytest.raises(WeightsError, match="more than 1048576 fields"):
        read(part(1, b"net") + flood * (1 << 20))
    assert time.process_time() - start < 30


@pytest.mark.parametrize("packed", [True, False])
def test_the_peak_of_memory_is_below_twice_the_file(tmp_path: Path, packed: bool) -> None:
    values = floats(2_000_000)
    if packed:
        data = part(5, values.tobytes())
    else:
        rows = np.empty((values.size, 5), np.uint8)
        rows[:, 0] = 0x2D
        rows[:, 1:] = values.view(np.uint8).reshape(-1, 4)
        data = rows.tobytes()
    path = tmp_path / "w.caffemodel"
    path.write_bytes(one_blob(shaped(values.size), data))
    size = path.stat().st_size
    tracemalloc.start()
    try:
        blob = read_caffemodel(path).layers[0].blobs[0]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(blob, values)
    assert peak < (1.01 if packed else 2) * size


def test_real_files_hold_what_protobuf_itself_finds_in_them(shared: Path) -> None:
    paths = sorted(shared.glob("corpus/weights/*/*.caffemodel"))
    assert paths
    for path in paths:
        expected = new_message("caffe.NetParameter")
        expected.MergeFromString(path.read_bytes())
        net = read_weights(path)
        assert net.name == expected.name
        assert [(x.name, x.type) for x in net.layers] == [(x.name, x.type) for x in expected.layer]
        for layer, message in zip(net.layers, expected.layer, strict=True):
            assert [x.shape for x in layer.blobs] == [tuple(b.shape.dim) for b in message.blobs]
            for blob, proto in zip(layer.blobs, message.blobs, strict=True):
                np.testing.assert_array_equal(blob.ravel(), np.float32(proto.data))


def test_caffes_own_files_of_every_age_hold_the_params_that_caffe_loaded(shared: Path) -> None:
    cases = [
        *shared.glob("golden/nets/*/weights.caffemodel"),
        *shared.glob("golden/upgrade/v[01]_binary/*.caffemodel"),
    ]
    assert len(cases) > 10
    for path in cases:
        stored = {x.name: x for x in read_weights(path).layers}
        compared = 0
        with np.load(path.with_name("case.npz")) as case:
            for key in case:
                kind, *rest = key.split(":")
                if kind == "param" and rest[0] in stored and int(rest[1]) < len(
                    stored[rest[0]].blobs
                ):  # fmt: skip
                    blob = stored[rest[0]].blobs[int(rest[1])]
                    legacy = (1,) * (blob.ndim - case[key].ndim) + case[key].shape
                    np.testing.assert_array_equal(blob, case[key].reshape(legacy))
                    compared += 1
        assert compared, path


def test_upgraded_types_are_those_of_caffes_own_upgrade(shared: Path) -> None:
    for folder in shared.glob("golden/upgrade/v[01]_binary"):
        old, expected = (
            read_weights(folder / name) for name in ("old.caffemodel", "expected.caffemodel")
        )
        same(old, expected)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    net = StoredNet(
        "a net",
        (
            StoredLayer("conv", "Convolution", (floats(4, 3, 2, 2), floats(4))),
            StoredLayer("relu", "ReLU", ()),
            StoredLayer("double", "InnerProduct", (floats(300, 2, dtype="f8"),)),
            StoredLayer("scalar", "PReLU", (floats(),)),
            StoredLayer("none", "Parameter", (floats(0, 3),)),
            StoredLayer("transposed", "InnerProduct", (floats(5, 7).T,)),
        ),
    )
    write_weights(path, net)
    read = read_weights(path)
    same(read, net)
    assert read.source == str(path)
    assert read.notes == ()


blob_arrays = hnp.arrays(
    st.sampled_from(["<f4", "<f8", ">f4"]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    elements=st.floats(-1e6, 1e6, width=32),
)
stored_layers = st.builds(
    StoredLayer, st.text(), st.text(), st.lists(blob_arrays, max_size=3).map(tuple)
)


@given(st.text(), st.lists(stored_layers, min_size=1, max_size=4))
def test_any_net_survives_the_round_trip(name: str, layers: list[StoredLayer]) -> None:
    path = Path(f"/dev/shm/torrefy-{os.getpid()}.caffemodel")
    if not path.parent.is_dir():
        pytest.skip("no /dev/shm")
    try:
        write_caffemodel(path, StoredNet(name, tuple(layers)))
        read = read_caffemodel(path)
    finally:
        path.unlink(missing_ok=True)
    native = [
        StoredLayer(x.name, x.type, tuple(b.astype(b.dtype.newbyteorder("=")) for b in x.blobs))
        for x in layers
    ]
    same(read, StoredNet(name, tuple(native)))


def test_protobuf_reads_what_is_written_and_finds_the_definition_too(tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    spec = small_net().layer[0]
    weight = floats(2, 3, 1, 1)
    write_caffemodel(path, StoredNet("n", (StoredLayer("c", "Convolution", (weight,), spec),)))
    net = new_message("caffe.NetParameter")
    net.ParseFromString(path.read_bytes())
    (layer,) = net.layer
    assert (net.name, layer.name, layer.convolution_param.num_output) == ("n", "c", 2)
    assert list(layer.bottom) == ["data"]
    (blob,) = layer.blobs
    assert list(blob.shape.dim) == [2, 3, 1, 1]
    np.testing.assert_array_equal(np.float32(blob.data), weight.ravel())
    assert len(spec.blobs) == 2, "the spec itself is not touched"


def test_half_precision_is_written_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    half = floats(3, dtype="f2")
    write_caffemodel(path, StoredNet("n", (StoredLayer("a", "Bias", (half,)),)))
    np.testing.assert_array_equal(
        read_caffemodel(path).layers[0].blobs[0], half.astype("f4"), strict=True
    )


def test_a_blob_that_is_not_of_floats_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    with pytest.raises(WeightsError) as error:
        write_caffemodel(path, StoredNet("n", (StoredLayer("a", "Bias", (np.arange(3),)),)))
    assert str(error.value) == (
        f'{path}: layer "a": blob 0 is int64, but a caffemodel keeps float32 and float64'
    )
    assert list(tmp_path.iterdir()) == []


def test_a_net_may_be_written_over_the_file_it_was_read_from(tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    path.write_bytes(SMALL)
    path.chmod(0o640)
    net = read_caffemodel(path)
    write_caffemodel(path, net)
    same(read_caffemodel(path), net)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_is_followed_when_writing(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "w.caffemodel"
    link.symlink_to(tmp_path / "real" / "w.caffemodel")
    write_caffemodel(link, StoredNet("n", (StoredLayer("a", "ReLU", ()),)))
    assert link.is_symlink()
    assert read_caffemodel(tmp_path / "real" / "w.caffemodel").name == "n"


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from torrefy.net.stored import StoredLayer, StoredNet
from torrefy.weights.caffemodel import write_caffemodel

class Deadly(np.ndarray):
    def reshape(self, *shape):
        os.kill(os.getpid(), signal.SIGKILL)

first = np.zeros(1 << 20, np.float32)
last = np.zeros((4, 4), np.float32).view(Deadly)
np.ascontiguousarray = lambda array, dtype: array
layers = StoredLayer("a", "Bias", (first,)), StoredLayer("b", "Bias", (last,))
write_caffemodel(Path(sys.argv[1]), StoredNet("n", layers))
"""

FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from torrefy.errors import WeightsError
from torrefy.net.stored import StoredLayer, StoredNet
from torrefy.weights.caffemodel import write_caffemodel

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
blob = np.zeros(1 << 20, np.float32)
try:
    write_caffemodel(Path(sys.argv[1]), StoredNet("n", (StoredLayer("a", "Bias", (blob,)),)))
except WeightsError as error:
    print(error)
"""


def run(script: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )


def test_a_process_killed_while_it_writes_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    path.write_bytes(SMALL)
    assert run(KILLED, path).returncode == -signal.SIGKILL
    assert path.read_bytes() == SMALL
    (left,) = tmp_path.glob(".torrefy-*.part")
    assert left.stat().st_size > 1 << 20, "it was killed in the middle"


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    path.write_bytes(SMALL)
    assert run(FULL, path).stdout == f"{path}: can't be written: File too large\n"
    assert path.read_bytes() == SMALL
    assert list(tmp_path.iterdir()) == [path]


def test_an_array_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.caffemodel"
    path.write_bytes(SMALL)

    def fail(*_: object) -> None:
        raise RuntimeError("device lost")

    monkeypatch.setattr(np, "ascontiguousarray", fail)
    with pytest.raises(RuntimeError, match="device lost"):
        write_caffemodel(path, StoredNet("n", (StoredLayer("a", "Bias", (floats(3),)),)))
    assert path.read_bytes() == SMALL
    assert list(tmp_path.iterdir()) == [path]


def test_where_nothing_can_be_written_is_told(tmp_path: Path) -> None:
    net = StoredNet("n", (StoredLayer("a", "ReLU", ()),))
    for path, expected in (
        (tmp_path / "no" / "w.caffemodel", "can't be written: No such file or directory"),
        (tmp_path, "this is no file that could be replaced"),
    ):
        with pytest.raises(WeightsError) as error:
            write_caffemodel(path, net)
        assert str(error.value) == f"{path}: {expected}"


def test_the_values_are_little_endian_ieee_floats(tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    blob = np.array([1.5, -2.0], ">f4")
    write_caffemodel(path, StoredNet("", (StoredLayer("a", "Bias", (blob,)),)))
    assert path.read_bytes().endswith(b"\x2a\x08" + struct.pack("<2f", 1.5, -2.0))
