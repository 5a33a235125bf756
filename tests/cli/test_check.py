"""`torrefy check`: every mistake that a definition can hold, word for word."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image
from tests.cli.conftest import Run, Script
from tests.conftest import LENET

DATA = (
    'layer { name: "data" type: "Input" top: "data"\n'
    "  input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }\n"
)
CONVOLUTION = (
    'layer { name: "%s" type: "Convolution" bottom: "%s" top: "%s"\n  convolution_param { %s } }\n'
)


def conv(name: str, bottom: str, top: str, parameters: str = "num_output: 4 kernel_size: 3") -> str:
    return CONVOLUTION % (name, bottom, top, parameters)


def told(run: Run, text: str, *options: str) -> list[str]:
    """The lines that check prints for a definition that is wrong, less the last one's count."""
    Path("net.prototxt").write_text(text)
    result = run("check", "net.prototxt", *options)
    assert result.exit_code == 1
    assert result.stderr == ""
    *lines, count = result.stdout.splitlines()
    number = sum(": note: " not in line for line in lines)
    assert count == f"{number} problem{'s' if number > 1 else ''}"
    return lines


# --- What is right ---


def test_a_good_definition_is_ok(run: Run, lenet: Path) -> None:
    result = run("check", "lenet.prototxt")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "lenet.prototxt: ok, 6 layers in phase test\n"


def test_upgrades_are_noted(run: Run) -> None:
    text = (
        'input: "data" input_dim: [1, 3, 8, 8]\n'
        'layers { name: "a" type: RELU bottom: "data" top: "a" }\n'
        'layers { name: "b" type: RELU bottom: "a" top: "b" }\n'
    )
    Path("old.prototxt").write_text(text)
    assert run("check", "old.prototxt").stdout.splitlines() == [
        "old.prototxt: note: upgraded from V1 layers",
        "old.prototxt: ok, 3 layers in phase test",
    ]


def test_the_state_chooses_the_layers(run: Run) -> None:
    rules = {
        "a": "include { phase: TRAIN }",
        "b": "include { phase: TEST }",
        "c": 'include { stage: "deploy" }',
        "d": "include { min_level: 2 }",
    }
    layers = [
        f'layer {{ name: "{name}" type: "ReLU" bottom: "data" top: "{name}" {rule} }}\n'
        for name, rule in rules.items()
    ]
    Path("net.prototxt").write_text(DATA + "".join(layers))

    def layers_in(*options: str) -> str:
        return run("check", "net.prototxt", *options).stdout

    assert layers_in("--phase", "test") == "net.prototxt: ok, 2 layers in phase test\n"
    assert layers_in("--phase", "TRAIN") == "net.prototxt: ok, 2 layers in phase train\n"
    assert "ok, 4 layers" in layers_in("--stage", "deploy", "--stage", "x", "--level", "2")


