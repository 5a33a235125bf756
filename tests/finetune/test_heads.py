"""The heads that are shipped: each is sound, and writes what its paper says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.finetune.conftest import make_pictures

from torrefy.errors import TorrefyError
from torrefy.finetune.finetune import fine_tune
from torrefy.finetune.options import Options
from torrefy.net.stored import read_weights
from torrefy.schema import parse_text, upgrade
from torrefy.schema.head import Head, head, head_types, parse_head
from torrefy.testing import check_head

PARAMS = {
    "MLP": "mlp_param { hidden: [8, 6] dropout: 0.1 }",
    "Hinge": "hinge_param { norm: L1 }",
    "Margin": "margin_param { kind: ARC margin: 0.2 scale: 8 embedding: 5 }",
    "SpatialPyramid": "spatial_pyramid_param { levels: 2 }",
    "Regression": "regression_param { hidden: 8 }",
    "Specialists": 'specialists_param { hidden: 6 group { name: "a" num_output: 3 }'
    ' group { name: "b" num_output: 1 } }',
    "FCN": 'fcn_param { stride: 4 skip { blob: "fine" stride: 2 } }',
}


@pytest.mark.parametrize("name", list(head_types()))
def test_a_head_is_sound(name: str) -> None:
    check_head(head_types()[name], PARAMS.get(name, ""))


@pytest.mark.parametrize("params", ["", "margin_param { scale: 8 }"])
def test_defaults_are_sound(params: str) -> None:
    check_head(head_types()["Margin" if params else "MLP"], params)


def test_the_kit_tells_what_is_wrong() -> None:
    @head("Silent")
    class Silent(Head):
        """Writes a score and no loss."""

        def write(self, site):  # type: ignore[no-untyped-def]
            param = {"num_output": site.num_output}
            site.answer(site.add_learned("InnerProduct", site.bottom, name="score",
                                         inner_product_param=param))  # fmt: skip

    with pytest.raises(AssertionError, match=r"^Silent: with a label there is no loss$"):
        check_head(Silent)

    @head("Mute")
    class Mute(Head):
        """Writes nothing."""

        def write(self, site):  # type: ignore[no-untyped-def]
            del site

    with pytest.raises(AssertionError, match=r"^Mute: it is refused"):
        check_head(Mute)


def test_specialists_must_have_all_targets() -> None:
    text = """layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 4 } } }
head { type: "Specialists" bottom: "d" num_output: 3 specialists_param {
  group { name: "a" num_output: 1 } group { name: "b" num_output: 1 } } }"""
    with pytest.raises(TorrefyError) as caught:
        upgrade(parse_text(text, file="net"))
    assert str(caught.value) == (
        "net:2:1: Specialists: the groups have 2 targets together, but num_output is 3"
    )


def test_the_strides_of_an_fcn_are_parts_of_one_another() -> None:
    with pytest.raises(TorrefyError) as caught:
        parse_head('FCN stride: 32 skip { blob: "pool4" stride: 12 }')
    assert 'the stride of "pool4" is 12, expected a part of 32' in str(caught.value)


def test_an_fcn_enlarges_to_the_pictures_size() -> None:
    from torrefy.weights.load import load_net

    text = """layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 13 dim: 19 } } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2 } }
