"""Several named targets, float and multi-label ones, and weights: by whole trainings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import Run

from torrefy.net.stored import read_weights
from torrefy.schema.blobs import write_blob

SOLVER = """net: "net.prototxt" base_lr: 0.05 lr_policy: "fixed" momentum: 0.9 random_seed: 3
max_iter: 150 snapshot_prefix: "{prefix}" test_iter: 5 test_interval: 150
"""
DATA = """layer {{ name: "data" type: "ImageData" {tops} transform_param {{ scale: 0.0039215686 }}
  image_data_param {{ source: "{source}" batch_size: 8 shuffle: true }} }}
layer {{ name: "flat" type: "InnerProduct" bottom: "data" top: "flat"
  inner_product_param {{ num_output: 8 weight_filler {{ type: "xavier" }} }} }}
"""


def head(name: str, outputs: int, loss: str, more: str = "", bottoms: str = "") -> str:
    return f"""layer {{ name: "{name}_out" type: "InnerProduct" bottom: "flat" top: "{name}_out"
  inner_product_param {{ num_output: {outputs} weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "{name}_loss" type: "{loss}" bottom: "{name}_out" bottom: "{name}" {bottoms}
  top: "{name}_loss" {more} }}
"""


@pytest.fixture
def pictures(tmp_path: Path) -> list[dict[str, Any]]:
    """Pictures of three grey fields, which tell all targets: rows of a table."""
    random = np.random.default_rng(0)
    rows = []
    for i in range(40):
        fields = random.integers(0, 256, 3)
        pixels = np.repeat(fields.astype(np.uint8)[None, :, None], 3, axis=2)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        rows.append(
            {
                "image": f"{i}.png",
                "label": int(fields.argmax()),
                "age": round(float(fields[0] / 255 - fields[2] / 510), 4),
                "tags": [int(field > 127) for field in fields],
            }
        )
    return rows


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    def cell(value: Any) -> str:
        return " ".join(map(str, value)) if isinstance(value, list) else str(value)

    lines = [",".join(rows[0]), *(",".join(map(cell, row.values())) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def trained(
    run: Run, folder: Path, source: str, tops: list[str], layers: str, prefix: str = "snap"
) -> dict[str, Any]:
    """Train, and give the scores of the last test."""
    named = " ".join(f'top: "{top}"' for top in ["data", *tops])
    (folder / "net.prototxt").write_text(DATA.format(tops=named, source=source) + layers)
    (folder / "solver.prototxt").write_text(SOLVER.format(prefix=prefix))
    result = run("train", "solver.prototxt", "--workers", "0", "--no-run", "--json")
    assert result.exit_code == 0, result.output
    (scores,) = json.loads(result.stdout)["scores"]
    found: dict[str, Any] = scores
    return found


def weights(folder: Path, prefix: str = "snap") -> list[bytes]:
    stored = read_weights(folder / f"{prefix}_iter_150.caffemodel")
    return [np.asarray(blob).tobytes() for layer in stored.layers for blob in layer.blobs]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_class_a_float_and_several_tags_are_learned_from_one_table(
    run: Run, tmp_path: Path, pictures: list[dict[str, Any]], ending: str
) -> None:
    {"csv": write_csv, "jsonl": write_jsonl}[ending](tmp_path / f"people.{ending}", pictures)
    layers = head("label", 3, "SoftmaxWithLoss")
    layers += head("age", 1, "EuclideanLoss", "loss_weight: 2")
    layers += head("tags", 3, "SigmoidCrossEntropyLoss")
    layers += """layer { name: "right" type: "Accuracy" bottom: "label_out" bottom: "label"
      top: "right" include { phase: TEST } }"""
    scores = trained(run, tmp_path, f"people.{ending}", ["tags", "label", "age"], layers)
    assert scores["right"][0] > 0.85
    assert scores["age_loss"][0] < 0.005  # guessing the mean gives 0.05
    assert scores["tags_loss"][0] < 0.9  # guessing gives 3 log 2 = 2.08


def test_what_has_weight_0_teaches_nothing(
    run: Run, tmp_path: Path, pictures: list[dict[str, Any]]
) -> None:
    layers = head("label", 3, "SoftmaxWithLoss", bottoms='bottom: "weight"')
    layers += head("age", 1, "EuclideanLoss", bottoms='bottom: "weight"')
    layers += head("tags", 3, "SigmoidCrossEntropyLoss", bottoms='bottom: "weight"')
    kept = []
    for wrong in (0, 1):
        rows = [
            {
                **row,
                "label": (row["label"] + wrong * (i % 2)) % 3,
                "age": row["age"] + 100 * wrong * (i % 2),
                "tags": [1, 1, 1] if wrong and i % 2 else row["tags"],
                "weight": 1 - i % 2,
            }
            for i, row in enumerate(pictures)
        ]
        write_csv(tmp_path / "rows.csv", rows)
        trained(run, tmp_path, "rows.csv", ["label", "age", "tags", "weight"], layers)
        kept.append(weights(tmp_path))
    assert kept[0] == kept[1]


def test_a_class_of_weight_0_is_never_said(
    run: Run, tmp_path: Path, pictures: list[dict[str, Any]]
) -> None:
    write_csv(tmp_path / "rows.csv", pictures)
    weighed = "loss_param { class_weight: 0 class_weight: 1 class_weight: 2 }"
    layers = head("label", 3, "SoftmaxWithLoss", weighed)
    layers += """layer { name: "right" type: "Accuracy" bottom: "label_out" bottom: "label"
      top: "right" top: "of_class" include { phase: TEST } }"""
    scores = trained(run, tmp_path, "rows.csv", ["label"], layers)
    assert scores["of_class"][0] == 0.0
    assert min(scores["of_class"][1:]) > 0.7


def test_class_weights_train_as_an_infogain_loss_with_them_on_the_diagonal(
    run: Run, tmp_path: Path, pictures: list[dict[str, Any]]
) -> None:
    write_csv(tmp_path / "rows.csv", pictures)
    (tmp_path / "h.binaryproto").write_bytes(write_blob(np.diag([1.0, 4.0, 0.5])))
    weighed = "loss_param { class_weight: 1 class_weight: 4 class_weight: 0.5 }"
    layers = head("label", 3, "SoftmaxWithLoss", weighed)
    one = trained(run, tmp_path, "rows.csv", ["label"], layers, "one")
    matrix = 'infogain_loss_param { source: "h.binaryproto" }'
    layers = head("label", 3, "InfogainLoss", matrix)
    other = trained(run, tmp_path, "rows.csv", ["label"], layers, "other")
    assert one["label_loss"] == pytest.approx(other["label_loss"], rel=1e-3)
    for mine, theirs in zip(weights(tmp_path, "one"), weights(tmp_path, "other"), strict=True):
        np.testing.assert_allclose(
            np.frombuffer(mine, "f4"), np.frombuffer(theirs, "f4"), rtol=1e-3, atol=1e-4
        )
