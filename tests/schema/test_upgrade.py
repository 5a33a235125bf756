"""Upgrading definitions: what moves where, what is noted, what is refused, and in which words."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from torrefy.errors import DefinitionError
from torrefy.schema import Definition, parse_text, read_text, upgrade
from torrefy.schema.solver import SOLVER_TYPES, snapshot_prefix, upgrade_solver
from torrefy.schema.v0 import V0_TYPES
from torrefy.schema.v1 import V1_TYPES, v1_type

SOLVER = "caffe.SolverParameter"
V0 = 'layers { layer { name: "%s" type: "%s" %s } bottom: "%s" top: "%s" }\n'
PADDED = V0 % ("p", "padding", "pad: 2", "x", "padded")
V1 = 'layers { name: "c" type: CONVOLUTION bottom: "x" top: "c" }\n'


def upgraded(text: str, message: str = "caffe.NetParameter") -> Definition:
    return upgrade(parse_text(text, message, "old.prototxt"))


def problems(text: str, message: str = "caffe.NetParameter") -> list[str]:
    with pytest.raises(DefinitionError) as error:
        upgraded(text, message)
    return [str(problem) for problem in error.value.problems]


# --- V0 ---


@pytest.mark.parametrize("old", V0_TYPES)
def test_each_type_of_the_first_days_has_its_name_of_today(old: str) -> None:
    (layer,) = upgraded(V0 % ("a", old, "", "x", "y")).message.layer
    assert (layer.name, layer.type) == ("a", V0_TYPES[old])
    assert len(V0_TYPES) == 24


@pytest.mark.parametrize(("kind", "field"), [("conv", "convolution"), ("pool", "pooling")])
def test_padding_moves_into_every_layer_that_reads_it(kind: str, field: str) -> None:
    text = PADDED + V0 % ("a", kind, "", "padded", "y") + V0 % ("b", kind, "", "padded", "z")
    layers = upgraded(text).message.layer
    assert [list(layer.bottom) for layer in layers] == [["x"], ["x"]]
    for layer in layers:
        pad = getattr(layer, f"{field}_param").pad
        assert (pad if kind == "pool" else list(pad)) == (2 if kind == "pool" else [2])


def test_a_blob_that_is_written_again_is_padded_no_more() -> None:
    text = (
        PADDED + V0 % ("c", "conv", "", "padded", "padded") + V0 % ("r", "relu", "", "padded", "y")
    )
    layers = upgraded(text).message.layer
    assert [list(layer.bottom) for layer in layers] == [["x"], ["padded"]]


def test_fields_of_other_types_are_left_out_and_noted() -> None:
    text = V0 % ("r", "relu", "num_output: 3 new_num: 1", "x", "y")
    definition = upgraded(text)
    assert definition.message.layer[0] == parse_text(
        'layer { name: "r" type: "ReLU" bottom: "x" top: "y" }'
    ).message.layer[0]  # fmt: skip
    assert definition.notes == (
        "upgraded from V0 layers",
        'old.prototxt:1:1: layer "r": num_output is not for a layer of type "relu"; it is left '
        "out, as in Caffe",
        'old.prototxt:1:1: layer "r": new_num is not for a layer of type "relu"; it is left out, '
        "as in Caffe",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (V0 % ("c", "cnv", "", "x", "y"),
         'old.prototxt:1:34: layer "c": there is no V0 layer type "cnv". Did you mean "conv"?'),
        (PADDED + V0 % ("r", "relu", "", "padded", "y"),
         'old.prototxt:2:1: layer "r": a padding layer in front of a relu layer; only conv and '
         "pool can pad"),
        (PADDED + V1,
         'old.prototxt:2:1: layer "c": a V1 layer among V0 layers; a net is of one age'),
    ],
)  # fmt: skip
def test_what_is_no_net_of_the_first_days_is_refused(text: str, message: str) -> None:
    assert problems(text) == [message]


# --- V1 ---


def test_every_type_of_2014_has_its_name_of_today() -> None:
    values = parse_text(V1).message.layers[0].DESCRIPTOR.enum_types_by_name["LayerType"].values
    assert {value.name for value in values} == V1_TYPES.keys()
    assert [v1_type(number) for number in (0, 4, 39, 99)] == [
        "", "Convolution", "Deconvolution", "",
    ]  # fmt: skip


def test_a_text_that_mixes_layer_and_layers_keeps_layers_with_a_note() -> None:
    definition = upgraded('layer { name: "new" type: "ReLU" bottom: "x" top: "y" }\n' + V1)
    assert [layer.name for layer in definition.message.layer] == ["c"]
    assert definition.notes == (
        "the file mixes `layer` and `layers`: as in Caffe the 1 `layer` entries are dropped",
        "upgraded from V1 layers",
    )


# --- Places ---

OLD_PLACES = {
    "v0": """layers {
  layer {
    name: "c" type: "conv"
    kernelsize: 3
    blobs_lr: 1
    blobs_lr: 2
    cropsize: 4
  }
  bottom: "x"
  top: "c"
}""",
    "v1": """layers {
  name: "c" type: DATA
  param: "w"
  blobs_lr: 1
  blobs_lr: 2
  data_param {
    crop_size: 4
  }
  bottom: "x"
  top: "c"
}""",
}


@pytest.mark.parametrize(
    ("age", "path", "place"),
    [
        ("v0", ("name",), "3:11"),
        ("v0", ("convolution_param.kernel_size",), "4:17"),
        ("v0", ("param", 1, "lr_mult"), "6:15"),
        ("v0", ("transform_param.crop_size",), "7:15"),
        ("v0", ("bottom", 0), "9:11"),
        ("v0", ("relu_param",), "1:1"),
        ("v1", ("name",), "2:9"),
        ("v1", ("param", 0, "name"), "3:10"),
        ("v1", ("param", 1, "lr_mult"), "5:13"),
        ("v1", ("transform_param.crop_size",), "7:16"),
        ("v1", ("top", 0), "10:8"),
    ],
)
def test_places_lead_to_the_text_as_it_was_written(
    age: str, path: tuple[str | int, ...], place: str
) -> None:
    definition = parse_text(OLD_PLACES[age], file="n")
    assert str(upgrade(definition).place("layer", 0, *path)) == f"n:{place}"
    assert str(definition.place("layers", 0)) == "n:1:1"
    assert str(upgrade(definition).place("layer", 0, *path)) == f"n:{place}"


def test_a_definition_of_today_is_returned_as_it_is() -> None:
    definition = parse_text('layer { name: "r" type: "ReLU" bottom: "x" top: "y" }')
    assert upgrade(definition) is definition
    solver = parse_text('type: "Adam"', SOLVER)
    assert upgrade(solver) is solver


# --- Solvers ---


@pytest.mark.parametrize("number", range(6))
def test_the_enum_of_a_solver_becomes_its_type(number: int) -> None:
    definition = upgraded(f"solver_type: {number}", SOLVER)
    assert definition.message == parse_text(f'type: "{SOLVER_TYPES[number]}"', SOLVER).message
    assert definition.notes == ("upgraded from solver_type",)


def test_a_solver_of_two_types_is_refused() -> None:
    assert problems('type: "SGD"\nsolver_type: SGD', SOLVER) == [
        "old.prototxt:2:14: both type and its older form solver_type are given; give type alone"
    ]


def test_the_prefix_of_snapshots_is_filled_in_as_caffe_does(tmp_path: Path) -> None:
    def prefix(text: str, file: str = "lenet/solver.prototxt") -> str:
        return snapshot_prefix(upgrade_solver(parse_text(text, SOLVER, file)))

    assert prefix("max_iter: 1") == "lenet/solver"
    assert prefix("max_iter: 1", "solver.v2.prototxt") == "solver.v2"
    assert prefix('snapshot_prefix: "out/lenet"') == "out/lenet"
    assert prefix(f'snapshot_prefix: "{tmp_path}"') == f"{tmp_path}/solver"


# --- Other people's ---


def test_public_nets_of_the_first_days_are_upgraded_or_say_why_not(shared: Path) -> None:
    corpus = shared / "corpus"
    read, refused = 0, []
    with (corpus / "index.tsv").open(newline="") as table:
        for row in csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE):
            if row["syntax"] != "V0" or row["parse_bvlc"] != "ok":
                continue
            read += 1
            try:
                message = upgrade(read_text(corpus / row["file"])).message
                assert message.layer and not message.layers
                assert not any(layer.type == "padding" for layer in message.layer)
            except DefinitionError as error:
                refused += [problem.message for problem in error.problems]
    assert read == 17
    assert refused == ['there is no V0 layer type "locally_connected"'] * 3  # one net's