head { type: "FCN" bottom: "c" num_output: 5 fcn_param { stride: 2 } }"""
    assert load_net(parse_text(text)).outputs == {"head/prob": (1, 5, 13, 19)}


def table(folder: Path, header: str, row: str) -> Path:
    photos = make_pictures(folder / "photos", each=6)
    lines = [header]
    for file in sorted(photos.glob("*/*.png")):
        red = int(file.parent.name == "rot")
        lines.append(f"{file.relative_to(folder)}," + row.format(red=red, size=100 + 50 * red))
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    return folder / "t.csv"


def test_numbers_are_learned_in_their_own_units(model: Path, tmp_path: Path) -> None:
    data = table(tmp_path, "image,size", "{size}")
    done = fine_tune(model, data, tmp_path / "run", Options(head_epochs=60, unfreeze="none"))
    answers = done.answers[0]
    assert np.abs(answers.scores - answers.examples.targets).mean() < 10
    layers = {one.name: one.blobs for one in read_weights(done.folder / "net.caffemodel").layers}
    targets = done.parts.learned.targets
    assert layers["head/units"][0] == pytest.approx(targets.std(0), rel=1e-5)
    assert layers["head/units"][1] == pytest.approx(targets.mean(0), rel=1e-5)


def test_tags_are_learned(model: Path, tmp_path: Path) -> None:
    data = table(tmp_path, "image,red,other", "{red},1")
    options = Options(head_epochs=30, epochs=1, workers=0)
    done = fine_tune(model, data, tmp_path / "run", options)
    assert done.graft.head.type_name == "MultiLabel"
    guessed = done.answers[0].scores > 0.5
    assert (guessed == done.answers[0].examples.targets).mean() > 0.9


def test_points_are_learned_and_lie_in_the_picture(model: Path, tmp_path: Path) -> None:
    data = table(tmp_path, "image,eye_x,eye_y", "0.{red}5,0.5")
    done = fine_tune(model, data, tmp_path / "run", Options(head_epochs=20, unfreeze="none"))
    scores = done.answers[0].scores
    assert scores.min() >= 0
    assert scores.max() <= 1
    with pytest.raises(TorrefyError, match="points don't move with pictures that are augmented"):
        fine_tune(model, data, tmp_path / "two", Options(augment="flip"))


def test_a_head_of_other_targets_is_refused(model: Path, tmp_path: Path) -> None:
    data = table(tmp_path, "image,size", "{size}")
    with pytest.raises(TorrefyError) as caught:
        fine_tune(model, data, tmp_path / "run", Options(head="linear"))
    assert str(caught.value) == (
        f"{data}: the head Linear learns classes, the data have numbers. Take Regression, "
        "Specialists; or say --kind, if the data mean another."
    )


@pytest.mark.parametrize("name", ["MLP hidden: 16", "Hinge", "Margin scale: 10", "SpatialPyramid"])
def test_heads_of_classes_tell_them_apart(
    model: Path, photos: Path, tmp_path: Path, name: str
) -> None:
    options = Options(head=name, head_epochs=30, unfreeze="none")
    assert fine_tune(model, photos, tmp_path / "run", options).answers[0].value == 1.0


def test_a_margin_makes_the_labels_cosine_smaller() -> None:
    from torrefy.weights.load import load_net

    text = """layer {{ name: "x" type: "Input" top: "x"
  input_param {{ shape {{ dim: 2 dim: 3 }} }} }}
layer {{ name: "y" type: "Input" top: "y" input_param {{ shape {{ dim: 2 }} }} }}
layer {{ name: "m" type: "AngularMargin" bottom: "x" bottom: "y" top: "m"
  angular_margin_param {{ kind: {kind} margin: 0.5 scale: 10 }} }}"""
    x, y = torch.tensor([[0.3, -0.2, 0.9], [0.1, -0.99, 0.0]]), torch.tensor([2.0, 1.0])
    made = {}
    for kind in ("COSINE", "ARC"):
        net = load_net(parse_text(text.format(kind=kind)), phase="train")
        made[kind] = net(x=x, y=y)["m"]
        tested = load_net(parse_text(text.format(kind=kind)))
        assert torch.allclose(tested(x=x, y=y)["m"], 10 * x)
    assert torch.allclose(made["COSINE"], 10 * torch.tensor([[0.3, -0.2, 0.4], [0.1, -1.49, 0]]))
    expected = np.cos(np.arccos(0.9) + 0.5), -0.99 - 0.5 * np.sin(0.5)
    found = made["ARC"][0, 2].item() / 10, made["ARC"][1, 1].item() / 10
    assert found == pytest.approx(expected, abs=1e-5)
