"""HDF5 weights: Caffe's layout, what is refused and in which words, and what is written."""

from __future__ import annotations

import random
import re
import stat
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.weights.conftest import floats, refusal, same

from torrefy.errors import WeightsError
from torrefy.net.stored import StoredLayer, StoredNet, read_weights, write_weights
from torrefy.weights.hdf5 import read_hdf5, write_hdf5
from torrefy.weights.hdf5_file import HDF5File

Make = Callable[[Any], object]


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """A file that a function fills by h5py."""

    def make(fill: Make, **options: Any) -> Path:
        path = tmp_path / "w.h5"
        with h5py.File(path, "w", **options) as file:
            fill(file)
        return path

    return make


def put(file: Any) -> None:
    """What Caffe's Net::ToHDF5 makes of a convolution, a ReLU and a layer that shares a weight."""
    file["data/conv/0"] = np.arange(6, dtype="f4").reshape(2, 3, 1, 1)
    file["data/conv/1"] = np.float32([0, 1])
    file.create_group("data/relu")
    file["data/again/1"] = np.float32([5, 6])
    file["diff/conv/0"] = np.zeros(6, "f4")


def test_caffes_layout_is_read(made: Callable[..., Path]) -> None:
    net = read_weights(made(put))
    assert [(x.name, x.type, x.places) for x in net.layers] == [
        ("again", "", (1,)),
        ("conv", "", (0, 1)),
        ("relu", "", ()),
    ]
    weight, bias = net.layers[1].blobs
    np.testing.assert_array_equal(weight, np.arange(6, dtype="f4").reshape(2, 3, 1, 1))
    assert bias.tolist() == [0, 1]
    assert net.layers[0].blobs[0].tolist() == [5, 6]
    assert (net.name, net.notes) == ("", ())


def test_blobs_are_views_of_the_file_and_read_only(made: Callable[..., Path]) -> None:
    path = made(put)
    weight = read_hdf5(path).layers[1].blobs[0]
    path.write_bytes(b"")
    assert weight.ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert weight.base is not None
    with pytest.raises(ValueError, match="read-only"):
        weight[0] = 1


@pytest.mark.parametrize("options", [{}, {"libver": "latest"}, {"track_order": True}])
def test_floats_stay_as_they_are_and_integers_become_float32(
    made: Callable[..., Path], options: dict[str, Any]
) -> None:
    kinds = ["<f2", "<f4", ">f8", ">f2", "i1", "<u8"]
    values = [np.arange(12).reshape(2, 6).astype(kind) for kind in kinds]
    values += [np.array(2.5, "f8"), np.zeros((0, 3), "f4")]

    def fill(file: Any) -> None:
        group = file.create_group("data/a")
        for i, value in enumerate(values):
            group[str(i)] = value

    for blob, value in zip(read_hdf5(made(fill, **options)).layers[0].blobs, values, strict=True):
        expected = value if value.dtype.kind == "f" else value.astype("f4")
        assert blob.dtype == expected.dtype
        np.testing.assert_array_equal(blob, expected)


def test_links_within_the_file_are_followed_and_shared_blobs_are_read_once(
    made: Callable[..., Path],
) -> None:
    def fill(file: Any) -> None:
        file["data/conv/0"] = floats(3)
        file["data/conv/1"] = h5py.SoftLink("0")
        file["data/hard/0"] = file["data/conv/0"]
        file["data/soft/0"] = h5py.SoftLink("/data/./hard/0")
        file["data/whole"] = file["data/conv"]

    blobs = [blob for layer in read_hdf5(made(fill)).layers for blob in layer.blobs]
    assert len(blobs) == 6
    assert all(blob is blobs[0] for blob in blobs)


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (3, 4)},
        {"chunks": (3, 4), "compression": "gzip"},
        {"chunks": (20, 20), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": (1, 37), "fletcher32": True, "maxshape": (None, None)},
    ],
)
def test_chunks_and_the_filters_that_hdf5_has_built_in_are_read(
    made: Callable[..., Path], options: dict[str, Any]
) -> None:
    values = floats(29, 37)
    path = made(lambda file: file.create_dataset("data/a/0", data=values, **options))
    np.testing.assert_array_equal(read_hdf5(path).layers[0].blobs[0], values)


