"""Label files: ImageNet's own, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from torrefy.errors import ZooError
from torrefy.zoo import find_card, labels, read_labels


def test_imagenets_classes_are_those_of_ilsvrc_2012_in_caffes_order(shared: Path) -> None:
    facts = (shared / "data/ilsvrc12_synset_words.txt").read_text().splitlines()
    card = find_card("squeezenet_v1.1")
    text = card.beside(card.message.labels_file).read_text()
    ours = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    assert [f"{wordnet} {names}" for _, wordnet, names in ours] == facts
    assert [int(index) for index, _, _ in ours] == list(range(1000))
    assert labels(card) == [fact[10:] for fact in facts]


def test_a_file_may_hold_the_names_alone(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("# two\ncat, tabby\n\ndog\n", encoding="utf-8")
    assert read_labels(path) == ["cat, tabby", "dog"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0\tn1\tcat\n2\tn2\tdog\n", "labels.txt:2:1: expected the index 1, found 2"),
        ("0\tcat\n", "labels.txt:1:1: expected a name, or index, id and name; found 2 parts"),
    ],
)
def test_a_line_out_of_order_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(text)
    with pytest.raises(ZooError) as error:
        read_labels(path)
    assert str(error.value) == f"{tmp_path}/{told}"


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ZooError, match="the labels can't be read: 'utf-8' codec"):
        read_labels(path)
