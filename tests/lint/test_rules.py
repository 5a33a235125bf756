# ruff: noqa: E501  the cases are a table
"""Every lint rule: what it finds, in which words and place, and what it leaves alone."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from torrefy.errors import TorrefyError
from torrefy.graph import State
from torrefy.lint.run import choose_rules, lint_net, lint_rules, lint_solver, mended
from torrefy.net.compile import diagnose
from torrefy.schema import Definition, parse_text, upgrade

DATA = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 4 dim: 8 dim: 8 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 } } }
"""
FILLER = 'weight_filler { type: "xavier" }'


def layer(name: str, kind: str, bottom: str, top: str, params: str = "") -> str:
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {params} }}\n'


def loss(bottom: str, kind: str = "SoftmaxWithLoss", params: str = "") -> str:
    return (
        f'layer {{ name: "loss" type: "{kind}" bottom: "{bottom}" bottom: "label" top: "loss" '
        f"{params} }}\n"
    )


def ip(params: str = FILLER, top: str = "ip", more: str = "") -> str:
    return layer(
        "ip",
        "InnerProduct",
        "data",
        top,
        f"inner_product_param {{ num_output: 3 {params} }} {more}",
    )


def conv(params: str) -> str:
    return layer(
        "conv", "Convolution", "data", "conv",
        f"convolution_param {{ num_output: 4 kernel_size: 3 {FILLER} {params} }}",
    )  # fmt: skip


def bilinear(params: str, more: str = "") -> str:
    return layer(
        "up", "Deconvolution", "data", "up",
        'convolution_param { num_output: 4 kernel_size: 4 stride: 2 weight_filler { type: "bilinear" } '
        f"{params} }} {more}",
    )  # fmt: skip


NORM = layer("bn", "BatchNorm", "conv", "bn")
SCALED = layer("scale", "Scale", "bn", "s", "scale_param { bias_term: true }")
HEAD = ip().replace('"data"', '"s"') + loss("ip")
POOL = "pooling_param { pool: MAX kernel_size: 1 stride: 9 %s }"
CROP = (
    layer("wide", "Convolution", "data", "wide",
          f"convolution_param {{ num_output: 4 kernel_size: 3 pad: 20 {FILLER} }}")
    + 'layer { name: "crop" type: "Crop" bottom: "wide" bottom: "data" top: "c" %s }\n'
)  # fmt: skip
IMAGES = (
    'layer { name: "images" type: "ImageData" top: "x" top: "y" %s\n'
    "  image_data_param { batch_size: 2 new_height: 8 new_width: 8 %s } }\n"
)
RECORDS = (
    'layer { name: "records" type: "Data" top: "x" top: "y" %s\n'
    '  data_param { batch_size: 2 source: "train_lmdb" %s } }\n'
)
TEST_MIRROR = "include { phase: TEST } transform_param { mirror: %s }"