# --- What is wrong, one by one ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (  # an unknown field
            DATA + 'layer { name: "c" type: "Convolution" bottom: "data" top: "c"\n'
            "  convolution_param { num_ouput: 4 kernel_size: 3 } }",
            'net.prototxt:4:23: layer "c": ConvolutionParameter has no field "num_ouput". '
            'Did you mean "num_output"?',
        ),
        (  # an unknown layer type
            DATA + 'layer { name: "r" type: "Relu" bottom: "data" top: "r" }',
            'net.prototxt:3:25: layer "r": there is no layer type "Relu". '
            'Did you mean "ReLU"?',
        ),
        (  # a layer type that nothing resembles
            DATA + 'layer { name: "r" type: "MyVeryOwnThing" bottom: "data" top: "r" }',
            'net.prototxt:3:25: layer "r": there is no layer type "MyVeryOwnThing". '
            "Is a plugin missing?",
        ),
        (  # no layer type
            DATA + 'layer { name: "r" bottom: "data" top: "r" }',
            'net.prototxt:3:1: layer "r": the layer has no type',
        ),
        (  # an unknown bottom
            DATA + conv("conv1", "data", "conv1") + conv("conv2", "cnov1", "conv2"),
            'net.prototxt:5:51: layer "conv2": bottom "cnov1" is not produced by any layer above '
            'it. Did you mean "conv1"?',
        ),
        (  # a bottom that a later layer produces
            DATA + conv("conv1", "conv2", "conv1") + conv("conv2", "data", "conv2"),
            'net.prototxt:3:51: layer "conv1": bottom "conv2" is not produced by any layer above '
            "it. A layer further down produces it; layers stand in the order they run in.",
        ),
        (  # a top produced twice
            DATA + conv("conv1", "data", "x") + conv("conv2", "data", "x"),
            'net.prototxt:5:63: layer "conv2": top "x" is already produced by layer "conv1" in '
            "line 3. A layer may only overwrite its own bottom of the same index; choose another "
            "name.",
        ),
        (  # a value that is not one of an enum's
            DATA + 'layer { name: "p" type: "Pooling" bottom: "data" top: "p"\n'
            "  pooling_param { pool: MEAN kernel_size: 2 } }",
            'net.prototxt:4:25: layer "p": "pool" takes one of MAX, AVE, STOCHASTIC; found MEAN',
        ),
        (  # a phase that there is not
            DATA + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r"\n'
            "  include { phase: TESTING } }",
            'net.prototxt:4:20: layer "r": "phase" takes one of TRAIN, TEST; found TESTING. '
            'Did you mean "TEST"?',
        ),
        (  # a required parameter that is missing
            DATA + conv("c", "data", "c", "kernel_size: 3"),
            'net.prototxt:4:3: layer "c": num_output is missing. '
            "Give convolution_param { num_output: … }.",
        ),
        (
            DATA + conv("c", "data", "c", "num_output: 4"),
            'net.prototxt:4:3: layer "c": kernel_size is missing. '
            "Give convolution_param { kernel_size: … }.",
        ),
        (
            DATA + conv("c", "data", "c", "num_output: 0 kernel_size: 3"),
            'net.prototxt:4:35: layer "c": num_output must be above 0, found 0',
        ),
        (  # a kernel that is larger than what it is laid on
            DATA + conv("c", "data", "c", "num_output: 4 pad: 1 kernel_size: 11"),
            'net.prototxt:4:57: layer "c": the kernel of 11x11 is larger than the padded bottom '
            "of 10x10",
        ),
        (
            DATA + conv("c", "data", "c", "num_output: 4 kernel_size: 3 dilation: 4"),
            'net.prototxt:4:50: layer "c": the dilated kernel of 9x9 is larger than the padded '
            "bottom of 8x8",
        ),
        (  # shapes that do not go together
            DATA + conv("c", "data", "c") + 'layer { name: "j" type: "Concat"\n'
            '  bottom: "data" bottom: "c" top: "j" }',
            'net.prototxt:6:11: layer "j": all bottoms must agree but for axis 1: bottom 0 is '
            "2x3x8x8, bottom 1 is 2x4x6x6",
        ),
        (
            DATA + conv("c", "data", "c") + 'layer { name: "e" type: "Eltwise"\n'
            '  bottom: "data" bottom: "c" top: "e" }',
            'net.prototxt:6:11: layer "e": all bottoms must have one shape: bottom 0 is 2x3x8x8, '
            "bottom 1 is 2x4x6x6",
        ),
        (  # params of two shapes under one name
            DATA + conv("c", "data", "c").replace("\n", ' param { name: "w" }\n', 1)
            + conv("d", "data", "d", "num_output: 9 kernel_size: 3").replace(
                "\n", ' param { name: "w" }\n', 1
            ),
            'net.prototxt:5:63: layer "d": param "w" is 9x3x3x3 here and 4x3x3x3 in layer "c", '
            "which shares it",
        ),
        (  # rates of two sizes under one name
            DATA + conv("c", "data", "c").replace("\n", ' param { name: "w" lr_mult: 1 }\n', 1)
            + conv("d", "data", "d").replace("\n", ' param { name: "w" lr_mult: 2 }\n', 1),
            'net.prototxt:5:90: layer "d": shared param "w" has lr_mult 2 here and 1 in layer '
            '"c". Give it once, or the same.',
        ),
        (  # too few bottoms
            DATA + 'layer { name: "e" type: "Eltwise" bottom: "data" top: "e" }',
            'net.prototxt:3:43: layer "e": Eltwise takes 2 or more bottoms, found 1',
        ),
        (  # no value
            'layer { name: "a" type: }',
            'net.prototxt:1:25: layer "a": expected a text in quotes for "type", found "}"',
        ),
        ('name: "n"', "net.prototxt: the net has no layers"),
        ("<<<<<<< HEAD\n", "net.prototxt:1:1: expected a field's name, found \"<\". This is a "
         "merge conflict left in the file."),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place_and_a_hint(run: Run, text: str, expected: str) -> None:
    assert told(run, text) == [expected]


