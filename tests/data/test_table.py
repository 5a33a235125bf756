"""Tables of pictures: any number of named targets, numbers and arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import torrefy
from torrefy.data.open import open_loader
from torrefy.data.sources.table import read_table
from torrefy.errors import DataError, DefinitionError
from torrefy.schema import parse_text

NET = """layer { name: "d" type: "ImageData" top: "data" top: "age" top: "tags"
  image_data_param { source: "list.SUFFIX" root_folder: "FOLDER/" batch_size: 2 } }"""

TABLES = {
    "csv": 'image,tags,"age"\np 0.png,0 1,31.5\n"p 1.png",1 1,-2\n\np 2.png,0 0,1e3\n',
    "tsv": "age\ttags\tpath\n31.5\t0 1\tp 0.png\n-2\t1 1\tp 1.png\n1e3\t0 0\tp 2.png\n",
    "jsonl": '{"file": "p 0.png", "age": 31.5, "tags": [0, 1]}\n\n'
    '{"file": "p 1.png", "age": -2, "tags": [true, true], "more": null}\n'
    '{"file": "p 2.png", "age": 1e3, "tags": [0, 0]}\n',
}


@pytest.mark.parametrize("suffix", TABLES)
def test_each_top_is_the_column_of_its_name(photos: Path, suffix: str) -> None:
    (photos / f"list.{suffix}").write_text(TABLES[suffix])
    text = NET.replace("SUFFIX", suffix).replace("FOLDER", str(photos))
    loader = open_loader(parse_text(text).message.layer[0], "train", photos, workers=0)
    first, second = next(loader), next(loader)
    assert first["age"].tolist() == [31.5, -2]
    assert first["tags"].tolist() == [[0, 1], [1, 1]]
    assert second["age"].tolist() == [1000, 31.5]
    shapes = {name: tuple(tensor.shape) for name, tensor in first.items()}
    net = torrefy.load_net(parse_text(text), shapes=shapes)
    assert net(**first)["tags"].shape == (2, 2)


def test_a_list_has_no_columns() -> None:
    text = NET.replace("SUFFIX", "txt").replace("FOLDER", ".")
    with pytest.raises(DefinitionError) as error:
        torrefy.load_net(parse_text(text), shapes={"data": (2, 3, 4, 5)})
    assert str(error.value).endswith(
        'layer "d": 3 tops, but a list tells only labels. '
        "A table (.csv, .tsv, .jsonl) tells a column for each top."
    )


def refusal(path: Path, text: str, *names: str) -> str:
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_table(path, names)
    return str(error.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image,age\n", "t.csv: the table is empty"),
        ("", "t.csv: the table is empty"),
        ("image,years\na,1\n", 't.csv:2:1: there is no column "age". There are years.'),
        ("image,age,age\na,1,1\n", "t.csv: two columns have one name"),
        ("image,age\na,1\nb\n", "t.csv:3:1: 1 cells, but there are 2 columns"),
        ('image,age\n"a,1\n', "t.csv:2:1: this is no CSV: unexpected end of data"),
        (
            "image,age\na,old\nb,\nc,nan\n,1\n",
            't.csv:2:1: "age" is "old", expected numbers\n'
            't.csv:3:1: "age" is "", expected numbers\n'
            't.csv:4:1: "age" is "nan", expected numbers\n'
            't.csv:5:1: there is no picture in "image"',
        ),
        ("image,age\na,1 2\nb,1\n", 't.csv:3:1: "age" has 1 numbers, and 2 in the first row'),
    ],
)
def test_what_is_wrong_in_a_csv_is_told_by_line(tmp_path: Path, text: str, told: str) -> None:
    assert refusal(tmp_path / "t.csv", text, "age") == told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[1]", "t.jsonl:1:1: expected a JSON object"),
        ("{", "t.jsonl:1:1: expected a JSON object"),
        ("[" * 100000, "t.jsonl:1:1: expected a JSON object"),
        ('{"image": 3, "age": 1}', 't.jsonl:1:1: there is no picture in "image"'),
        ('{"image": "a", "age": {}}', 't.jsonl:1:1: "age" is {}, expected numbers'),
        ('{"image": "a", "age": [[1], [1, 2]]}', 't.jsonl:1:1: "age" is [[1], [1, 2]], expected n'),
        ('{"image": "a", "age": 1e999}', 't.jsonl:1:1: "age" is Infinity, expected numbers'),
        ('{"image": "a", "age": []}', 't.jsonl:1:1: "age" is [], expected numbers'),
    ],
)
def test_what_is_wrong_in_json_lines_is_told_by_line(tmp_path: Path, line: str, told: str) -> None:
    assert refusal(tmp_path / "t.jsonl", line, "age").startswith(told)


def test_many_wrong_rows_are_told_up_to_ten(tmp_path: Path) -> None:
    told: Any = refusal(tmp_path / "t.csv", "image,age\n" + "a,x\n" * 50, "age")
    assert len(told.splitlines()) == 10


def test_arrays_may_nest(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"image": "a", "box": [[1, 2], [3, 4]]}\n')
    _, found, _ = read_table(tmp_path / "t.jsonl", ["box"])
    np.testing.assert_array_equal(found["box"], np.float32([[[1, 2], [3, 4]]]), strict=True)
