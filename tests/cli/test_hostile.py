"""Data that are damaged, wrong or hostile, through whole commands: one error, or counted skips."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import Run
from tests.data.conftest import lmdb_file

from torrefy.schema import new_message

SOLVER = """net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 3 random_seed: 1
snapshot_prefix: "snap"
"""
NET = """layer {{ name: "data" type: "{type}" top: "data" top: "label" {transform} {source} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }}
"""
SOURCES = {
    "Data": 'data_param { source: "db" batch_size: 2 backend: LMDB }',
    "LevelDB": 'data_param { source: "db" batch_size: 2 backend: LEVELDB }',
    "ImageData": 'image_data_param { source: "list.txt" batch_size: 2 }',
    "CSV": 'image_data_param { source: "list.csv" batch_size: 2 }',
    "HDF5Data": 'hdf5_data_param { source: "files.txt" batch_size: 2 }',
    "WindowData": 'window_data_param { source: "windows.txt" batch_size: 2 fg_fraction: 0.5 }',
}
TYPES = {"LevelDB": "Data", "CSV": "ImageData"}
CROP = "transform_param { crop_size: 4 }"
LONGEST = 30
"""Seconds after which a command counts as hung."""


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """An error where a test waits for what never comes."""

    def late(*_: object) -> None:
        raise AssertionError("the command hangs")

    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(LONGEST)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


Train = Callable[..., str]


@pytest.fixture
def train(run: Run, tmp_path: Path) -> Train:
    """`train("Data", "--bad-images", "skip")`: what a training says that ends with an error."""

    def trained(kind: str, *options: str, transform: str = CROP, code: int = 1) -> str:
        transform = "" if kind == "HDF5Data" else transform
        net = NET.format(type=TYPES.get(kind, kind), source=SOURCES[kind], transform=transform)
        (tmp_path / "net.prototxt").write_text(net)
        (tmp_path / "solver.prototxt").write_text(SOLVER)
        result = run("train", "solver.prototxt", "--workers", "0", "--no-run", *options)
        assert result.exit_code == code, result.output
        kept = list(tmp_path.glob("snap*"))
        for path in kept:
            path.unlink()
        assert "Traceback" not in result.output
        assert "bug of Torrefy" not in result.output
        if code:
            assert not kept
            return result.stderr
        assert tmp_path / "snap_iter_3.caffemodel" in kept
        return result.stdout

    return trained


def picture(seed: int = 0, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(kind: str, image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bomb(width: int = 100_000, height: int = 100_000) -> bytes:
    """A PNG of a few bytes that says to be of ten thousand million pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(
            ">I", zlib.crc32(name + data)
        )  # fmt: skip

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def datum(label: int = 0, data: bytes = bytes(48), **fields: Any) -> bytes:
    message = new_message("caffe.Datum")
    for name, value in {"channels": 3, "height": 4, "width": 4, **fields}.items():
        if name == "float_data":
            message.float_data.extend(value)
        else:
            setattr(message, name, value)
    message.data, message.label = data, label
    return message.SerializeToString()


# --- Records ---

RECORDS = {
    "no datum": (b"\xff\xff\xff garbage", "this record is no Datum"),
    "nothing": (b"", "a Datum of 0x0x0 has 0 numbers"),
    "too little": (datum(data=bytes(47)), "a Datum of 3x4x4 has 47 numbers"),
    "floats": (datum(data=b"", float_data=[0.5] * 50), "a Datum of 3x4x4 has 50 numbers"),
    "2^31 channels": (
        datum(channels=-(1 << 31)),
        "a Datum of -2147483648x4x4 has 48 numbers",
    ),
    "a great size": (
        datum(channels=2**31 - 1, height=2**31 - 1, width=2**31 - 1),
        "a Datum of 2147483647x2147483647x2147483647 has 48 numbers",
    ),
    "label": (datum(label=3), "the label is 3, but there are 3 classes, from 0 to 2"),
    "negative label": (datum(label=-1), "the label is -1, but there are 3 classes, from 0 to 2"),
    "encoded garbage": (datum(data=b"garbage", encoded=True), "this is not a picture"),
    "encoded nothing": (datum(data=b"", encoded=True), "the file is empty"),
    "encoded bomb": (
        datum(data=bomb(), encoded=True),
        "the picture is too large: Image size (10000000000 pixels) exceeds limit of 178956970 "
        "pixels",
    ),
    "smaller than the crop": (
        datum(data=bytes(12), height=2, width=2),
        "the picture is 2x2, smaller than crop_size 4",
    ),
}


