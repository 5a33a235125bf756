"""`torrefy upgrade`: old definitions and weights in today's form."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run

from torrefy.net.stored import read_weights
from torrefy.schema import read_text

V0 = """
input: "data" input_dim: 1 input_dim: 1 input_dim: 6 input_dim: 6
layers { layer { name: "p" type: "padding" pad: 2 } bottom: "data" top: "padded" }
layers { layer { name: "c" type: "conv" num_output: 2 kernelsize: 3 biasterm: false beta: 3 }
  bottom: "padded" top: "c" }
"""


def test_a_net_of_the_first_days_is_printed_in_todays_form(run: Run, tmp_path: Path) -> None:
    (tmp_path / "old.prototxt").write_text(V0)
    result = run("upgrade", "old.prototxt", "-o", "new.prototxt")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "old.prototxt: note: upgraded from V0 layers",
        'old.prototxt:4:1: note: layer "c": beta is not for a layer of type "conv"; it is left '
        "out, as in Caffe",
        "wrote new.prototxt",
    ]
    convolution = read_text(tmp_path / "new.prototxt").message.layer[1]
    assert list(convolution.bottom) == ["data"]
    assert list(convolution.convolution_param.pad) == [2]
    printed = run("upgrade", "old.prototxt")
    assert printed.stdout == (tmp_path / "new.prototxt").read_text()


def test_json_holds_the_text_that_is_not_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "old.prototxt").write_text(V0)
    printed = json.loads(run("upgrade", "--json", "old.prototxt").stdout)
    written = json.loads(run("upgrade", "--json", "old.prototxt", "-o", "new.prototxt").stdout)
    assert printed["text"] == (tmp_path / "new.prototxt").read_text()
    assert "text" not in written


def test_a_definition_is_not_written_over_weights(run: Run, tmp_path: Path) -> None:
    (tmp_path / "old.prototxt").write_text(V0)
    (tmp_path / "old.caffemodel").write_bytes(b"weights")
    result = run("upgrade", "old.prototxt", "-o", "old.caffemodel")
    assert result.exit_code == 2
    assert result.stderr.endswith("Error: FILE is no .caffemodel, so neither is what is written\n")
    assert (tmp_path / "old.caffemodel").read_bytes() == b"weights"


def test_a_solver_is_upgraded(run: Run, tmp_path: Path) -> None:
    (tmp_path / "solver.prototxt").write_text("base_lr: 0.1 max_iter: 5 solver_type: ADAM")
    result = run("upgrade", "solver.prototxt")
    assert result.stdout == 'base_lr: 0.1\nmax_iter: 5\ntype: "Adam"\n'
    (tmp_path / "both.prototxt").write_text('type: "SGD" solver_type: ADAM')
    assert run("upgrade", "both.prototxt").stderr == (
        "both.prototxt:1:26: both type and its older form solver_type are given; give type alone\n"
    )


def test_unknown_types_of_the_first_days_are_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "old.prototxt").write_text(
        'layers { layer { name: "c" type: "cnv" } bottom: "x" top: "c" }\n'
        'layers { layer { name: "p" type: "padding" pad: 2 } bottom: "x" top: "padded" }\n'
        'layers { layer { name: "r" type: "relu" } bottom: "padded" top: "r" }\n'
    )
    assert run("upgrade", "old.prototxt").stderr.splitlines() == [
        'old.prototxt:1:34: layer "c": there is no V0 layer type "cnv". Did you mean "conv"?',
        'old.prototxt:3:1: layer "r": a padding layer in front of a relu layer; only conv and pool '
        "can pad",
    ]


def test_old_weights_are_upgraded(run: Run, tmp_path: Path, shared: Path) -> None:
    old = shared / "golden/upgrade/v0_binary/old.caffemodel"
    result = run("upgrade", "--json", str(old), "-o", "new.caffemodel")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["ok"] is True
    ours, theirs = (
        {layer.name: layer.blobs for layer in read_weights(path).layers if layer.blobs}
        for path in (tmp_path / "new.caffemodel", old)
    )
    assert list(ours) == list(theirs)
    for name, blobs in ours.items():
        for mine, blob in zip(blobs, theirs[name], strict=True):
            assert (mine == blob).all()
    assert run("upgrade", str(old)).exit_code == 2
