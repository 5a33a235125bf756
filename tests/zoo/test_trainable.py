"""The zoo's nets that are trained here: their texts, two steps of each, and LeNet's weights."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image, ImageDraw, ImageFont

import torrefy
from torrefy.cli import main
from torrefy.data.create import write_lmdb
from torrefy.data.sources.datum import write_datum
from torrefy.errors import ZooError
from torrefy.schema import read_text
from torrefy.zoo import cards, copy_model, find_card, find_dataset, pull
from torrefy.zoo.fetch import fetch_dataset

TRAINED = [card for card in cards() if (card.folder / "solver.prototxt").is_file()]
SOLVERS = [
    (card.name, path.name) for card in TRAINED for path in sorted(card.folder.glob("*solver*"))
]
LENET = find_card("lenet").folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def data_layers(definition: Path) -> list[Any]:
    return [layer for layer in read_text(definition).message.layer if layer.type == "Data"]


def test_these_models_are_trained_here() -> None:
    assert SOLVERS == [
        ("autoencoder", "solver.prototxt"),
        ("fashion_quick", "solver.prototxt"),
        ("lenet", "fashion_solver.prototxt"),
        ("lenet", "solver.prototxt"),
        ("siamese", "solver.prototxt"),
    ]


def test_all_texts_are_formatted() -> None:
    folder = LENET.parent
    result = run("fmt", "--check", *map(str, sorted(folder.glob("*/*.prototxt"))))
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize("card", TRAINED, ids=lambda card: str(card.name))
def test_texts_have_no_problem_and_no_trap_in_either_phase(
    card: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(card.folder)
    files = [path.name for path in card.folder.glob("*.prototxt") if path.name != "card.prototxt"]
    for phase in ("train", "test"):
        result = run("check", "--strict", "--phase", phase, *files)
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("card", TRAINED, ids=lambda card: str(card.name))
def test_what_is_trained_is_what_is_deployed(card: Any) -> None:
    net = torrefy.load_net(card.folder / "net.prototxt", seed=1)
    for path in card.folder.glob("*train_val.prototxt"):
        (data, *_) = data_layers(path)
        channels = 2 if data.top[0] == "pair_data" else 1
        shapes = {str(data.top[0]): (data.data_param.batch_size, channels, 28, 28)}
        trained = torrefy.load_net(path, phase="train", shapes=shapes, seed=1)
        for name, params in net.params.items():
            assert [p.shape for p in trained.params[name]] == [p.shape for p in params]


@pytest.mark.parametrize(("name", "solver"), SOLVERS, ids=map("/".join, SOLVERS))
def test_two_steps_and_a_test_of_each_solver_in_a_copy(
    name: str, solver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copy_model(find_card(name), tmp_path)
    text = (tmp_path / solver).read_text()
    definition = re.search(r'^net: "(.*)"', text, re.M)[1]
    random = np.random.default_rng(0)
    for layer in data_layers(tmp_path / definition):
        source = Path(layer.data_param.source)
        if source.exists():
            continue
        # The folders are those that `torrefy data fetch` makes.
        root, dataset, database = source.parts
        assert root == "data"
        (split,) = (s for s in find_dataset(dataset).message.split if f"{s.name}_lmdb" == database)
        assert split.items % 100 == 0
        channels = 2 if find_dataset(dataset).message.pairs_of else 1
        pictures = random.integers(0, 256, (8, channels, 28, 28), np.uint8)
        source.parent.mkdir(parents=True, exist_ok=True)
        write_lmdb(source, ((b"%08d" % i, write_datum(p, i % 2)) for i, p in enumerate(pictures)))
    layers = (tmp_path / definition).read_text()
    (tmp_path / definition).write_text(re.sub(r"batch_size: \d+", "batch_size: 4", layers))
    text = re.sub(r"^test_iter: .*", "test_iter: 1", text, flags=re.M)
    text = re.sub(r"^max_iter: .*", "max_iter: 2", text, flags=re.M)
    text = re.sub(r"^test_interval: .*", "test_interval: 2", text, flags=re.M)
    (tmp_path / solver).write_text(text)
    result = run("train", solver, "--workers", "0", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["iteration"] == 2


def digit(text: str, size: int = 26) -> Image.Image:
    """A digit as the net wants it: white on black, 28 pixels a side, in the middle."""
    picture = Image.new("L", (28, 28))
    font = ImageFont.load_default(size)
    ImageDraw.Draw(picture).text((14, 14), text, 255, font, anchor="mm", stroke_width=1)
    return picture


def test_lenet_needs_no_network_and_knows_the_seven_beside_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORREFY_CACHE", str(tmp_path / "cache"))
    assert pull("lenet").weights == LENET / "lenet.caffemodel"
    told = json.loads(run("classify", "lenet", str(LENET / "seven.png"), "--json").stdout)
    first = told["pictures"][0]["classes"][0]
    assert first["label"] == "7"
    assert first["score"] > 0.9
    assert [part.name for part in (tmp_path / "cache").iterdir()] == ["exported"]  # none fetched
    assert not list(LENET.glob(".*"))


def test_lenet_knows_printed_digits(tmp_path: Path) -> None:
    for i in range(10):
        digit(str(i)).save(tmp_path / f"{i}.png")
    told = json.loads(run("classify", "lenet", str(tmp_path), "--json", "--top", "10").stdout)
    right = 0
    for picture in told["pictures"]:
        assert sum(guess["score"] for guess in picture["classes"]) == pytest.approx(1, abs=1e-5)
        right += picture["classes"][0]["label"] == Path(picture["file"]).stem
    assert right >= 8  # it has never seen printed ones


def test_weights_that_were_changed_are_refused(tmp_path: Path) -> None:
    from torrefy.zoo.sources import Sources

    card = find_card("lenet")
    (tmp_path / "lenet.caffemodel").write_bytes(b"other")
    with Sources("lenet", tmp_path) as sources, pytest.raises(ZooError) as error:
        sources.get(card.message.weights, "weights")
    first, second, third = map(str, error.value.problems)
    assert first.startswith("the weights of lenet can't be had. Without a network, put the file")
    assert second.startswith(f"{tmp_path / 'lenet.caffemodel'}: wrong sha256: expected ")
    assert third == (
        "file:lenet.caffemodel: it is not fetched: lenet.caffemodel belongs beside the card"
    )
    assert (tmp_path / "lenet.caffemodel").read_bytes() == b"other"


@pytest.mark.network
def test_lenet_is_right_about_99_of_100_of_mnists_test_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.zoo.test_models import or_skip

    monkeypatch.chdir(tmp_path)
    copy_model(find_card("lenet"), tmp_path)
    try:
        fetch_dataset("mnist")
    except ZooError as error:
        or_skip(error)
    arguments = ("train_val.prototxt", "lenet.caffemodel", "--iterations", "100")
    told = json.loads(run("test", *arguments, "--workers", "0", "--json").stdout)
    assert told["blobs"]["accuracy"][0] >= 0.99
