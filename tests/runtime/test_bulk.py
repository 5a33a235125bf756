"""Any number of pictures into a table: what is written, gone on with, and refused."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import torrefy
from torrefy.cli import main
from torrefy.data.preprocess import Preprocessor
from torrefy.data.recipe import Recipe
from torrefy.export.onnx import export_onnx
from torrefy.runtime.bulk import classify_to
from torrefy.runtime.classifier import Batch

RECIPE = Recipe(
    name="lenet",
    preprocessor=Preprocessor.from_text("width: 28 height: 28 colour: GRAY mean: 128"),
    output="prob",
    labels=tuple(f"digit {i}" for i in range(10)),
)
NAMES = ("a.png", "b é.png", "deep/c.png", 'deep/d,"e.png', "z.png")


@pytest.fixture
def folder(lenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and pictures, one of which is broken, that is the current one."""
    export_onnx(torrefy.load_net(lenet, seed=0), tmp_path / "m.onnx", recipe=RECIPE)
    for i, name in enumerate(NAMES):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (30 + i, 40), i * 40).save(path)
    (tmp_path / "photos/z.png").write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, ["classify", "m.onnx", *words])
    assert done.exit_code == code, done.output
    return done.output


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_each_picture_has_its_row_in_every_format(folder: Path) -> None:
    from pyarrow import parquet

    classifier = torrefy.Classifier("m.onnx")
    files = sorted(Path("photos").rglob("*.png"))
    expected = {str(answer.path): answer for answer in classifier.answers(files, 2)}
    for name in ("t.csv", "t.jsonl", "t.parquet"):
        told = run("photos", "-o", name, "--top", "2", code=1)
        assert "photos/z.png: this is not a picture" in told
        assert "1 of 5 pictures could not be read" in told
        assert f"wrote {name}: 5 pictures in" in told
    with Path("t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in Path("t.jsonl").read_text("utf-8").splitlines()]
    cells = parquet.read_table("t.parquet").to_pylist()
    assert [row["file"] for row in rows] == [line["file"] for line in lines]
    assert [row["file"] for row in cells] == [row["file"] for row in rows] == list(expected)
    for row, line, cell in zip(rows, lines, cells, strict=True):
        answer = expected[row["file"]]
        if answer.error is not None:
            assert row["error"] == line["error"] == cell["error"] == "this is not a picture"
            assert row["label_1"] == ""
            assert cell["label_1"] is None
            continue
        for i, guess in enumerate(answer.guesses, 1):
            assert row[f"label_{i}"] == line["classes"][i - 1]["label"] == guess.label
            assert cell[f"label_{i}"] == guess.label
            score = np.float32(guess.score)
            for found in (row[f"score_{i}"], line["classes"][i - 1]["score"], cell[f"score_{i}"]):
                assert np.float32(found) == score
    assert not hidden(folder)


@pytest.mark.parametrize(
    ("name", "many"), [("t.csv", 256), ("t.jsonl", 256), ("t.parquet", 256), ("t.csv", 20)]
)
def test_a_run_that_was_killed_is_resumed_to_the_same_bytes(
    folder: Path, name: str, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torrefy.runtime.classifier.MANY", many)
    monkeypatch.setattr("torrefy.runtime.classifier.cores", lambda: 2)
    for i in range(40):
        Image.new("L", (30, 40), i * 6).save(folder / "photos" / f"m{i:02d}.png")
    words = ["photos", "--batch", "4", "-o"]
    run(*words, f"whole{Path(name).suffix}", code=1)
    whole = Path(f"whole{Path(name).suffix}").read_bytes()
    rows = folder / (f".{name}.rows" if name.endswith("parquet") else name)
    slow = (
        f"import sys, time, torrefy.runtime.classifier as c\nc.MANY = {many}\nc.cores = lambda: 2\n"
        "real = c.Classifier._computed\n"
        "def computed(self, pictures, engine=None):\n"
        "    time.sleep(0.1)\n"
        "    return real(self, pictures, engine)\n"
        "c.Classifier._computed = computed\n"
        "from torrefy.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    line = [sys.executable, "-c", slow, "classify", "m.onnx", *words, name]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (rows.exists() and rows.read_bytes().count(b"\n") > 9):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    torn = rows.read_bytes()
    rows.write_bytes(torn[:-7])  # as if the last row had come to the disk in part
    assert "a run to this file was broken off. --resume goes on with it" in run(
        *words, name, code=1
    )
    told = run(*words, name, "--resume", code=1)
    assert "pictures were done before" in told
    assert Path(name).read_bytes() == whole
    assert not hidden(folder)


@pytest.mark.parametrize("tta", [None, "flip"])
@pytest.mark.parametrize("batch", [1, 3, "auto"])
def test_processors_side_by_side_say_what_one_says(
    folder: Path, tta: str | None, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(Path("photos").rglob("*.png")) * 5
    usual, many = (torrefy.Classifier("m.onnx", tta=tta) for _ in range(2))
    expected = list(usual.answers(files, 10, batch=batch))
    monkeypatch.setattr("torrefy.runtime.classifier.MANY", 8)
    monkeypatch.setattr("torrefy.runtime.classifier.cores", lambda: 3)
    looked = many.looked_over(iter(files), batch, many=True)
    assert looked.workers == 3
    found = list(many.answers_of(looked, 10))
    assert len(found) == len(files)
    for one, other in zip(found, expected, strict=True):
        assert one.path == other.path
        assert str(one.error) == str(other.error)
        scores, wanted = ({g.index: g.score for g in a.guesses} for a in (one, other))
        assert scores == pytest.approx(wanted, abs=1e-6)
    assert sum(answer.error is not None for answer in found) == 5
    # A few more pictures of the same classifier; and one that fails does not hang the others.
    assert [a.path for a in many.answers(files[:3], batch=batch)] == files[:3]
    with pytest.raises(torrefy.errors.PictureError, match=r"z\.png: this is not a picture"):
        list(many.predict(files, batch=batch))


def test_a_run_is_resumed_only_as_it_was(folder: Path) -> None:
    classifier = torrefy.Classifier("m.onnx")

    def stopped(answer: object) -> None:
        raise KeyboardInterrupt

    files = sorted(Path("photos").rglob("*.png"))
    with pytest.raises(KeyboardInterrupt):
        classify_to("t.csv", classifier, files, batch=2, told=stopped)
    assert run("photos", "-o", "t.csv", "--resume", "--top", "3", code=1).splitlines()[-1] == (
        "t.csv: the run that was broken off had top 5, this one has top 3. Ask for what it "
        "was asked for, or give another name."
    )
    assert "had batch 2, this one has batch 3" in run(
        "photos", "-o", "t.csv", "--resume", "--batch", "3", code=1
    )
    assert "had no --tta, this one has --tta flip" in run(
        "photos", "-o", "t.csv", "--resume", "--tta", "flip", code=1
    )
    assert "t.csv: row 1 is of photos/a.png, where photos/b é.png is now" in run(
        "photos/b é.png", "photos/a.png", "-o", "t.csv", "--resume", code=1
    )
    assert "there are fewer pictures now: 1" in run(
        "photos/a.png", "-o", "t.csv", "--resume", code=1
    )
    run("photos", "-o", "t.csv", "--resume", code=1)
    assert len(Path("t.csv").read_text("utf-8").splitlines()) == 6
    assert "this is finished, or no run's: there is nothing to resume" in run(
        "photos", "-o", "t.csv", "--resume", code=1
    )


def test_what_is_there_stays(folder: Path) -> None:
    Path("mine.csv").write_text("my thesis")
    assert "mine.csv: this exists; it is not overwritten" in run("photos", "-o", "mine.csv", code=1)
    assert Path("mine.csv").read_text() == "my thesis"
    assert "a table's name ends in .csv, .jsonl, .parquet" in run("photos", "-o", "t.xls", code=1)
    assert "there is no folder no" in run("photos", "-o", "no/t.csv", code=1)
    assert "--resume goes on with a file: give -o too" in run("photos", "--resume", code=2)
    assert not hidden(folder)


def test_an_iterator_of_pictures_is_answered_one_by_one(folder: Path) -> None:
    classifier = torrefy.Classifier("m.onnx")
    file = Path("photos/a.png")
    pixels = np.asarray(Image.open(file))
    given = [file, str(file), file.read_bytes(), pixels, pixels[..., None], Image.open(file)]
    made = classifier.predict(iter(given), batch=4)
    assert isinstance(made, Iterator)
    expected = classifier.predict(classifier.preprocessor.read(file)[None])[0]
    for scores in made:
        assert np.allclose(scores, expected, atol=1e-6)
    (broken,) = classifier.answers([b"no picture"])
    assert str(broken.error) == "pictures[0]: this is not a picture"
    with pytest.raises(torrefy.errors.PictureError, match="this is not a picture"):
        list(classifier.predict([b"no picture"]))


def test_memory_does_not_grow_with_the_pictures(folder: Path) -> None:
    classifier = torrefy.Classifier("m.onnx")
    file = Path("photos/a.png")

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            classify_to(f"{count}.csv", classifier, (file for _ in range(count)), batch=16)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(299)
    # Either may by chance hold a batch more; 4000 pictures as the net sees them are 12 MB.
    assert peak(4000) < peak(300) + (1 << 20)
