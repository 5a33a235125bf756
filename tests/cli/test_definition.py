"""The options that say which net a definition is: what `check`, `show` and `export` share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run

NET = """layer { name: "data" type: "Data" top: "data" data_param { batch_size: 4 }
  transform_param { force_gray: true } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
  pooling_param { kernel_size: 2 } }
"""
NOTE = (
    'layer "data": the shape of "data" is known only from the data (batch 4, 1 channel). '
    'Give it as --shape data=4x1xHxW, or shapes={"data": (4, 1, H, W)}.'
)
PYTHON = """layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "p" type: "Python" bottom: "x" top: "y"
  python_param { module: "doubling" layer: "Double" } }
"""
MODULE = """import caffe

class Double(caffe.Layer):
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = 2 * bottom[0].data
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    (tmp_path / "net.prototxt").write_text(NET)
    return "net.prototxt"


def test_check_notes_what_only_the_data_tell(run: Run, net: str) -> None:
    result = run("check", net)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:2] == [
        f"net.prototxt:1:1: note: {NOTE}", "net.prototxt: ok, 2 layers in phase test",
    ]  # fmt: skip
    whole = run("check", net, "--shape", "data=4x1x8x8")
    assert NOTE not in whole.stdout
    wrong = run("check", net, "--shape", "data=4x1x8")
    assert wrong.exit_code == 1
    assert 'layer "pool": ' in wrong.stdout


def test_show_and_export_ask_for_the_shape(run: Run, net: str, tmp_path: Path) -> None:
    for command in (("show",), ("export", "--no-weights", "-o", "net.onnx")):
        result = run(*command, net)
        assert (result.exit_code, result.stderr) == (1, f"net.prototxt:1:1: {NOTE}\n")
    shown = json.loads(run("show", net, "--json", "--shape", "data=4x1x8x6").stdout)
    assert shown["outputs"] == {"pool": [4, 1, 7, 5]}
    result = run(
        "export", "--no-weights", "-o", "net.onnx", net, "--shape", "data=4x1x8x8", "--json"
    )
    assert json.loads(result.stdout)["inputs"] == {"data": ["batch", 1, 8, 8]}


def test_a_shape_goes_over_an_inputs_own(run: Run, lenet: Path) -> None:
    shown = run("show", "lenet.prototxt", "--json", "--shape", "data=1x1x32x40").stdout
    assert json.loads(shown)["inputs"] == {"data": [1, 1, 32, 40]}
    result = run("show", "lenet.prototxt", "--shape", "dta=1x1x32x40")
    assert (result.exit_code, result.stderr) == (
        1,
        'lenet.prototxt: a shape is given for "dta", which is no input of the net. '
        'Did you mean "data"?\n',
    )


@pytest.mark.parametrize("given", ["1x3", "data=", "data=1,3", "data=1x-3", "data=1xHx3", "=1"])
def test_a_shape_that_is_none_is_wrong_usage(run: Run, lenet: Path, given: str) -> None:
    result = run("show", "lenet.prototxt", "--shape", given)
    assert result.exit_code == 2
    assert f'"{given}" is no shape; write it as data=1x3x227x227' in result.stderr


def test_a_python_class_is_noted_and_runs_where_it_is_allowed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "doubling.py").write_text(MODULE)
    (tmp_path / "net.prototxt").write_text(PYTHON)
    leave = (
        'net.prototxt:3:3: {}layer "p": it runs the Python class doubling.Double, which is not '
        "allowed. Allow it as --allow-python doubling.Double, or "
        'allow_python=["doubling.Double"].'
    )
    result = run("check", "net.prototxt")
    assert result.exit_code == 0
    assert leave.format("note: ") in result.stdout
    assert run("show", "net.prototxt").stderr == leave.format("") + "\n"
    shown = run("show", "net.prototxt", "--json", "--allow-python", "doubling.Double").stdout
    assert json.loads(shown)["outputs"] == {"y": [2, 3]}
    refused = run(
        "export", "--no-weights", "-o", "x.onnx", "net.prototxt", "--allow-python", "doubling.*"
    )
    assert "Python can't be exported to ONNX: it runs a Python class" in refused.stderr
    assert run("check", "net.prototxt", "--allow-python", "Double").exit_code == 1


def test_what_a_python_class_prints_is_no_result(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    talking = MODULE + 'print("imported")\n'
    (tmp_path / "talking.py").write_text(talking)
    (tmp_path / "net.prototxt").write_text(PYTHON.replace("doubling", "talking"))
    result = run("show", "net.prototxt", "--json", "--allow-python", "talking.Double")
    assert json.loads(result.stdout)["outputs"] == {"y": [2, 3]}
    assert result.stderr == "imported\n"
