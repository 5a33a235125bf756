"""`torrefy weights`: tables, conversions, differences, their JSON and exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.cli.conftest import Run, Script

import torrefy
from torrefy.net.stored import StoredLayer, StoredNet, read_weights, write_weights

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1) - 2
LAYERS = (
    StoredLayer("conv1", "Convolution", (WEIGHT, np.float32([0.5, np.nan]))),
    StoredLayer("relu1", "ReLU", ()),
    StoredLayer("ip", "InnerProduct", (np.full((1, 2), -np.inf, np.float64),)),
)

TABLE = """\
layer  type          blob    shape    dtype  count  mean |x|  min  max  NaN  Inf
conv1  Convolution      0  2x3x1x1  float32      6       1.5   -2    3    -    -
conv1  Convolution      1        2  float32      2       0.5  0.5  0.5    1    -
ip     InnerProduct     0      1x2  float64      2         -    -    -    -    2

layers   3, 2 of them with blobs
numbers  10 in 3 blobs
size     48 bytes
odd      1 NaN, 2 infinite
"""

Put = Callable[..., None]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """`put("a.h5", *layers)` writes a file into the working folder."""

    def put(name: str, *layers: StoredLayer) -> None:
        write_weights(tmp_path / name, StoredNet("net", layers or LAYERS))

    return put


def layer(name: str, *blobs: Any, **more: Any) -> StoredLayer:
    return StoredLayer(name, "Scale", tuple(np.asarray(b, np.float32) for b in blobs), **more)


# --- show ---


@pytest.mark.parametrize("name", ["w.caffemodel", "w.h5", "w.safetensors"])
def test_every_blob_is_shown_in_numbers(run: Run, put: Put, name: str) -> None:
    put(name)
    result = run("weights", "show", name)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == TABLE


def test_the_numbers_are_there_as_json(run: Run, put: Put) -> None:
    put("w.h5")
    result = run("weights", "show", "--json", "w.h5")
    assert (result.exit_code, result.stderr) == (0, "")
    shown = json.loads(result.stdout)
    blobs = shown.pop("blobs")
    assert shown == {
        "ok": True,
        "file": "w.h5",
        "name": "net",
        "layers": 3,
        "count": 10,
        "bytes": 48,
        "nan": 1,
        "inf": 2,
        "notes": [],
    }
    assert blobs[1] == {
        "layer": "conv1",
        "type": "Convolution",
        "blob": 1,
        "shape": [2],
        "dtype": "float32",
        "count": 2,
        "mean_abs": 0.5,
        "min": 0.5,
        "max": 0.5,
        "nan": 1,
        "inf": 0,
    }
    assert blobs[2]["mean_abs"] is None


def test_what_is_odd_about_a_file_is_noted_on_stderr(run: Run, put: Put, tmp_path: Path) -> None:
    put("w.caffemodel")
    path = tmp_path / "w.caffemodel"
    path.write_bytes(path.read_bytes() + b"\xc0\x3e\x01")  # field 1000, the varint 1
    result = run("weights", "show", "w.caffemodel")
    assert result.stdout == TABLE
    assert result.stderr == ("w.caffemodel: note: unknown fields of NetParameter skipped: 1\n")


def test_a_file_that_can_not_be_read_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "w.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    result = run("weights", "show", "w.h5")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "w.h5: damaged, or not an HDF5 file: 1 bytes more are expected than there are at byte 8\n"
    )
    result = run("weights", "show", "--json", "w.5h")
    assert result.exit_code == 1
    (problem,) = json.loads(result.stdout)["problems"]
    assert problem["message"] == (
        'no format of weights has the suffix ".5h"; known are .caffemodel, .h5, .hdf5, .safetensors'
    )


def test_control_characters_in_names_do_nothing(run: Run, put: Put) -> None:
    put("w.caffemodel", layer("a\x1b[31m\n", [1]))
    result = run("weights", "show", "w.caffemodel")
    assert "a\\x1b[31m\\x0a  Scale" in result.stdout


# --- convert ---


@pytest.mark.parametrize("source", ["w.caffemodel", "w.h5", "w.safetensors"])
@pytest.mark.parametrize("target", ["x.caffemodel", "x.caffemodel.h5", "x.safetensors"])
def test_any_format_becomes_any_other(
    run: Run, put: Put, tmp_path: Path, source: str, target: str
) -> None:
    put(source)
    result = run("weights", "convert", source, target)
    size = (tmp_path / target).stat().st_size
    told = f"{size / 1000:.1f} kB" if size >= 1000 else f"{size} bytes"
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"wrote {target}: 2 layers with 3 blobs, {told}\n"
    assert run("weights", "diff", source, target).exit_code == 0
    assert [(x.name, x.type) for x in read_weights(tmp_path / target).layers] == [
        (x.name, x.type) for x in LAYERS
    ]


def test_a_conversion_is_told_as_json(run: Run, put: Put, tmp_path: Path) -> None:
    put("w.h5")
    result = run("weights", "convert", "w.h5", "x.caffemodel", "--json")
    assert json.loads(result.stdout) == {
        "ok": True,
        "source": "w.h5",
        "target": "x.caffemodel",
        "layers": 2,
        "blobs": 3,
        "bytes": (tmp_path / "x.caffemodel").stat().st_size,
        "notes": [],
    }


def test_a_file_is_not_written_over_itself(run: Run, put: Put, tmp_path: Path) -> None:
    put("w.h5")
    before = (tmp_path / "w.h5").read_bytes()
    (tmp_path / "link.h5").symlink_to("w.h5")
    (tmp_path / "hard.h5").hardlink_to(tmp_path / "w.h5")
    for target in ("w.h5", "./w.h5", "link.h5", "hard.h5"):
        result = run("weights", "convert", "w.h5", target)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == f"{target}: this is the file that is read\n"
    assert (tmp_path / "w.h5").read_bytes() == before


def test_a_conversion_that_fails_leaves_what_was_there(run: Run, put: Put, tmp_path: Path) -> None:
    put("w.h5", layer("a", [1], names=("1",)))
    (tmp_path / "x.caffemodel").write_bytes(b"old")
    result = run("weights", "convert", "w.h5", "x.caffemodel")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        'x.caffemodel: layer "a": blob 0 is left out, as a shared one can be in an .h5 file, but '
        "a caffemodel keeps all. Load the weights into their net and save that.\n"
    )
    for arguments in (("none.h5", "x.caffemodel"), ("w.h5", "x.pth"), ("w.h5", "no/x.h5")):
        assert run("weights", "convert", *arguments).exit_code == 1
    assert (tmp_path / "x.caffemodel").read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.h5", "x.caffemodel"]


# --- diff ---


def test_files_that_hold_the_same_have_no_differences(run: Run, put: Put) -> None:
    put("a.caffemodel")
    put("b.h5")
    result = run("weights", "diff", "a.caffemodel", "b.h5")
    assert (result.exit_code, result.stdout) == (0, "no differences in 3 blobs\n")
    result = run("weights", "diff", "--json", "a.caffemodel", "b.h5")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["ok"] is True


DIFFERENCES = """\
only in a.h5: layer "gone"
only in b.h5: layer "new"
only in a.h5: layer "less", blob 1
layer  blob    shape  |a - b|  relative  NaN/Inf
near      0        2      0.5      0.25        -
odd       0        2        0         0        1
shape     0  2x3 / 6        -         -        -
3 of 5 blobs that both have differ
"""


def test_differences_are_told_and_exit_1(run: Run, put: Put) -> None:
    same, square = layer("same", [1, 2]), np.zeros((2, 3))
    put("a.h5", layer("gone", [1]), layer("less", [1], [2]), layer("near", [1, 2]),
        layer("odd", [1, np.inf]), same, layer("shape", square))  # fmt: skip
    put("b.h5", layer("shape", square.ravel()), layer("new", [1]), layer("less", [1]),
        layer("near", [1, 1.5]), layer("odd", [1, np.nan]), same)  # fmt: skip
    result = run("weights", "diff", "a.h5", "b.h5")
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == DIFFERENCES
    result = run("weights", "diff", "--json", "a.h5", "b.h5")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    blobs = {blob["layer"]: blob for blob in told.pop("blobs")}
    assert told == {
        "ok": False,
        "problems": [
            {
                "file": "b.h5",
                "line": None,
                "column": None,
                "layer": None,
                "message": "3 of 5 blobs that both have differ",
                "hint": None,
            }
        ],
        "files": ["a.h5", "b.h5"],
        "tolerance": 0,
        "only_in": [
            {"file": "a.h5", "layers": ["gone"]},
            {"file": "b.h5", "layers": ["new"]},
        ],
        "lacking": [{"layer": "less", "blob": 1, "only_in": "a.h5"}],
    }
    assert blobs["near"] == {
        "layer": "near",
        "blob": 0,
        "shapes": [[2], [2]],
        "same_shape": True,
        "absolute": 0.5,
        "relative": 0.25,
        "unlike": 0,
        "differs": True,
    }
    assert blobs["shape"]["same_shape"] is False
    assert blobs["shape"]["absolute"] is None
    assert blobs["same"]["differs"] is False


def test_a_tolerance_is_an_absolute_difference(run: Run, put: Put) -> None:
    put("a.h5", layer("a", [1000]))
    put("b.h5", layer("a", [1000.5]))
    result = run("weights", "diff", "--tolerance", "0.5", "a.h5", "b.h5")
    assert (result.exit_code, result.stdout) == (0, "no differences by more than 0.5 in 1 blob\n")
    result = run("weights", "diff", "--tolerance", "0.4", "a.h5", "b.h5")
    assert result.exit_code == 1
    assert result.stdout.endswith("1 of 1 blobs that both have differ by more than 0.4\n")
    for wrong in ("-1", "nan", "inf"):
        assert run("weights", "diff", "--tolerance", wrong, "a.h5", "b.h5").exit_code == 2


def test_a_difference_that_overflows_is_still_json(run: Run, put: Put) -> None:
    for name, value in (("a.h5", 1e308), ("b.h5", -1e308)):
        put(name, StoredLayer("a", "Bias", (np.array([value]),)))
    result = run("weights", "diff", "--json", "a.h5", "b.h5")
    (blob,) = json.loads(result.stdout)["blobs"]
    assert (result.exit_code, blob["absolute"], blob["differs"]) == (1, None, True)


# --- whole ---


def test_each_part_shows_an_example(run: Run) -> None:
    for part in ("show", "convert", "diff"):
        result = run("weights", part, "-h")
        assert result.exit_code == 0
        assert f"Example:\n    torrefy weights {part} " in result.stdout
    assert run("weights", "shwo", "w.h5").exit_code == 2


def test_weights_go_from_a_net_through_the_shell_and_back(
    script: Script, lenet: Path, tmp_path: Path
) -> None:
    net = torrefy.load_net(lenet, seed=3)
    net.save(tmp_path / "net.caffemodel")
    for source, target in (
        ("net.caffemodel", "net.safetensors"),
        ("net.safetensors", "net.h5"),
        ("net.h5", "again.caffemodel"),
    ):
        result = script("weights", "convert", source, target)
        assert (result.returncode, result.stderr) == (0, "")
        loaded = torrefy.load_net(lenet, tmp_path / target)
        for name, value in net.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[name])
    result = script("weights", "diff", "net.caffemodel", "again.caffemodel")
    assert (result.returncode, result.stdout) == (0, "no differences in 4 blobs\n")
    assert "ip1    InnerProduct     0   10x576" in script("weights", "show", "net.h5").stdout