def test_layers_that_come_later_are_called_by_their_type(run: Run) -> None:
    text = 'layer { name: "d" type: "Unheard" top: "data" top: "label" }\n' + conv("c", "data", "c")
    assert told(run, text, "--phase", "train") == [
        'net.prototxt:1:25: layer "d": there is no layer type "Unheard". Is a plugin missing?'
    ]


def test_independent_mistakes_are_told_at_once_and_what_follows_from_them_is_not(run: Run) -> None:
    text = (
        DATA
        + conv("c1", "data", "c1", "num_output: 4 kernel_size: 99")
        + conv("c2", "c1", "c2")
        + 'layer { name: "r" type: "Rleu" bottom: "data" top: "r" }\n'
        + conv("c3", "r", "c3")
        + conv("c4", "dta", "c4")
        + conv("c5", "data", "c5", "num_output: 4 group: 2 kernel_size: 3")
    )
    assert told(run, text) == [
        'net.prototxt:4:50: layer "c1": the kernel of 99x99 is larger than the padded bottom of '
        "8x8",
        'net.prototxt:7:25: layer "r": there is no layer type "Rleu". Did you mean "ReLU"?',
        'net.prototxt:10:48: layer "c4": bottom "dta" is not produced by any layer above it. '
        'Did you mean "data"?',
        'net.prototxt:13:44: layer "c5": group 2 must divide both the bottom\'s 3 channels and '
        "num_output 4",
    ]


def test_texts_that_can_not_be_read_are_told_all_at_once(run: Run) -> None:
    text = 'layer { nmae: "a" }\nlayer { relu_param { negativ_slope: 1 } }\nlayer { phase: TRIAN }'
    assert told(run, text) == [
        'net.prototxt:1:9: LayerParameter has no field "nmae". Did you mean "name"?',
        'net.prototxt:2:22: ReLUParameter has no field "negativ_slope". '
        'Did you mean "negative_slope"?',
        'net.prototxt:3:16: "phase" takes one of TRAIN, TEST; found TRIAN. Did you mean "TRAIN"?',
    ]


def test_a_phase_that_there_is_not_is_wrong_usage(run: Run, lenet: Path) -> None:
    result = run("check", "--phase", "tset", "lenet.prototxt")
    assert result.exit_code == 2
    assert "Invalid value for '--phase': 'tset' is not one of 'train', 'test'." in result.stderr


def test_a_phase_without_layers_says_so(run: Run) -> None:
    text = DATA.replace("layer {", "layer { include { phase: TRAIN }")
    assert told(run, text, "--phase", "test") == [
        "net.prototxt: no layer is left in phase test. Ask for another phase, level or stage."
    ]


# --- What is no prototxt ---


def jpeg() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "net: the file is empty"),
        (b"\n \n", "net: the file is empty"),
        (b"\x0a\x05LeNet\xa2\x06\x04\x0a\x00\x12\x00", "net: this is a binary caffemodel, not a "
         "prototxt"),
        (jpeg(), "net: this is a JPEG picture, not a prototxt"),
        (b'name: "caf\xe9"', "net:1:11: byte 0xe9 is not UTF-8 text. Save the file as UTF-8."),
        (b"MZ\0\0", "net: this is a binary file, not a prototxt"),
        (b"hello", 'net:1:6: expected ":" or "{" after "hello", found the end of the file'),
    ],
)  # fmt: skip
def test_what_is_no_prototxt_is_called_by_its_name(run: Run, content: bytes, expected: str) -> None:
    Path("net").write_bytes(content)
    assert run("check", "net").stdout == f"{expected}\n1 problem\n"


def test_two_gigabytes_of_zeros_are_refused_at_once(script: Script, tmp_path: Path) -> None:
    with (tmp_path / "zeros").open("wb") as file:
        file.truncate(2 << 30)
    result = script("check", "zeros")
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout == ("zeros: this is a file of zero bytes, not a prototxt\n1 problem\n")


def test_a_directory_and_a_missing_file_get_a_hint(run: Run, lenet: Path) -> None:
    Path("models").mkdir()
    Path("models/net.prototxt").touch()
    result = run("check", "models", "lenett.prototxt")
    assert result.stdout.splitlines() == [
        "models: this is a directory, not a prototxt. It holds net.prototxt.",
        'lenett.prototxt: no such file. Did you mean "lenet.prototxt"?',
        "2 problems in 2 of 2 files",
    ]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read_says_so(run: Run, lenet: Path) -> None:
    lenet.chmod(0)
    assert "lenet.prototxt: can't be read: Permission denied" in run("check", str(lenet)).stdout


