"""`torrefy show`: the table, its numbers, its JSON and the drawing."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from tests.cli.conftest import Run, Script
from torch.utils.flop_counter import FlopCounterMode

from torrefy.graph import State
from torrefy.net.compile import diagnose
from torrefy.schema import parse_text, upgrade

TABLE = """\
layer  type          bottoms -> tops  output     parameters  multiply-adds
data   Input         data             2x1x28x28           -              -
conv1  Convolution   data -> conv1    2x4x24x24         104        115,200
relu1  ReLU          conv1 -> conv1   2x4x24x24           -              -
pool1  Pooling       conv1 -> pool1   2x4x12x12           -              -
ip1    InnerProduct  pool1 -> ip1     2x10            5,770         11,520
prob   Softmax       ip1 -> prob      2x10                -              -

inputs         data 2x1x28x28
outputs        prob 2x10
layers         6 in phase test
parameters     5,874
multiply-adds  126,720
"""

BRANCHES = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 4 dim: 9 dim: 9 } } }
layer { name: "a" type: "Convolution" bottom: "data" top: "a" param { name: "w" }
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 group: 2 } }
layer { name: "a/bn" type: "BatchNorm" bottom: "a" top: "a" }
layer { name: "a/relu" type: "ReLU" bottom: "a" top: "a" }
layer { name: "b <&>" type: "Convolution" bottom: "data" top: "b" param { name: "w" }
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 group: 2 bias_term: false } }
layer { name: "up" type: "Deconvolution" bottom: "b" top: "up"
  convolution_param { num_output: 6 kernel_size: 4 stride: 2 group: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "a" top: "ip"
  inner_product_param { num_output: 5 axis: -1 transpose: true } }
layer { name: "cut" type: "Slice" bottom: "up" top: "u" top: "v" }
"""


def test_the_table_in_a_pipe_is_plain_and_whole(run: Run, lenet: Path) -> None:
    result = run("show", "lenet.prototxt")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == TABLE


def test_the_installed_command_does_the_same(script: Script, lenet: Path) -> None:
    result = script("show", "lenet.prototxt", COLUMNS="40")
    assert (result.returncode, result.stdout, result.stderr) == (0, TABLE, "")


def test_a_terminal_of_80_columns_holds_the_table_and_every_name(
    tmp_path: Path, lenet: Path
) -> None:
    name = "a_very_long_name/of_the_kind/that_inception_resnet/gives_to_its_layers_3x3_reduce"
    lenet.write_text(lenet.read_text().replace('"conv1"', f'"{name}"'))
    ours, theirs = pty.openpty()
    os.set_inheritable(theirs, True)
    command = [Path(sys.executable).with_name("torrefy"), "show", str(lenet)]
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        output = b""
        try:
            while data := os.read(ours, 65536):
                output += data
        except OSError:  # the other end is closed
            pass
        assert process.wait() == 0
    os.close(ours)
    table = output.decode().replace("\r", "").split("\n\n")[0].splitlines()
    assert max(map(len, table)) <= 80
    width = table[0].index("type")
    assert name in "".join(line[:width].strip() for line in table)
    assert "115,200" in table[2]
    assert "…" not in output.decode()


def test_json_has_every_number(run: Run) -> None:
    Path("net.prototxt").write_text('name: "Branches"' + BRANCHES)
    result = run("show", "--json", "net.prototxt")
    assert (result.exit_code, result.stderr) == (0, "")
    shown = json.loads(result.stdout)
    layers = {layer["name"]: layer for layer in shown.pop("layers")}
    assert shown == {
        "ok": True,
        "file": "net.prototxt",
        "name": "Branches",
        "phase": "test",
        "level": 0,
        "stages": [],
        "inputs": {"data": [2, 4, 9, 9]},
        "outputs": {"ip": [2, 4, 9, 5], "u": [2, 3, 20, 20], "v": [2, 3, 20, 20]},
        "parameters": 72 + 4 + 4 * 3 * 16 + 6 + 9 * 5 + 5,
        "statistics": 9,
        "multiply_adds": sum(layer["multiply_adds"] for layer in layers.values()),
        "notes": [],
    }
    assert layers["cut"] == {
        "name": "cut",
        "type": "Slice",
        "bottoms": ["up"],
        "tops": ["u", "v"],
        "shapes": [[2, 3, 20, 20], [2, 3, 20, 20]],
        "parameters": 0,
        "statistics": 0,
        "multiply_adds": 0,
        "line": 14,
    }


def test_a_shared_param_counts_once(run: Run) -> None:
    Path("net.prototxt").write_text(BRANCHES)
    layers = json.loads(run("show", "--json", "net.prototxt").stdout)["layers"]
    counts = {layer["name"]: layer["parameters"] for layer in layers}
    assert (counts["a"], counts["b <&>"]) == (72 + 4, 0)


def test_multiply_adds_are_those_that_torch_counts() -> None:
    graph, built = diagnose(upgrade(parse_text(BRANCHES)), State())
    assert not built.problems
    for node in graph.nodes:
        layer = built.layers[node.key]
        bottoms = [built.shapes[b] for b in node.bottoms]
        counted = layer.multiply_adds(bottoms, [built.shapes[t] for t in node.tops])
        if node.type not in ("Convolution", "Deconvolution", "InnerProduct"):
            assert counted == 0
            continue
        with FlopCounterMode(display=False) as counter:
            layer(*(torch.empty(shape, device="meta") for shape in bottoms))
        assert counter.get_total_flops() == 2 * counted > 0, node.name