def test_many_layers_and_slashes_in_names_are_read(made: Callable[..., Path]) -> None:
    def fill(file: Any) -> None:
        for i in range(300):
            file[f"data/stage/{i}/conv/0"] = np.float32(i)

    layers = read_hdf5(made(fill)).layers
    assert {x.name: float(x.blobs[0]) for x in layers} == {f"stage/{i}/conv": i for i in range(300)}


def compact(file: Any) -> None:
    group = file.create_group("data/a")
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((5,))
    made = h5py.h5d.create(group.id, b"0", h5py.h5t.IEEE_F32LE, space, properties)
    made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(5, dtype="f4"))


def test_values_within_the_header_are_read(made: Callable[..., Path]) -> None:
    assert read_hdf5(made(compact)).layers[0].blobs[0].tolist() == [0, 1, 2, 3, 4]


def dataset(**what: Any) -> Make:
    return lambda file: file.create_dataset("data/a/0", **what)


def link(what: Any) -> Make:
    def fill(file: Any) -> None:
        file.create_group("data/a")["0"] = what

    return fill


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "0", shape=(3,))
    file.create_group("data/a").create_virtual_dataset("0", layout)


def within_itself(file: Any) -> None:
    file.create_group("data/a/b")
    file["data/a/b/c"] = file["data/a"]


def named_type(file: Any) -> None:
    file["type"] = np.dtype("f4")
    file.create_dataset("data/a/0", shape=(3,), dtype=file["type"])


def crowd(file: Any) -> None:
    for i in range(9):
        file[f"data/{i}/0"] = 0.0


def nest(file: Any) -> None:
    file["data/" + "a/" * 33 + "0"] = 0.0


NEWER = (
    "its groups are kept in a newer way that is not read. "
    'Write it with h5py\'s libver="earliest" and without track_order.'
)


@pytest.mark.parametrize(
    ("fill", "options", "expected"),
    [
        (lambda file: None, {}, "these are no weights of Caffe's: there is no group `data` in it"),
        (
            lambda file: file.create_dataset("data", data=np.zeros((2, 3))),
            {},
            "these are no weights of Caffe's: its `data` is a dataset, as in files for HDF5Data "
            "layers",
        ),
        (
            lambda file: file.create_group("history"),
            {},
            "these are no weights of Caffe's: this is a solverstate",
        ),
        (lambda file: file.create_group("data"), {}, "there is no layer in it"),
        (
            lambda file: file.create_dataset("data/conv", data=0.0),
            {},
            '"conv" in the group `data` is not a group',
        ),
        (
            lambda file: file.create_dataset("data/a/kernel", data=0.0),
            {},
            'layer "a": "kernel" is not the number of a blob',
        ),
        (
            link(h5py.ExternalLink("/etc/passwd", "/")),
            {},
            '"0" is a link to another file; such links are not followed',
        ),
        (link(h5py.SoftLink("/nowhere")), {}, 'the soft link "0" leads to nothing'),
        (link(h5py.SoftLink("0")), {}, 'the soft link "0" leads round in circles'),
        (within_itself, {}, 'the group "a/b/c" is within itself'),
        (nest, {}, "groups nest deeper than 32"),
        (virtual, {"libver": "latest"}, 'layer "a": the values of blob 0 are kept in another file'),
        (
            dataset(shape=(3,), dtype="f4", external="/etc/passwd"),
            {},
            'layer "a": the values of blob 0 are kept in another file',
        ),
        (
            dataset(data=["a"], dtype=h5py.string_dtype()),
            {},
            'layer "a": blob 0 holds lists, not numbers',
        ),
        (
            dataset(data=np.zeros(3, "S4")),
            {},
            'layer "a": blob 0 holds texts, not numbers',
        ),
        (
            dataset(data=np.zeros(3, bool)),
            {},
            'layer "a": blob 0 holds enumerated values, not numbers',
        ),
        (dataset(data=np.zeros(3, "c8")), {}, 'layer "a": blob 0 holds compounds, not numbers'),
        (
            dataset(shape=(3,), dtype=h5py.ref_dtype),
            {},
            'layer "a": blob 0 holds references, not numbers',
        ),
        (
            dataset(data=np.zeros(3, np.longdouble)),
            {},
            'layer "a": blob 0 is of an odd kind of float of 128 bits; weights are float16, '
            "float32 or float64",
        ),
        (named_type, {}, 'layer "a": blob 0 has a named type, which is not read'),
        (dataset(data=h5py.Empty("f4")), {}, 'layer "a": blob 0 is empty: it has no shape'),
        (
            dataset(shape=(1 << 20, 1 << 20), dtype="f4"),
            {},
            f'layer "a": blob 0 is {1 << 20}x{1 << 20} ({4 << 40} bytes), but the file holds 0 '
            "bytes of it",
        ),
        (
            dataset(shape=(1 << 40,), dtype="f4", chunks=(1 << 20,), compression="gzip"),
            {},
            f'layer "a": blob 0 is {1 << 40} ({4 << 40} bytes), but the file holds 0 bytes of it',
        ),
        (
            dataset(shape=(0, 1 << 50, 1 << 50), dtype="f4"),
            {},
            f'layer "a": blob 0 is 0x{1 << 50}x{1 << 50}: too large',
        ),
        (
            dataset(data=np.zeros(3, "f4"), compression="lzf"),
            {},
            'layer "a": blob 0 needs the HDF5 filter 32000 (lzf), which is not built in. '
            "Repack it: h5repack -f NONE old.h5 new.h5.",
        ),
        (
            dataset(data=np.zeros(3, "f4"), chunks=(2,)),
            {"libver": "latest"},
            'layer "a": blob 0 is kept in a way that is not read (layout N). Write it with '
            'h5py\'s libver="earliest", or repack it: h5repack -l CONTI.',
        ),
        (crowd, {"track_order": True}, NEWER),
    ],
)
def test_what_can_not_be_read_is_refused_in_these_words(
    made: Callable[..., Path], fill: Make, options: dict[str, Any], expected: str
) -> None:
    told = refusal(made(fill, **options))
    assert re.sub(r"layout \d", "layout N", told) == expected