# --- Several files, JSON ---


def test_after_a_bad_file_the_next_is_checked(run: Run, lenet: Path) -> None:
    Path("bad.prototxt").write_text(LENET.replace('"ip1" top: "prob"', '"ip" top: "prob"'))
    result = run("check", "bad.prototxt", "lenet.prototxt", "lenet.prototxt")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        'bad.prototxt:11:46: layer "prob": bottom "ip" is not produced by any layer above it. '
        'Did you mean "ip1"?',
        "lenet.prototxt: ok, 6 layers in phase test",
        "lenet.prototxt: ok, 6 layers in phase test",
        "1 problem in 1 of 3 files",
    ]
    assert run("check", "lenet.prototxt", "lenet.prototxt").stdout.endswith(
        "no problems in 2 files\n"
    )


def test_json_says_the_same(run: Run, lenet: Path) -> None:
    Path("bad.prototxt").write_text('layer { nmae: "a" }')
    result = run("check", "--json", "lenet.prototxt", "bad.prototxt")
    assert (result.exit_code, result.stderr) == (1, "")
    assert json.loads(result.stdout) == {
        "ok": False,
        "problems": [
            {
                "file": "bad.prototxt",
                "line": 1,
                "column": 9,
                "layer": None,
                "message": 'LayerParameter has no field "nmae"',
                "hint": 'Did you mean "name"?',
            }
        ],
        "files": [
            {"file": "lenet.prototxt", "ok": True, "problems": 0, "warnings": 0, "notes": []},
            {"file": "bad.prototxt", "ok": False, "problems": 1, "warnings": 0, "notes": []},
        ],
        "warnings": [],
    }
    result = run("check", "--json", "lenet.prototxt")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["ok"] is True


def test_the_installed_command_does_the_same(script: Script, lenet: Path) -> None:
    result = script("check", "lenet.prototxt")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "lenet.prototxt: ok, 6 layers in phase test\n"


def test_a_text_that_is_wrong_is_told_without_loading_torch(script: Script, tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text("nmae: 1")
    result = script("check", "net.prototxt", PYTHONPROFILEIMPORTTIME="1")
    assert result.returncode == 1
    assert "torch" not in {line.split("|")[-1].strip() for line in result.stderr.splitlines()}


TRAP = """layer { name: "images" type: "ImageData" top: "x" top: "y" include { phase: TEST }
  transform_param { mirror: true }
  image_data_param { batch_size: 2 new_height: 8 new_width: 8 } }
"""
TRAPPED = (
    'n.prototxt:2:29: warning: layer "images": mirror flips pictures at random in phase test too, '
    "so scores vary. Give mirror: false for phase test. [T201 mirror-in-test]"
)


def test_traps_are_warnings_unless_they_are_to_count(run: Run) -> None:
    Path("n.prototxt").write_text(TRAP)
    result = run("check", "n.prototxt")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        TRAPPED, "n.prototxt: ok, 1 layer in phase test", "1 warning",
    ]  # fmt: skip
    assert run("check", "--strict", "n.prototxt").exit_code == 1
    assert run("check", "--strict", "--ignore", "T2", "n.prototxt").exit_code == 0
    assert run("check", "--strict", "--select", "T1,T3", "n.prototxt").exit_code == 0
    (warning,) = json.loads(run("check", "--json", "n.prototxt").stdout)["warnings"]
    assert (warning["rule"], warning["line"], warning["fixable"]) == ("T201", 2, True)


def test_fix_mends_the_file(run: Run) -> None:
    Path("n.prototxt").write_text(TRAP)
    assert run("check", "--fix", "n.prototxt").stdout.splitlines() == [
        "n.prototxt: note: 1 trap mended", "n.prototxt: ok, 1 layer in phase test",
    ]  # fmt: skip
    assert Path("n.prototxt").read_text() == TRAP.replace("mirror: true", "mirror: false")