def test_the_state_chooses_the_layers(run: Run) -> None:
    text = (
        BRANCHES + 'layer { name: "t" type: "ReLU" bottom: "ip" top: "t" include { phase: TRAIN } }'
    )
    Path("net.prototxt").write_text(text)
    assert "8 in phase test" in run("show", "net.prototxt").stdout
    assert "9 in phase train" in run("show", "--phase", "train", "net.prototxt").stdout


def test_notes_go_to_stderr(run: Run) -> None:
    Path("old.prototxt").write_text(
        'input: "data" input_dim: [1, 3, 8, 8] '
        'layers { name: "a" type: RELU bottom: "data" top: "a" }'
    )
    result = run("show", "old.prototxt")
    assert result.stderr == "old.prototxt: note: upgraded from V1 layers\n"


def test_a_definition_that_is_wrong_is_told_as_check_tells_it(run: Run, lenet: Path) -> None:
    lenet.write_text(lenet.read_text().replace("kernel_size: 5", "kernel_size: 50"))
    result = run("show", "lenet.prototxt")
    expected = (
        'lenet.prototxt:5:50: layer "conv1": the kernel of 50x50 is larger than the padded bottom '
        "of 28x28\n"
    )
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", expected)
    assert run("check", "lenet.prototxt").stdout == expected + "1 problem\n"
    result = run("show", "--json", "lenet.prototxt")
    assert (result.exit_code, json.loads(result.stdout)["ok"]) == (1, False)


# --- Drawing ---


def test_without_the_graphviz_package_drawing_says_how_to_get_it(
    run: Run, lenet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "graphviz", None)
    assert run("show", "lenet.prototxt").exit_code == 0
    for option in ("--dot", "--svg"):
        result = run("show", "lenet.prototxt", option, "net.out")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == (
            "error: drawing needs the Python package graphviz, which is not there. Install both: "
            'pip install "torrefy[svg]", and the program by apt, dnf, brew or winget install '
            "graphviz.\n"
        )
    assert not Path("net.out").exists()


def test_without_the_dot_program_an_svg_says_how_to_get_it(
    run: Run, lenet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("graphviz")
    monkeypatch.setenv("PATH", "/nowhere")
    result = run("show", "lenet.prototxt", "--svg", "net.svg")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: drawing an SVG needs Graphviz's program dot, which is not there. Install both: "
        'pip install "torrefy[svg]", and the program by apt, dnf, brew or winget install '
        "graphviz.\n"
    )
    assert not Path("net.svg").exists()
    assert run("show", "lenet.prototxt", "--dot", "net.dot").exit_code == 0


def test_a_drawing_stacks_in_place_layers_and_runs_one_way(run: Run) -> None:
    pytest.importorskip("graphviz")
    Path("net.prototxt").write_text(BRANCHES)
    result = run("show", "net.prototxt", "--dot", "-")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    boxes = [line for line in lines if "shape=box" in line]
    assert len(boxes) == 6  # data, a with a/bn and a/relu, b, up, ip, cut
    (stacked,) = (line for line in boxes if "<b>a</b>" in line)
    assert "num_output 4, pad 1, kernel_size 3, group 2" in stacked
    assert stacked.index("<b>a</b>") < stacked.index("<b>a/bn</b>") < stacked.index("<b>a/relu</b>")
    ovals = [line for line in lines if "shape=oval" in line]
    assert len(ovals) == 7  # data, a, b, up, ip, u, v
    order = {
        match[1]: i for i, line in enumerate(lines) if (match := re.match(r"\t(\w+) \[", line))
    }
    edges = [match.groups() for line in lines if (match := re.match(r"\t(\w+) -> (\w+)$", line))]
    assert len(edges) == 12
    rank = {}
    for start, end in edges:
        rank.setdefault(start, []).append(end)

    def reaches(node: str, goal: str) -> bool:
        return any(end == goal or reaches(end, goal) for end in rank.get(node, []))

    assert not any(reaches(node, node) for node in order)


def test_an_in_place_layer_on_one_of_several_tops_has_its_own_box(run: Run) -> None:
    pytest.importorskip("graphviz")
    text = BRANCHES + 'layer { name: "r" type: "ReLU" bottom: "u" top: "u" }'
    Path("net.prototxt").write_text(text)
    boxes = [
        line
        for line in run("show", "net.prototxt", "--dot", "-").stdout.splitlines()
        if "shape=box" in line
    ]
    assert len(boxes) == 7


@pytest.mark.skipif(not shutil.which("dot"), reason="needs Graphviz's dot")
def test_an_svg_is_drawn_whatever_the_names(run: Run) -> None:
    pytest.importorskip("graphviz")
    text = BRANCHES.replace('"a/relu"', '""').replace('"v"', '"v\\n\\\\n<i>é"')
    Path("net.prototxt").write_text(text, encoding="utf-8")
    result = run("show", "net.prototxt", "--svg", "net.svg")
    assert (result.exit_code, result.stderr) == (0, "wrote net.svg\n")
    assert "multiply-adds" in result.stdout
    drawn = "".join(ElementTree.parse("net.svg").getroot().itertext())
    for name in ("a/bn", "b <&>", "v\\x0a\\n<i>é", "2x6x20x20"):
        assert name in drawn.replace("\n", "").replace("\xa0", " "), name


def test_a_drawing_to_stdout_and_json_are_not_both_to_be_had(run: Run, lenet: Path) -> None:
    result = run("show", "lenet.prototxt", "--dot", "-", "--json")
    assert result.exit_code == 2
    assert "--dot - and --json both print to stdout; give --dot a file" in result.stderr