NETS = [
    ("T101", ip("") + loss("ip"), ip() + loss("ip"),
     '3:66: warning: layer "ip": there is no weight_filler, so the weights start as zeros. Give '
     'weight_filler { type: "xavier" } or "msra", unless they come from a file.'),
    ("T102", conv("") + NORM + layer("r", "ReLU", "bn", "r"), conv("") + NORM + SCALED,
     '4:26: warning: layer "bn": no Scale layer follows, so there is no factor and no offset to '
     "learn. Add a Scale layer with scale_param { bias_term: true } behind it."),
    ("T103", conv("") + NORM + SCALED.replace("true", "false"), conv("") + NORM + SCALED,
     '5:59: warning: layer "scale": bias_term is not set, so no offset is learned. Give scale_param '
     "{ bias_term: true }."),
    ("T104", conv("") + NORM + SCALED + HEAD, conv("bias_term: false") + NORM + SCALED + HEAD,
     '3:69: warning: layer "conv": its bias is taken away again by the BatchNorm "bn". Give '
     "bias_term: false."),
    ("T105", layer("bn", "BatchNorm", "data", "bn", "batch_norm_param { use_global_stats: false }"),
     layer("bn", "BatchNorm", "data", "bn", "batch_norm_param { use_global_stats: true }"),
     '3:100: warning: layer "bn": use_global_stats is false in phase test: answers depend on the '
     "batch. Leave it out: it then follows the phase."),
    ("T106", layer("a", "ReLU", "data", "x") + layer("a", "ReLU", "data", "y"),
     layer("a", "ReLU", "data", "x") + layer("b", "ReLU", "data", "y"),
     '4:15: warning: layer "a": another layer has this name (line 3); weights reach only the first. '
     "Choose another name."),
    ("T107", ip() + layer("p", "Softmax", "ip", "p") + loss("p"), ip() + loss("ip"),
     '5:54: warning: layer "loss": SoftmaxWithLoss contains a softmax, and its bottom comes from the '
     'Softmax "p". Give it that layer\'s bottom, "ip".'),
    ("T108", ip() + loss("ip", "MultinomialLogisticLoss"),
     ip() + layer("p", "Softmax", "ip", "p") + loss("p", "MultinomialLogisticLoss"),
     '4:62: warning: layer "loss": it takes probabilities, but its bottom comes from the InnerProduct "ip". '
     "Put a Softmax between, or use SoftmaxWithLoss."),
    ("T109", loss("data", "SigmoidCrossEntropyLoss", "loss_param { ignore_label: 0 }").replace(
        '"label"', '"data"'),
     loss("data", "SigmoidCrossEntropyLoss", "loss_param { ignore_label: 255 }").replace(
        '"label"', '"data"'),
     '3:123: warning: layer "loss": ignore_label 0 drops all targets in (-1, 1), zeros too. Mark what '
     "is to be ignored by another number, such as 255."),
    ("T110", bilinear(""), bilinear("group: 4"),
     '3:67: warning: layer "up": group is 1, so the bilinear kernels sum all channels into each. Give '
     "group: 4."),
    ("T111", bilinear("group: 4") + ip() + loss("ip"),
     bilinear("group: 4", "param { lr_mult: 0 }") + ip() + loss("ip"),
     '3:67: warning: layer "up": the bilinear kernel is learned. Give param { lr_mult: 0 decay_mult: 0 '
     "} if it is to stay."),
    ("T112", layer("pool", "Pooling", "data", "p", POOL % ""),
     layer("pool", "Pooling", "data", "p", POOL % "round_mode: FLOOR"),
     '3:62: warning: layer "pool": the last window starts at 9, outside the bottom\'s 8. Give '
     "round_mode: FLOOR, or a stride that is not above the kernel."),
    ("T113", CROP % "", CROP % "crop_param { offset: 19 }",
     '4:1: warning: layer "crop": it cuts from the corner, though the picture is padded widely. Give '
     "crop_param { offset: … }."),
    ("T114", layer("r", "ReLU", "data", "r", "include { min_level: 3 max_level: 1 }"),
     layer("r", "ReLU", "data", "r", "exclude { min_level: 1 max_level: 3 }"),
     '3:56: warning: layer "r": this rule can\'t hold: min_level 3 is above max_level 1. Correct or '
     "drop it."),
    ("T115", ip() + layer("a", "PReLU", "ip", "ip") + loss("ip"),
     ip() + layer("a", "PReLU", "ip", "ip", "param { decay_mult: 0 }") + loss("ip"),
     '4:1: warning: layer "a": its factor is decayed like a weight. Give param { decay_mult: 0 }.'),
    ("T201", IMAGES % (TEST_MIRROR % "true", ""), IMAGES % (TEST_MIRROR % "false", ""),
     '3:110: warning: layer "images": mirror flips pictures at random in phase test too, so scores '
     "vary. Give mirror: false for phase test."),
    ("T202", IMAGES % ("", "mirror: true"), IMAGES % ("transform_param { mirror: false }", ""),
     '4:71: warning: layer "images": mirror in image_data_param is ignored. Put it into '
     "transform_param { mirror: … }."),
    ("T203", 'layer { type: "WindowData" name: "w" top: "x" transform_param { scale: 2 } }\n',
     'layer { type: "WindowData" name: "w" top: "x" window_data_param { scale: 2 } }\n',
     '3:72: warning: layer "w": scale in transform_param is ignored. Put it into window_data_param.'),
    ("T204", 'layer { type: "HDF5Data" name: "h" top: "x" transform_param { scale: 2 } }\n',
     'layer { type: "HDF5Data" name: "h" top: "x" }\n',
     '3:45: warning: layer "h": HDF5Data does not transform, and Caffe refuses transform_param. '
     "Transform the data before they are written."),
    ("T205", RECORDS % ("", ""), RECORDS % ("", "backend: LMDB"),
     '4:3: warning: layer "records": no backend is given, so "train_lmdb" is read as LevelDB. Give '
     "backend: LMDB."),
    ("T206", IMAGES % ("", "") + ip() + loss("ip"), IMAGES % ("", "shuffle: true") + ip() + loss("ip"),
     '4:3: warning: layer "images": pictures come in the list\'s order. Give shuffle: true, unless the '
     "list is shuffled."),
]  # fmt: skip