def test_a_file_that_cant_be_mended_is_told_with_the_others(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    Path("n.prototxt").write_text(TRAP)
    Path("empty.prototxt").touch()
    monkeypatch.setattr(Path, "replace", refuse)
    result = run("check", "--fix", "n.prototxt", "empty.prototxt")
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout.splitlines() == [
        "n.prototxt: can't be written: No space left on device",
        TRAPPED,
        "empty.prototxt: the file is empty",
        "2 problems and 1 warning in 2 of 2 files",
    ]


def test_a_rule_is_explained(run: Run) -> None:
    result = run("check", "--explain", "mirror-in-test")
    assert result.exit_code == 0
    assert result.stdout.startswith("T201 mirror-in-test\n\nWith mirror, pictures are flipped")
    body = result.stdout.splitlines()[4:]
    assert body and all(line and not line.startswith(" ") for line in body)
    told = json.loads(run("check", "--explain", "mirror-in-test", "--json").stdout)
    assert [(rule["rule"], rule["name"]) for rule in told["rules"]] == [("T201", "mirror-in-test")]
    assert run("check", "--explain", "T9", "--json").stderr == ""
    wrong = run("check", "--explain", "T9")
    assert (wrong.exit_code, wrong.stderr) == (
        1,
        'error: there is no lint rule "T9". Did you mean "T109"?\n',
    )


def test_a_file_is_needed_unless_a_rule_is_explained(run: Run) -> None:
    result = run("check", "--strict")
    assert result.exit_code == 2
    assert result.stderr.endswith("Error: Missing argument 'FILE...'.\n")


# --- Both phases, and what a solver names ---

PHASES = (
    'layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }\n'
    '  data_param { source: "no_train" batch_size: 4 backend: LMDB } }\n'
    'layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }\n'
    '  data_param { source: "no_test" batch_size: 2 backend: LMDB } %s }\n'
    'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"\n'
    '  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }\n'
    'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "%s" top: "loss" }\n'
    'layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy"\n'
    "  include { phase: TEST } %s }\n"
)
SHAPES = ("--shape", "data=4x1x8x8")
RATE = 'base_lr: 0.1 max_iter: 9 lr_policy: "fixed"\n'


def test_a_net_that_tells_phases_apart_is_looked_at_in_both(run: Run) -> None:
    Path("net.prototxt").write_text(PHASES % ("", "label", ""))
    assert run("check", "net.prototxt", *SHAPES).stdout == (
        "net.prototxt: ok, 3 layers in phase train and 4 layers in phase test\n"
    )
    assert run("check", "net.prototxt", *SHAPES, "--phase", "train").stdout == (
        "net.prototxt: ok, 3 layers in phase train\n"
    )


def test_what_is_wrong_in_both_phases_is_told_once_and_else_the_phase_is(run: Run) -> None:
    mirror = "transform_param { mirror: true }"
    Path("net.prototxt").write_text(PHASES % (mirror, "lable", "accuracy_param { top_k: 7 }"))
    lines = run("check", "net.prototxt", *SHAPES).stdout.splitlines()
    assert lines == [
        'net.prototxt:7:67: layer "loss": bottom "lable" is not produced by any layer above it. '
        'Did you mean "label"?',
        'net.prototxt:9:51: layer "accuracy": in phase test: top_k 7 of 3 classes',
        'net.prototxt:4:90: warning: layer "data": mirror flips pictures at random in phase test '
        "too, so scores vary. Give mirror: false for phase test. [T201 mirror-in-test]",
        "2 problems and 1 warning",
    ]


def test_a_net_with_data_in_one_phase_is_looked_at_in_that_alone(run: Run) -> None:
    only = DATA.replace("layer {", "layer { include { phase: TRAIN }")
    Path("net.prototxt").write_text(only + conv("c", "data", "c", "kernel_size: 3"))
    assert run("check", "net.prototxt").stdout.splitlines()[0] == (
        'net.prototxt:4:3: layer "c": num_output is missing. Give convolution_param '
        "{ num_output: … }."
    )
    Path("net.prototxt").write_text(only)
    assert run("check", "net.prototxt").stdout == "net.prototxt: ok, 1 layer in phase train\n"


def test_a_solver_is_checked_with_the_nets_that_it_names(run: Run) -> None:
    Path("net.prototxt").write_text(PHASES % ("", "label", "accuracy_param { top_k: 7 }"))
    Path("train.prototxt").write_text(PHASES % ("", "lable", ""))
    Path("solver.prototxt").write_text(
        'train_net: "train.prototxt" test_net: "net.prototxt" test_iter: 1 test_interval: 5\n'
        'base_lr: 0.1 max_iter: 9 lr_policy: "step" stepsize: 3\n'
    )
    lines = run("check", "solver.prototxt", *SHAPES).stdout.splitlines()
    assert lines == [
        'solver.prototxt:2:37: warning: lr_policy "step" reads gamma, which is not given and so is '
        "0. Give gamma. [T301 policy-without-numbers]",
        "solver.prototxt: ok, a solver",
        'train.prototxt:7:67: layer "loss": bottom "lable" is not produced by any layer above it. '
        'Did you mean "label"?',
        'net.prototxt:9:51: layer "accuracy": top_k 7 of 3 classes',
        "2 problems and 1 warning in 2 of 3 files",
    ]


def test_a_net_of_a_solver_is_looked_at_in_the_states_that_the_solver_gives_it(run: Run) -> None:
    Path("net.prototxt").write_text(
        PHASES % ("", "label", "") + 'layer { name: "odd" type: "Odd" bottom: "ip" '
        'include { phase: TEST stage: "odd" } }\n'
    )
    net = 'net: "net.prototxt" test_iter: 1 test_iter: 2 test_interval: 5 '
    Path("solver.prototxt").write_text(net + RATE)
    assert run("check", "solver.prototxt", *SHAPES).stdout.splitlines() == [
        "solver.prototxt: ok, a solver",
        "net.prototxt: ok, 3 layers in phase train and 4 layers in phase test",
        "no problems in 2 files",
    ]
    Path("solver.prototxt").write_text(net + 'test_state {} test_state { stage: "odd" } ' + RATE)
    result = run("check", "solver.prototxt", "net.prototxt", *SHAPES)
    assert result.stdout.splitlines()[1] == (
        'net.prototxt:10:27: layer "odd": in phase test, stage odd: there is no layer type "Odd". '
        "Is a plugin missing?"
    )


def test_a_net_that_is_given_beside_its_solver_is_told_of_once(run: Run) -> None:
    Path("net.prototxt").write_text(PHASES % ("", "lable", ""))
    Path("solver.prototxt").write_text(f'net: "net.prototxt" {RATE}')
    lines = run("check", "solver.prototxt", "./net.prototxt", *SHAPES).stdout.splitlines()
    assert lines[-1] == "1 problem in 1 of 2 files"
    assert json.loads(run("check", "solver.prototxt", *SHAPES, "--json").stdout)["files"] == [
        {"file": "solver.prototxt", "ok": True, "problems": 0, "warnings": 0, "notes": []},
        {"file": "net.prototxt", "ok": False, "problems": 1, "warnings": 0, "notes": []},
    ]


def test_a_net_that_a_solver_names_and_that_is_missing_is_one_problem(run: Run) -> None:
    tests = "test_iter: 1 test_interval: 5"
    Path("solver.prototxt").write_text(f'net: "nett.prototxt" {tests} {RATE}')
    Path("net.prototxt").write_text(DATA)
    assert run("check", "solver.prototxt").stdout.splitlines() == [
        'nett.prototxt: no such file. Did you mean "net.prototxt"?',
        "1 problem",
    ]
    Path("sub").mkdir()
    Path("sub/mine.prototxt").write_text(DATA)
    Path("sub/solver.prototxt").write_text(f'net: "mine.prototxt" {tests} {RATE}')
    assert run("check", "sub/solver.prototxt").stdout.splitlines() == [
        'sub/solver.prototxt:1:6: there is no file "mine.prototxt" here, but beside the solver. As '
        "in Caffe, paths are relative to the folder that training starts in.",
        "1 problem",
    ]


def test_what_train_refuses_in_a_solver_check_tells(run: Run) -> None:
    Path("solver.prototxt").write_text('base_lr: 0.1 max_iter: 9 lr_policy: "stepp"\n')
    assert run("check", "solver.prototxt").stdout.splitlines() == [
        'solver.prototxt:1:37: there is no lr_policy "stepp". Did you mean "step"?',
        'solver.prototxt:1:1: the solver names no net. Give net: "train_val.prototxt", or one of '
        "net_param, train_net, train_net_param.",
        "2 problems",
    ]
    Path("solver.prototxt").write_text("base_lr: 0.1\nmax_itr: 9\n")
    assert run("check", "solver.prototxt").stdout.splitlines()[0] == (
        'solver.prototxt:2:1: SolverParameter has no field "max_itr". Did you mean "max_iter"?'
    )


def test_a_net_within_a_solver_is_checked_and_no_file_is_made_of_it(run: Run) -> None:
    net = PHASES % ("transform_param { mirror: true }", "label", "")
    Path("solver.prototxt").write_text(
        f"net_param {{\n{net}}}\ntest_iter: 1 test_interval: 5 {RATE}"
    )
    result = run("check", "solver.prototxt", *SHAPES, "--fix")
    assert "[T201 mirror-in-test]" in result.stdout
    assert [path.name for path in Path().iterdir()] == ["solver.prototxt"]
