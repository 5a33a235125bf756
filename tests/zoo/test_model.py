"""A model by what a user calls it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from torrefy.errors import TorrefyError
from torrefy.net.backbone import default_blob
from torrefy.schema import parse_text
from torrefy.weights.load import load_net
from torrefy.zoo.model import find_model

NET = """layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
  inner_product_param { num_output: 2 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
CARD = """name: "pets" input {{ width: 4 height: 4 }} classes: 2 label: "cat" label: "dog"
weights {{ url: "file:net.caffemodel" sha256: "{sha}" }}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my run"
    folder.mkdir()
    (folder / "net.prototxt").write_text(NET)
    load_net(folder / "net.prototxt").save(folder / "net.caffemodel")
    sha = hashlib.sha256((folder / "net.caffemodel").read_bytes()).hexdigest()
    (folder / "card.prototxt").write_text(CARD.format(sha=sha))
    return folder


def refusal(*arguments: object) -> str:
    with pytest.raises(TorrefyError) as caught:
        find_model(*arguments)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_folder_with_a_card_is_a_model(folder: Path) -> None:
    model = find_model(folder)
    assert (model.name, model.recipe.labels) == ("pets", ("cat", "dog"))
    assert model.weights == folder / "net.caffemodel"
    assert model.preprocessor.shape == (3, 4, 4)


def test_two_files_are_a_model_that_needs_to_be_told_what_it_sees(folder: Path) -> None:
    given = folder / "net.prototxt", folder / "net.caffemodel"
    with pytest.raises(TorrefyError, match="nothing says what is done to a picture before net"):
        _ = find_model(*given).preprocessor
    (folder / "input.prototxt").write_text("width: 4 height: 4 colour: RGB")
    assert find_model(*given, folder / "input.prototxt").preprocessor.colour == "RGB"


def test_what_is_no_model_is_told(folder: Path, tmp_path: Path) -> None:
    net = folder / "net.prototxt"
    assert (
        refusal(net)
        == f"{net}: a definition alone knows nothing. Give its weights: --weights, or weights=…"
    )
    assert refusal(net, "gone.caffemodel") == "gone.caffemodel: no such file"
    assert refusal("squeezenet_v1", None).startswith(
        'there is no zoo model "squeezenet_v1". Did you mean "squeezenet_v1.1"?'
    )
    assert refusal(tmp_path) == (
        f"{tmp_path}: there is no card.prototxt in this folder. "
        "A run folder of `torrefy finetune` has one."
    )
    assert refusal(folder, net) == f"{folder} has weights of its own. Leave out the others."


def test_a_zoo_models_name_is_that_whatever_folder_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lenet").mkdir()  # as `torrefy zoo copy` makes it
    monkeypatch.chdir(tmp_path)
    assert find_model("lenet").preprocessor.colour == "GRAY"


def test_a_damaged_file_of_weights_is_refused(folder: Path) -> None:
    (folder / "net.caffemodel").write_bytes(b"changed")
    assert "sha256" in refusal(folder)


def test_features_are_what_the_last_learned_layer_reads() -> None:
    net = load_net(parse_text(NET))
    assert default_blob(net) == "conv"
    with pytest.raises(TorrefyError, match=r'layer, "conv", reads the net\'s input'):
        default_blob(net, "conv")