@pytest.mark.parametrize("where", [0, 5])
@pytest.mark.parametrize("name", RECORDS)
def test_a_bad_record_is_told_by_its_key_or_skipped_and_counted(
    train: Train, tmp_path: Path, name: str, where: int
) -> None:
    record, told = RECORDS[name]
    records = [(b"%03d" % i, datum(i % 3)) for i in range(6)]
    records[where] = (records[where][0], record)
    (tmp_path / "db").mkdir()
    (tmp_path / "db/data.mdb").write_bytes(lmdb_file(records))
    key = records[where][0].decode()
    assert train("Data") == f'db (key "{key}"): layer "data": {told}\n'
    skipped = train("Data", "--bad-images", "skip", code=0)
    assert f'1 item was skipped, once in all; the first: db (key "{key}"): {told}\n' in skipped


@pytest.mark.parametrize("kind", ["Data", "ImageData"])
def test_where_nothing_can_be_used_skipping_comes_to_an_end(
    train: Train, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db/data.mdb").write_bytes(lmdb_file([(b"%03d" % i, b"") for i in range(6)]))
    (tmp_path / "list.txt").write_text("gone.png 0\n" * 6)
    first = {
        "Data": 'db (key "000"): a Datum of 0x0x0 has 0 numbers',
        "ImageData": "list.txt:1:1: gone.png: no such file",
    }
    assert train(kind, "--bad-images", "skip") == (
        f'error: layer "data": none of 6 items in a row can be used; the first: {first[kind]}\n'
    )


# --- Databases ---


def whole() -> bytes:
    return lmdb_file([(b"%03d" % i, datum(i % 3)) for i in range(60)])


DATABASES = {
    "cut off": (whole()[:-100], f"the database is cut off: it has {len(whole()) - 100} bytes of "
                                f"{len(whole())}"),
    "a head": (whole()[:100], "the database is cut off: it has 100 bytes"),
    "no bytes": (b"", "the file is empty"),
    "no records": (lmdb_file([]), "the database is empty"),
    "garbage": (bytes(range(256)) * 40, "this is no LMDB, or one of a machine of another kind"),
    "a broken page": (
        whole()[:8192] + bytes(4096) + whole()[12288:], "damaged: a page is broken at byte 8192"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DATABASES)
def test_a_damaged_lmdb_is_told_by_every_command(
    train: Train, run: Run, tmp_path: Path, name: str
) -> None:
    data, told = DATABASES[name]
    (tmp_path / "db").mkdir()
    (tmp_path / "db/data.mdb").write_bytes(data)
    assert train("Data") == f'db: layer "data": {told}\n'
    for command in ("show", "verify", "mean"):
        result = run("data", command, "db")
        assert (result.exit_code, result.stderr) == (1, f"db: {told}\n")


@pytest.mark.parametrize("damage", ["log", "manifest", "current"])
def test_a_damaged_leveldb_is_told_by_every_command(
    train: Train, run: Run, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "db"
    folder.mkdir()
    (folder / "CURRENT").write_bytes(b"MANIFEST-000002\n")
    (folder / "MANIFEST-000002").write_bytes(b"\0\0\0\0\x04\0\x01\x02\x03\x09\x00")
    (folder / "000003.log").write_bytes(struct.pack("<IHB", 0, 12, 1) + b"\xff" * 12)
    if damage == "manifest":
        (folder / "MANIFEST-000002").write_bytes(b"\xff" * 50)
    if damage == "current":
        (folder / "CURRENT").write_bytes(b"")
    told = {
        "log": "000003.log is cut off or damaged at byte 0",
        "manifest": "MANIFEST-000002 is cut off or damaged at byte 0",
        "current": "damaged: CURRENT names no manifest",
    }[damage]
    assert train("LevelDB") == f'db: layer "data": {told}\n'
    for command in ("show", "verify", "mean"):
        result = run("data", command, "db")
        assert (result.exit_code, result.stderr) == (1, f"db: {told}\n")


# --- Pictures ---

JPEG = encoded("JPEG", picture(1).resize((60, 60)))
BAD = {
    "empty.png": (b"", "the file is empty"),
    "text.jpg": (b"This is a text.\n", "this is not a picture"),
    "bomb.png": (bomb(), "the picture is too large: Image size (10000000000 pixels) exceeds limit "
                         "of 178956970 pixels"),
    "cut.jpg": (JPEG[:700], "the picture is cut short"),
    "head.png": (encoded("PNG", picture())[:20], "the picture is cut short"),
    "zeros.png": (bytes(1000), "this is a file of zero bytes, not a picture"),
    "archive.jpg": (b"PK\x03\x04" + bytes(100), "this is a zip archive, not a picture"),
    "small.png": (encoded("PNG", picture().resize((3, 3))), "the picture is 3x3, smaller than "
                                                            "crop_size 4"),
    "float.tif": (encoded("TIFF", Image.new("F", (5, 6), 7.5)), "its pixels go from 7.5 to 7.5; "
                                                                "expected 0 to 1. Save it with 8 "
                                                                "bits."),
}  # fmt: skip


@pytest.fixture
def listed(tmp_path: Path) -> Callable[[str], None]:
    """Makes a list, a table and a window file of five good pictures and, as the third, one more."""

    def make(name: str, label: str = "1") -> None:
        for i in range(5):
            picture(i).save(tmp_path / f"{i}.png")
        names = ["0.png", "1.png", name, "2.png", "3.png", "4.png"]
        labels = ["0", "1", label, "0", "1", "2"]
        rows = list(zip(names, labels, strict=True))
        (tmp_path / "list.txt").write_text("".join(f"{n} {v}\n" for n, v in rows))
        (tmp_path / "list.csv").write_text("image,label\n" + "".join(f"{n},{v}\n" for n, v in rows))
        (tmp_path / "windows.txt").write_text(
            "".join(f"# {i}\n{n}\n3\n6\n5\n2\n1 1 0 0 4 4\n0 0 0 0 4 4\n"
                    for i, n in enumerate(names))
        )  # fmt: skip

    return make


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_is_told_by_its_line_or_skipped_and_counted(
    train: Train, listed: Callable[[str], None], run: Run, tmp_path: Path, name: str
) -> None:
    data, told = BAD[name]
    (tmp_path / name).write_bytes(data)
    listed(name)
    read = name != "small.png"
    message = f"{name}: {told}" if read else told
    for kind, file in (("ImageData", "list.txt:3:1"), ("CSV", "list.csv:4:1")):
        assert train(kind) == f'{file}: layer "data": {message}\n'
        skipped = train(kind, "--bad-images", "skip", code=0)
        assert f"1 item was skipped, once in all; the first: {file}: {message}\n" in skipped
    if not read:
        return
    assert f':1: layer "data": {message}\n' in train("WindowData")
    for command in ("show", "verify"):
        result = run("data", command, "list.txt")
        assert result.exit_code == 1
        assert f"list.txt:3:1: {message}\n" in result.output
    result = run("data", "mean", "list.txt", "--bad", "skip", "--json")
    told_mean = json.loads(result.stdout)
    assert told_mean["pictures"] == 5
    assert told_mean["bad"] == {"list.txt:3:1": f"list.txt:3:1: {message}"}
    good = [np.asarray(picture(i), np.float64).mean((0, 1)) for i in range(5)]
    np.testing.assert_allclose(told_mean["mean_value"], np.mean(good, 0)[::-1])
    for arguments in (("mean", "list.txt"), ("create", "list.txt", "made")):
        result = run("data", *arguments)
        assert (result.exit_code, result.stderr) == (1, f"list.txt:3:1: {message}\n")
    assert not (tmp_path / "made").exists()
    result = run("data", "create", "list.txt", "made", "--bad", "skip")
    assert result.exit_code == 0
    assert result.output == (f"list.txt:3:1: {message}\nwrote made: 5 records, 1 left out\n")


def test_a_test_passes_over_and_counts_too(
    train: Train, listed: Callable[[str], None], run: Run, tmp_path: Path
) -> None:
    listed("gone.png")
    train("ImageData", "--bad-images", "skip", code=0)
    run("train", "solver.prototxt", "--no-run", "--workers", "0", "--bad-images", "skip")
    arguments = ("test", "net.prototxt", "snap_iter_3.caffemodel", "--iterations", "3")
    result = run(*arguments, "--workers", "0")
    told = "list.txt:3:1: gone.png: no such file"
    assert (result.exit_code, result.stderr) == (
        1, 'list.txt:3:1: layer "data": gone.png: no such file\n'
    )  # fmt: skip
    result = run(*arguments, "--workers", "0", "--bad-images", "skip")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == f"1 item was skipped, once in all; the first: {told}"
    result = run(*arguments, "--workers", "0", "--bad-images", "skip", "--json")
    assert json.loads(result.stdout)["skipped"] == {"list.txt:3:1": told}


@pytest.mark.parametrize("kind", ["fifo", "folder", "zeros", "gone", "loop"])
def test_what_is_no_file_does_not_hang(
    train: Train, listed: Callable[[str], None], run: Run, tmp_path: Path, kind: str
) -> None:
    if kind == "fifo":
        os.mkfifo(tmp_path / "x.png")
    elif kind == "folder":
        (tmp_path / "x.png").mkdir()
    elif kind == "zeros":
        (tmp_path / "x.png").symlink_to("/dev/zero")
    elif kind == "loop":
        (tmp_path / "x.png").symlink_to("x.png")
    listed("x.png")
    told = {
        "fifo": "this is a device or a pipe, not a picture",
        "folder": "this is a folder",
        "zeros": "this is a device or a pipe, not a picture",
        "gone": "no such file",
        "loop": "can't be read: Too many levels of symbolic links",
    }[kind]
    assert train("ImageData") == f'list.txt:3:1: layer "data": x.png: {told}\n'
    assert train("WindowData") == (
        f'windows.txt:24:1: layer "data": x.png: {told}\n'
        f'windows.txt:23:1: layer "data": x.png: {told}\n'
        'error: layer "data": 2 of the 12 items looked at can\'t be used\n'
    )
    skipped = json.loads(train("ImageData", "--bad-images", "skip", "--json", code=0))
    assert skipped["skipped"] == {"list.txt:3:1": f"list.txt:3:1: x.png: {told}"}
    assert skipped["times_skipped"] == 1
    for command in ("show", "verify", "mean"):
        result = run("data", command, "list.txt")
        assert result.exit_code == 1
        assert f"list.txt:3:1: x.png: {told}\n" in result.output


ODD = {
    "cmyk.jpg": encoded("JPEG", picture(mode="CMYK")),
    "grey.jpg": encoded("JPEG", picture(mode="L")),
    "sixteen.png": encoded("PNG", Image.fromarray(np.full((6, 5), 40_000, np.uint16))),
    "palette.png": encoded("PNG", picture(mode="P"), transparency=bytes(range(256))),
    "alpha.png": encoded("PNG", picture(mode="RGBA")),
    "grey alpha.png": encoded("PNG", picture(mode="LA")),
    "one bit.png": encoded("PNG", picture(mode="1")),
    "moving.gif": encoded("GIF", picture(), save_all=True, append_images=[picture(1), picture(2)]),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_pictures_are_trained_with(
    train: Train, listed: Callable[[str], None], tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(ODD[name])
    listed(name)
    assert "skipped" not in train("ImageData", "--bad-images", "skip", code=0)


def test_a_picture_of_a_folder_is_told_by_its_file(
    train: Train, listed: Callable[[str], None], tmp_path: Path
) -> None:
    listed("x.png")
    for label in "ab":
        (tmp_path / "list.d" / label).mkdir(parents=True)
        picture().save(tmp_path / "list.d" / label / "0.png")
    (tmp_path / "list.d/b/1.png").write_bytes(b"")
    (tmp_path / "list.txt").unlink()
    (tmp_path / "list.d").rename(tmp_path / "list.txt")
    assert train("ImageData") == 'list.txt/b/1.png: layer "data": the file is empty\n'


# --- Lists and tables ---

LISTS = {
    "no label": ("0.png 0\n1.png\n", '2:1: expected a picture and its class ("cat.jpg 3"), found '
                                     '"1.png"'),
    "a word": ("0.png 0\n1.png cat\n", '2:1: expected a picture and its class ("cat.jpg 3"), found '
                                       '"1.png cat"'),
    "half": ("0.png 0\n1.png 0.5\n", '2:1: expected a picture and its class ("cat.jpg 3"), found '
                                     '"1.png 0.5"'),
    "only a label": ("0.png 0\n 1\n", '2:1: expected a picture and its class ("cat.jpg 3"), found '
                                      '"1"'),
    "empty": ("\n\n", " the list is empty"),
    "binary": ("\x89PNG\r\n\x1a\n", " this is a PNG picture, not a list"),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_a_wrong_list_is_told_by_its_line(
    train: Train, run: Run, listed: Callable[[str], None], tmp_path: Path, name: str
) -> None:
    text, told = LISTS[name]
    listed("0.png")
    (tmp_path / "list.txt").write_bytes(text.encode("latin-1"))
    layer = 'layer "data": '
    place, _, rest = told.partition(" ")
    place = f"list.txt:{place}"
    assert train("ImageData", "--bad-images", "skip").endswith(f"{place} {layer}{rest}\n")
    for arguments in (("show",), ("verify",), ("mean",), ("create", "made")):
        result = run("data", arguments[0], "list.txt", *arguments[1:])
        assert (result.exit_code, result.stderr) == (1, f"{place} {rest}\n")


def test_a_label_that_is_no_class_is_told_by_its_line(
    train: Train, run: Run, listed: Callable[..., None]
) -> None:
    listed("2.png", "7")
    for kind, place in (("ImageData", "list.txt:3:1"), ("CSV", "list.csv:4:1")):
        assert train(kind) == (
            f'{place}: layer "data": the label is 7, but there are 3 classes, from 0 to 2\n'
        )
    result = run("data", "verify", "list.txt", "--classes", "3")
    assert result.exit_code == 1
    assert "list.txt:3:1: label 7\n" in result.stdout


WINDOWS = {
    "no head": ("0.png\n", '1:1: expected "# 0" before a picture, found "0.png"'),
    "cut": ("# 0\n0.png\n3\n6\n", " the file ends where width should be"),
    "a word": ("# 0\n0.png\n3\n6\n5\n1\n1 one 0 0 4 4\n",
               '7:1: expected class overlap x1 y1 x2 y2, found "1 one 0 0 4 4"'),
    "far off": ("# 0\n0.png\n3\n6\n5\n1\n1 1 0 0 1e300 4\n",
                '7:1: expected class overlap x1 y1 x2 y2, found "1 1 0 0 1e300 4"'),
    "too many": ("# 0\n0.png\n3\n6\n5\n99999999\n1 1 0 0 4 4\n",
                 " the file ends where a window should be"),
    "no class": ("# 0\n0.png\n3\n6\n5\n1\n0 1 0 0 4 4\n",
                 '7:1: expected a class above 0 for a foreground window, found "0 1 0 0 4 4"'),
}  # fmt: skip


@pytest.mark.parametrize("name", WINDOWS)
def test_a_wrong_window_file_is_told_by_its_line(
    train: Train, listed: Callable[[str], None], tmp_path: Path, name: str
) -> None:
    text, told = WINDOWS[name]
    listed("0.png")
    (tmp_path / "windows.txt").write_text(text)
    place, _, rest = told.partition(" ")
    assert train("WindowData") == f'windows.txt:{place} layer "data": {rest}\n'


def test_a_window_outside_its_picture_is_told_by_its_line(
    train: Train, listed: Callable[[str], None], tmp_path: Path
) -> None:
    listed("0.png")
    text = (tmp_path / "windows.txt").read_text()
    (tmp_path / "windows.txt").write_text(text.replace("1 1 0 0 4 4", "1 1 0 0 40 4"))
    told = 'layer "data": the window 0 0 40 4 is not within the picture of 5x6\n'
    assert told in train("WindowData")


# --- HDF5 ---


def rows(path: Path, count: int = 6, width: int = 4, labels: int | None = None) -> None:
    with h5py.File(path, "w") as file:
        file["data"] = np.ones((count, width), "f4")
        file["label"] = np.arange(count if labels is None else labels, dtype="f4") % 3


def test_hdf5_that_does_not_fit_is_told_by_its_file(train: Train, tmp_path: Path) -> None:
    (tmp_path / "files.txt").write_text("a.h5\nb.h5\n")
    a, b = tmp_path / "a.h5", tmp_path / "b.h5"
    rows(a)
    rows(b, width=5)
    assert train("HDF5Data") == (
        'b.h5: layer "data": its rows have other shapes than those of a.h5\n'
    )
    rows(b, labels=4)
    assert train("HDF5Data") == (
        'b.h5: layer "data": the datasets differ in their number of rows: "data" 6x4, "label" 4\n'
    )
    b.write_bytes(a.read_bytes()[:900])
    size = a.stat().st_size
    assert train("HDF5Data") == (
        f'b.h5: layer "data": the file is cut off: it has 900 bytes of {size}\n'
    )
    b.write_bytes(b"")
    assert train("HDF5Data") == 'b.h5: layer "data": the file is empty\n'
    b.unlink()
    assert train("HDF5Data").startswith('b.h5: layer "data": no such file')
    os.mkfifo(b)
    assert train("HDF5Data") == (
        'b.h5: layer "data": this is a device or a pipe, not an HDF5 file\n'
    )
    b.unlink()
    rows(b)
    with h5py.File(b, "a") as file:
        file["label"][2] = 5
    told = "the label is 5, but there are 3 classes, from 0 to 2"
    assert train("HDF5Data") == f'b.h5 (row 2): layer "data": {told}\n'
    skipped = train("HDF5Data", "--bad-images", "skip", code=0)
    assert "skipped" not in skipped  # three batches of two don't come to it
    with h5py.File(b, "a") as file:
        del file["label"]
    assert train("HDF5Data").startswith('b.h5: layer "data": there is no dataset "label" in it')


# --- Means ---


def test_a_mean_of_another_shape_is_told_by_the_first_picture(
    train: Train, listed: Callable[[str], None], tmp_path: Path
) -> None:
    listed("0.png")
    np.save(tmp_path / "mean.npy", np.zeros((3, 7, 7), "f4"))
    transform = 'transform_param { mean_file: "mean.npy" }'
    assert train("ImageData", transform=transform) == (
        'list.txt:1:1: layer "data": the picture is 3x6x5, but the mean image 3x7x7\n'
    )
    assert train("ImageData", "--bad-images", "skip", transform=transform) == (
        'error: layer "data": none of 6 items in a row can be used; the first: list.txt:1:1: '
        "the picture is 3x6x5, but the mean image 3x7x7\n"
    )
    for data, told in (
        (b"", "the file is empty"),
        (b"\x93NUMPY\x01", "this .npy can't be read"),
        (b"\x0a\xff\xff", "this is no BlobProto"),
    ):
        (tmp_path / "mean.npy").write_bytes(data)
        assert told in train("ImageData", transform=transform)
    (tmp_path / "mean.npy").unlink()
    (tmp_path / "mean.npy").symlink_to("/dev/zero")
    assert train("ImageData", transform=transform) == (
        'mean.npy: layer "data": this is a device or a pipe, not a mean image\n'
    )


def test_a_list_of_everything_is_no_list(train: Train, tmp_path: Path) -> None:
    (tmp_path / "list.txt").symlink_to("/dev/zero")
    assert train("ImageData") == 'list.txt: layer "data": this is a device, not a list\n'


# --- Before training ---


def test_many_bad_items_are_told_at_once_before_anything_is_learned(
    train: Train, listed: Callable[[str], None], run: Run, tmp_path: Path
) -> None:
    listed("0.png")
    lines = ["0.png 0"] * 100 + ["gone.png 1"] * 8
    (tmp_path / "list.txt").write_text("\n".join(lines))
    *first, last = train("ImageData").splitlines()
    assert len(first) == 5
    assert first == [
        f'list.txt:{line}:1: layer "data": gone.png: no such file' for line in range(101, 106)
    ]
    assert last == 'error: layer "data": 8 of the 108 items looked at can\'t be used'
    assert train("ImageData", "--no-verify", code=0)
    result = run("train", "solver.prototxt", "--no-run", "--workers", "0", "--bad-images", "skip")
    assert result.exit_code == 0
    assert result.stderr.startswith(
        "solver.prototxt: note: 8 of the 108 items looked at can't be used, and will be skipped; "
        'the first: list.txt:101:1: layer "data": gone.png: no such file\n'
    )