RATE = "base_lr: 0.1 max_iter: 10 "
SOLVERS = [
    ("T301", RATE + 'lr_policy: "step" stepsize: 5', RATE + 'lr_policy: "step" stepsize: 5 gamma: 0.1',
     '1:38: warning: lr_policy "step" reads gamma, which is not given and so is 0. Give gamma.'),
    ("T302", "max_iter: 10", RATE,
     "1:1: warning: base_lr is not given and so is 0: nothing is learned. Give base_lr."),
    ("T303", RATE + 'type: "Adam"', RATE + 'type: "Adam" momentum: 0.9',
     "1:33: warning: Adam without momentum has a first decay of 0. Give momentum: 0.9."),
    ("T304", RATE + 'type: "RMSProp" momentum: 0.9', RATE + 'type: "RMSProp"',
     "1:53: warning: RMSProp takes no momentum, and Caffe refuses it. Leave it out."),
    ("T305", RATE + 'snapshot_prefix: "no/where/net"', RATE + 'snapshot_prefix: "net"',
     "1:44: warning: there is no folder no/where. Make it, or start where it is."),
    ("T306", RATE + "test_interval: 5", RATE + "test_interval: 5 test_iter: 2",
     "1:42: warning: test_interval is given, but no test_iter: nothing is tested. Give test_iter."),
]  # fmt: skip


def found(text: str, rule: str) -> list[str]:
    definition = upgrade(parse_text(DATA + text, file="n"))
    graph, built = diagnose(definition, State("test"))
    return list(map(str, lint_net(graph, built.shapes, choose_rules([rule]))))


def found_in_solver(text: str, rule: str) -> list[str]:
    definition = parse_text(text, "caffe.SolverParameter", "n")
    return list(map(str, lint_solver(definition, choose_rules([rule]))))


@pytest.mark.parametrize(("rule", "bad", "good", "message"), NETS, ids=[n[0] for n in NETS])
def test_a_trap_in_a_net_is_told_and_its_fix_is_left_alone(
    rule: str, bad: str, good: str, message: str
) -> None:
    name = lint_rules()[rule].name
    assert found(bad, rule) == [f"n:{message} [{rule} {name}]"]
    assert found(good, rule) == []


@pytest.mark.parametrize(("rule", "bad", "good", "message"), SOLVERS, ids=[n[0] for n in SOLVERS])
def test_a_trap_in_a_solver_is_told_and_its_fix_is_left_alone(
    rule: str, bad: str, good: str, message: str
) -> None:
    name = lint_rules()[rule].name
    assert found_in_solver(bad, rule) == [f"n:{message} [{rule} {name}]"]
    assert found_in_solver(good, rule) == []


def test_every_rule_has_a_case_here_and_a_page() -> None:
    assert sorted(lint_rules()) == sorted([n[0] for n in NETS] + [s[0] for s in SOLVERS])
    made = runpy.run_path(str(Path(__file__).parents[2] / "docs/make_lint.py"))
    assert (Path(__file__).parents[2] / "docs/lint.md").read_text() == made["page"]()


def test_rules_are_chosen_by_id_beginning_and_name() -> None:
    ids = [r.id for r in choose_rules(["T3"], ["no-rate"])]
    assert ids == ["T301", "T303", "T304", "T305", "T306"]
    assert "T115" not in [r.id for r in choose_rules()]
    with pytest.raises(TorrefyError) as error:
        choose_rules(["zero-weight"])
    assert str(error.value) == ('there is no lint rule "zero-weight". Did you mean "zero-weights"?')


@pytest.mark.parametrize(
    ("comment", "ignored"),
    [
        ("# torrefy: ignore=T106", True),
        ("# torrefy: ignore=T101, duplicate-name", True),
        ("# torrefy: ignore=T106 since Caffe's net has it", True),
        ("# torrefy: ignore=T101,T106 - as published, twice", True),
        ("# torrefy: ignore=T101 unlike T106", False),
        ("# torrefy: ignore=T101", False),
        ("# ignore=T106", False),
    ],
)
def test_a_comment_ignores_a_rule_on_its_line(comment: str, ignored: bool) -> None:
    first, second = (layer("a", "ReLU", "data", top).strip() for top in "xy")
    assert (not found(f"{first}\n{second} {comment}\n", "T106")) is ignored
    assert (not found(f"{first}\n{comment}\n{second}\n", "T106")) is ignored
    assert found(f"{first} {comment}\n{second}\n", "T106")


def test_a_comment_ignores_a_rule_in_the_whole_file() -> None:
    text = layer("a", "ReLU", "data", "x") + layer("a", "ReLU", "data", "y")
    assert not found(text + "# torrefy: ignore-file=T1\n", "T106")


def fixed(text: str) -> tuple[Definition, str, int]:
    definition = upgrade(parse_text(text, file="n"))
    graph, built = diagnose(definition, State("test"))
    return definition, *mended(definition, lint_net(graph, built.shapes))


def test_a_sure_fix_changes_its_value_alone() -> None:
    text = "# kept\n" + DATA + IMAGES % (TEST_MIRROR % "true", "")
    _, mended_text, count = fixed(text)
    assert count == 1
    assert mended_text == text.replace("mirror: true", "mirror: false")
    assert fixed(mended_text)[1:] == (mended_text, 0)


def test_a_layer_of_both_phases_is_not_mended() -> None:
    text = DATA + IMAGES % ("transform_param { mirror: true }", "")
    assert fixed(text)[1:] == (text, 0)