def test_files_that_are_no_hdf5_are_told(made: Callable[..., Path]) -> None:
    path = made(put)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert refusal(path) == f"the file is cut off: it has {len(whole) - 100} bytes of {len(whole)}"
    for content, expected in (
        (b"", "the file is empty"),
        (bytes(9000), "this is a file of zero bytes, not an HDF5 file"),
        (b"\x89PNG\r\n\x1a\n", "this is a PNG picture, not an HDF5 file"),
        (b"\x0a\x05LeNet", "this is no HDF5 file"),
        (b"\x89HDF\r\n\x1a\r", "this is no HDF5 file"),
        (
            whole[:40],
            "damaged, or not an HDF5 file: 8 bytes more are expected than there are at byte 40",
        ),
    ):
        path.write_bytes(content)
        assert refusal(path) == expected
    folder = path.rename(path.with_name("x.h5")).parent / "folder.h5"
    folder.mkdir()
    assert refusal(folder) == "this is a directory, not an HDF5 file"


# --- Bounds ---


def test_a_file_that_fans_out_without_end_is_stopped(
    made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torrefy.weights.hdf5_file.MOST_STEPS", 1 << 14)  # 1 << 20 take 15 seconds

    def fill(file: Any) -> None:
        group = file.create_group("data")
        for _ in range(30):
            inner = group.create_group("a")
            group["b"] = inner
            group = inner

    assert "more than 16384 parts" in refusal(made(fill))


def test_a_chunk_that_expands_further_than_it_says_is_refused(made: Callable[..., Path]) -> None:
    def fill(file: Any) -> None:
        made = file.create_dataset("data/a/0", (1024,), "f4", chunks=(1024,), compression="gzip")
        made.id.write_direct_chunk((0,), zlib.compress(bytes(1 << 24)))

    path = made(fill)
    tracemalloc.start()
    try:
        told = refusal(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "a chunk of blob 0 has 4100 bytes, not 4096, at byte" in told
    assert peak < 1 << 20


def test_copies_are_paid_for_by_the_file_once(made: Callable[..., Path]) -> None:
    file = HDF5File(memoryview(made(put).read_bytes()), "w.h5")
    file.pay(len(file.data), "blob 0")
    with pytest.raises(WeightsError) as error:
        file.pay(1, "blob 1")
    assert str(error.value) == "w.h5: blob 1 is made of the same bytes as others"


def small(folder: Path) -> list[bytes]:
    """Files of every kind that is read."""

    def chunked(file: Any) -> None:
        options = {"chunks": (3, 4), "compression": "gzip", "shuffle": True, "fletcher32": True}
        file.create_dataset("data/a/b/0", data=floats(10, 10), **options)
        file.create_dataset("data/a/b/1", data=np.arange(9, dtype="i2"), maxshape=(None,))
        file["data/c/0"] = h5py.SoftLink("/data/a/b/0")

    path = folder / "w.h5"
    files = []
    for fill, options in (
        (put, {}),
        (chunked, {}),
        (compact, {"libver": "latest"}),
        (put, {"track_order": True}),
    ):
        with h5py.File(path, "w", **options) as file:
            fill(file)
        files.append(path.read_bytes())
    write_weights(path, StoredNet("n", (StoredLayer("a/b", "Bias", (floats(3), floats(2, 2))),)))
    return [*files, path.read_bytes()]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return small(tmp_path_factory.mktemp("small"))


@settings(max_examples=200)
@given(st.binary(max_size=300), st.booleans())
def test_random_bytes_give_nothing_but_a_weights_error(
    survive: Callable[[bytes, str], None], content: bytes, signed: bool
) -> None:
    survive((b"\x89HDF\r\n\x1a\n" if signed else b"") + content, ".h5")


@settings(max_examples=1000, deadline=None)
@given(st.data())
def test_a_mutated_file_gives_nothing_but_a_weights_error(
    survive: Callable[[bytes, str], None], files: list[bytes], data: st.DataObject
) -> None:
    content = bytearray(data.draw(st.sampled_from(files)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        put_in = data.draw(
            st.binary(max_size=4)
            | st.sampled_from([b"\xff" * 8, bytes(8), len(content).to_bytes(8, "little")])
            | st.integers(0, len(content)).map(lambda n: n.to_bytes(8, "little"))
        )
        content[at : at + len(put_in)] = put_in
    survive(bytes(content), ".h5")


def test_every_truncation_gives_nothing_but_a_weights_error(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    for content in small(tmp_path):
        for size in random.Random(0).sample(range(1, len(content)), 100):
            path.write_bytes(content[:size])
            with pytest.raises(WeightsError):
                read_hdf5(path)


# --- Caffe's own files ---


def test_caffes_own_files_equal_its_caffemodels(shared: Path) -> None:
    paths = sorted(shared.glob("golden/nets/*/weights.h5"))
    assert len(paths) > 10
    for path in paths:
        expected = {x.name: x for x in read_weights(path.with_suffix(".caffemodel")).layers}
        read = read_weights(path).layers
        assert {x.name for x in read} == expected.keys()
        shares = "siamese" in str(path)
        for layer in read:
            if shares and layer.name in ("conv_p", "ip_p"):
                assert layer.blobs == ()
                continue
            assert len(layer.blobs) == len(expected[layer.name].blobs)
            for blob, other in zip(layer.blobs, expected[layer.name].blobs, strict=True):
                np.testing.assert_array_equal(blob, other, strict=True)


def test_what_is_read_is_what_the_hdf5_library_reads(shared: Path) -> None:
    for path in shared.glob("golden/*/*/*.h5"):
        if "snap" not in path.name and path.name != "weights.h5":
            continue
        if "solverstate" in path.name:
            assert refusal(path).endswith("this is a solverstate")
            continue
        with h5py.File(path) as file:
            for layer in read_weights(path).layers:
                group = file["data"][layer.name]
                assert list(group) == [str(i) for i in layer.places]
                for i, blob in zip(layer.places, layer.blobs, strict=True):
                    np.testing.assert_array_equal(blob, group[str(i)][()], strict=True)


# --- Writing ---


def test_what_is_written_is_caffes_layout(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    weight, bias = floats(4, 3, 2, 2), floats(4)
    layers = (
        StoredLayer("conv", "Convolution", (weight, bias)),
        StoredLayer("a/relu", "ReLU", ()),
        StoredLayer("again", "Convolution", (weight, floats(4))),
        StoredLayer("a", "ReLU", ()),
    )
    write_weights(path, StoredNet("net", layers))
    with h5py.File(path) as file:
        assert list(file) == ["data"]
        assert list(file["data"]) == ["a", "again", "conv"]
        assert list(file["data/conv"]) == ["0", "1"]
        np.testing.assert_array_equal(file["data/conv/0"][()], weight, strict=True)
        assert file["data/conv/0"] == file["data/again/0"], "a shared blob is one dataset"
        assert file["data/conv/1"] != file["data/again/1"]
        assert file["data/conv/0"].chunks is None
    assert path.read_bytes()[8] == 0, "the superblock that every HDF5 1.8 reads"
    read = read_weights(path)
    same(read, StoredNet("net", layers))
    assert read.layers[0].blobs[0] is read.layers[2].blobs[0]


def test_blobs_that_a_file_leaves_out_stay_out(made: Callable[..., Path], tmp_path: Path) -> None:
    net = read_weights(made(put))
    path = tmp_path / "again.h5"
    write_weights(path, net)
    same(read_weights(path), net)
    with pytest.raises(WeightsError) as error:
        write_weights(tmp_path / "w.caffemodel", net)
    assert str(error.value) == (
        f'{tmp_path / "w.caffemodel"}: layer "again": blob 0 is left out, as a shared one can be '
        "in an .h5 file, but a caffemodel keeps all. Load the weights into their net and save that."
    )
    assert not (tmp_path / "w.caffemodel").exists()


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([("", ())], 'HDF5 can\'t hold the layer name "". Rename it.'),
        ([("a//b", ())], 'HDF5 can\'t hold the layer name "a//b". Rename it.'),
        ([("./a", ())], 'HDF5 can\'t hold the layer name "./a". Rename it.'),
        ([("a\0", ())], 'HDF5 can\'t hold the layer name "a\0". Rename it.'),
        (
            [("a", (floats(1),)), ("a/0", ())],
            'HDF5 can\'t hold the layer name "a/0". Rename it.',
        ),
        (
            [("a/0/b", ()), ("a", (floats(1),))],
            'HDF5 can\'t hold the layer name "a/0/b". Rename it.',
        ),
        (
            [("a", ()), ("a", ())],
            'layer "a": two layers have this name; HDF5 holds one. Rename one of them.',
        ),
        (
            [("a", (np.arange(3),))],
            'layer "a": blob 0 is int64, but weights are float16, float32 or float64',
        ),
        ([("a" * 5000, ())], f'HDF5 can\'t hold the layer name "{"a" * 5000}". Rename it.'),
    ],
)
def test_what_can_not_be_written_is_refused_and_nothing_is_left(
    tmp_path: Path, layers: list[tuple[str, Any]], expected: str
) -> None:
    path = tmp_path / "w.h5"
    net = StoredNet("n", tuple(StoredLayer(name, "", blobs) for name, blobs in layers))
    with pytest.raises(WeightsError) as error:
        write_hdf5(path, net)
    assert str(error.value) == f"{path}: {expected}"
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_with_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    write_hdf5(path, StoredNet("n", (StoredLayer("a", "Bias", (floats(3),)),)))
    path.chmod(0o640)
    net = read_hdf5(path)
    write_hdf5(path, net)
    same(read_hdf5(path), net)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_reading_needs_neither_torch_nor_h5py(made: Callable[..., Path]) -> None:
    script = (
        "import sys; from pathlib import Path; from torrefy.weights.hdf5 import read_hdf5; "
        "read_hdf5(Path(sys.argv[1])); sys.exit(bool({'h5py', 'torch'} & {*sys.modules}))"
    )
    command = [sys.executable, "-c", script, str(made(put))]
    assert subprocess.run(command, check=False).returncode == 0
