"""A finetuning's report: its files, its page, and what names from anywhere do to both."""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from torrefy.errors import PictureError, TorrefyError
from torrefy.finetune.facts import Facts, PhaseFacts
from torrefy.finetune.metrics import Judged, measure
from torrefy.finetune.mistakes import worst_of
from torrefy.finetune.plots import joined, labelled
from torrefy.finetune.report import write_report
from torrefy.train.curves import TEST, draw_curves
from torrefy.train.history import History, Row

EMPTY = {"meta", "img", "br", "link", "input", "hr"}


@pytest.fixture(autouse=True)
def _quiet(capfd: pytest.CaptureFixture[str]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    assert capfd.readouterr().err == ""


class Page(HTMLParser):
    """A page's elements, of which each must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.text).split())


def picture(index: int) -> NDArray[np.uint8]:
    if index % 5 == 4:
        raise PictureError("broken")
    draws = np.random.default_rng(index)
    return draws.integers(0, 256, (60 + 10 * (index % 7), 90, 3)).astype(np.uint8)


def of_classes(names: tuple[str, ...], count: int, part: str = "val", skill: float = 3) -> Judged:
    draws = np.random.default_rng(0)
    truth = draws.integers(0, len(names), count)
    scores = draws.normal(size=(count, len(names)))
    scores[np.arange(count), truth] += skill
    scores = np.exp(scores)
    scores /= scores.sum(1, keepdims=True)
    files = tuple(f"{names[t]}/{i}.jpg" for i, t in enumerate(truth))
    return Judged(part, "classes", files, names, truth, scores.astype(np.float32), picture)


def facts(**more: Any) -> Facts:
    told = {"title": "photos_run", "model": "squeezenet_v1.1", "head": "Linear", "blob": "pool10",
            "data": "photos/"}  # fmt: skip
    return Facts(**{**told, **more})


HISTORY = History([Row(i, i / 10, 2 / i, 0.01, 100, i, {"test/loss": 3 / i}) for i in (10, 20)])


def test_a_report_is_files_of_which_the_page_needs_none(tmp_path: Path) -> None:
    names = ("cat", "dog", "owl")
    judged = [of_classes(names, 60), of_classes(names, 30, "test")]
    told = facts(
        pictures={"train": 90, "val": 60, "test": 30},
        counts={"train": [31, 29, 30]},
        options={"unfreeze": "all", "rename": ("a=b", "c=d")},
        loaded="50 copied; 1 anew (conv10)",
        phases=[PhaseFacts("1-head", "the head", 20, 0.003)],
        command="torrefy finetune squeezenet_v1.1 photos/ -o photos_run",
        versions={"torrefy": "0.1"},
        seconds=312,
        files={"model.onnx": "the net"},
        notes=["the light was bad"],
        lr_finder=b"\x89PNG",
        date="2026-11-25",
    )
    path, _ = write_report(tmp_path, told, judged, {"1-head": HISTORY, "2-all": HISTORY})
    assert path == tmp_path / "report.html"
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "confusion.png", "curves.png", "metrics.json", "mistakes.png", "per_class.csv",
        "report.html",
    ]  # fmt: skip
    page = Page(path.read_text())
    for tag in ("script", "link", "iframe"):
        assert not page.of(tag)
    sources = [one["src"] or "" for one in page.of("img")]
    assert all(source.startswith("data:image/") for source in sources)
    assert "url(" not in path.read_text()
    assert all(one.get("alt") for one in page.of("img"))
    assert all(one.get("scope") in ("col", "row") for one in page.of("th"))
    for text in (
        "photos_run", "the light was bad", "50 copied; 1 anew (conv10)", "5 min 12 s", "the head",
        "torrefy finetune squeezenet_v1.1 photos/ -o photos_run", "a=b, c=d", "torrefy 0.1",
        "Test: 30 pictures that nothing was learned from.", "2026-11-25", "1-head, then 2-all",
    ):  # fmt: skip
        assert text in page.said, text
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert [metrics[part]["count"] for part in ("val", "test")] == [60, 30]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "per_class.csv").read_text())))
    assert [(row["part"], row["name"]) for row in rows] == [
        (part, name) for part in ("val", "test") for name in names
    ]
    assert float(rows[0]["f1"]) == pytest.approx(metrics["val"]["rows"][0]["f1"], rel=1e-6)


def test_names_from_anywhere_are_text(tmp_path: Path) -> None:
    names = (
        "<script>alert(1)</script>",
        'a" onerror="x',
        "$x_1$ \\frac{",
        "\U0010fffd山\ud800",
        "a\nb\x00",
    )
    path, _ = write_report(
        tmp_path,
        facts(title="<b>&", data="</style>", command="<i>", options={"<u>": "<s>"}, notes=["<q>"]),
        [of_classes(names, 40)],
        {"<a>": HISTORY, "b": HISTORY},
    )
    page = Page(path.read_text(encoding="utf-8"))
    known = {"html", "head", "meta", "title", "style", "body", "header", "h1", "bdi", "p", "main",
             "section", "dl", "div", "dt", "dd", "small", "ul", "li", "h2", "table", "caption",
             "thead", "tr", "th", "tbody", "td", "details", "summary", "figure", "img",
             "figcaption", "ol", "span", "br", "pre", "code", "footer"}  # fmt: skip
    assert {tag for tag, _ in page.tags} <= known
    assert not any(key.startswith("on") for _, had in page.tags for key in had)
    assert "are numbers, as in the table above" in page.said
    for text in ("<script>alert(1)</script>", 'a" onerror="x', "$x_1$ \\frac{", "a b\ufffd"):
        assert text in page.said
    assert "\x00" not in path.read_text(encoding="utf-8")


def test_a_page_of_5000_classes_stays_small(tmp_path: Path) -> None:
    names = tuple(f"n{i:08d}" for i in range(5000))
    path, _ = write_report(tmp_path, facts(), [of_classes(names, 300)])
    assert not (tmp_path / "confusion.png").exists()
    assert path.stat().st_size < 1_500_000  # 40 pictures of noise, which JPEG likes least
    assert (tmp_path / "metrics.json").stat().st_size < 1_000_000
    page = Page(path.read_text())
    assert len(page.of("tr")) < 200
    assert "The pairs that are most often confused" in page.said
    assert "100 of 5000; per_class.csv has all." in page.said
    assert len(page.of("img")) == 40


def test_a_confusion_matrix_is_drawn_up_to_50_classes(tmp_path: Path) -> None:
    names = tuple(f"a class with quite a long name and a number {i}" for i in range(50))
    write_report(tmp_path, facts(), [of_classes(names, 300)])
    with Image.open(tmp_path / "confusion.png") as image:
        assert image.width < 2000
    assert labelled(names)[:2] == [
        "a class with qu\u2026a number 0",
        "a class with qu\u2026a number 1",
    ]


def test_names_that_no_font_has_are_numbers_on_an_axis() -> None:
    assert labelled(["cat", "\U0010fffd", "dog"]) == ["cat", "1", "dog"]


def test_the_worst_mistakes_are_the_surest_wrong_ones() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.1, 0.9], [0.6, 0.4], [0.2, 0.8]])
    names = tuple("abcdef")
    judged = Judged("val", "classes", names, ("cat", "dog"), np.array([0, 0, 0, 1, 0, 0]), scores)
    found = worst_of(judged)
    assert found.count == 3
    told = [(one.name, one.truth, one.guess, one.score) for one in found.worst]
    assert told == [
        ("b", "cat", "dog", "80.0 %"), ("f", "cat", "dog", "80.0 %"), ("c", "cat", "dog", "60.0 %"),
    ]  # fmt: skip
    right = Judged("val", "classes", names, ("cat", "dog"), scores.argmax(1), scores)
    found = worst_of(right)
    assert found.count == 0
    assert [one.name for one in found.worst] == ["c", "e", "b", "f", "a", "d"]


def test_where_nothing_is_wrong_the_page_says_so(tmp_path: Path) -> None:
    path, _ = write_report(tmp_path, facts(), [of_classes(("cat", "dog"), 30, skill=20)])
    page = Page(path.read_text())
    assert "Nothing is wrong: the least certain: 12 of 30 pictures." in page.said
    assert "100 %" in page.said


def test_tags_numbers_and_points_have_reports_too(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    names = tuple(f"{i}.jpg" for i in range(30))
    columns = ("left_x", "left_y", "right_x", "right_y")
    truth = draws.random((30, 4))
    near = np.clip(truth + draws.normal(size=truth.shape) * 0.1, 0, 1)
    files = {"tags": "per_tag.csv", "numbers": "predictions.png", "points": "per_point.csv"}
    for kind, file in files.items():
        folder = tmp_path / kind
        folder.mkdir()
        true = (truth > 0.5).astype(np.float32) if kind == "tags" else truth
        judged = Judged("val", kind, names, columns, true, near, picture)
        page = Page(write_report(folder, facts(), [judged])[0].read_text())
        assert (folder / file).exists()
        assert "The worst mistakes" in page.said
        assert not (folder / "confusion.png").exists()
    assert [one.guess for one in worst_of(judged).worst] == [""] * 30
    far = np.hypot(*(near - truth).reshape(30, 2, 2).transpose(2, 0, 1)).mean(1)
    assert worst_of(judged).worst[0].index == far.argmax()


def test_a_tag_that_is_wrong_is_told_with_its_score() -> None:
    truth, scores = np.array([[1, 0], [1, 1]]), np.array([[0.9, 0.7], [0.05, 0.9]])
    found = worst_of(Judged("val", "tags", ("a", "b"), ("sea", "sun"), truth, scores))
    told = [(one.name, one.truth, one.guess, one.score) for one in found.worst]
    assert told == [
        ("b", "sea, sun", "sun", "sea: 5.0 %"), ("a", "sea", "sea, sun", "sun: 70.0 %"),
    ]  # fmt: skip


def test_phases_follow_each_other_on_the_curves() -> None:
    rows = joined({"1-head": HISTORY, "2-all": HISTORY}).rows
    assert [row.iteration for row in rows] == [10, 20, 30, 40]
    assert [row.epoch for row in rows] == [1, 2, 3, 4]


def test_curves_begin_anew_with_a_phase() -> None:
    rows = [Row(i, scores={"test/loss": y}) for i, y in ((1, 1.0), (50, 1.0), (51, 2.0), (99, 2.0))]
    apart = np.asarray(Image.open(io.BytesIO(draw_curves(History(rows), "", [50]))))
    whole = np.asarray(Image.open(io.BytesIO(draw_curves(History(rows), ""))))
    teal = tuple(bytes.fromhex(TEST[1:]))

    def at_half_height(image: NDArray[np.uint8]) -> bool:
        left = image[200:300, 100:560, :3]
        return bool((left == teal).all(2).any())

    assert at_half_height(whole)
    assert not at_half_height(apart)


def test_a_history_may_be_a_file_and_a_bad_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text(HISTORY.text())
    judged = [of_classes(("cat", "dog"), 10)]
    write_report(tmp_path, facts(), judged, {"1-head": tmp_path / "history.csv"})
    assert (tmp_path / "curves.png").exists()
    (tmp_path / "history.csv").write_text("iteration\nmany\n")
    with pytest.raises(TorrefyError, match=re.escape("history.csv: this is no history")):
        write_report(tmp_path, facts(), judged, {"1-head": tmp_path / "history.csv"})


def test_the_same_predictions_make_the_same_page(tmp_path: Path) -> None:
    judged = [of_classes(("cat", "dog"), 20)]
    page, measured = write_report(tmp_path, facts(), judged)
    first = page.read_bytes()
    assert write_report(tmp_path, facts(), judged)[0].read_bytes() == first
    assert measured == [measure(judged[0])]
