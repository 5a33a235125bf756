"""Metrics as commands print them."""

from __future__ import annotations

import numpy as np
import pytest

from torrefy.cli.metrics import print_metrics
from torrefy.finetune.metrics import Judged, measure


def test_metrics_are_printed_by_part_and_class(capsys: pytest.CaptureFixture[str]) -> None:
    truth = np.array([0, 0, 0, 1, 1])
    scores = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.3, 0.7, 0], [0.2, 0.8, 0], [0.6, 0.4, 0]])
    names = tuple("abcde")
    val = measure(Judged("val", "classes", names, ("cat", "dog", "o\nwl"), truth, scores))
    test = measure(Judged("test", "classes", names, ("cat", "dog", "o\nwl"), truth, scores))
    print_metrics([val, test])
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = [" ".join(line.split()) for line in printed.out.splitlines()]
    assert lines[:4] == [
        "val (5) test (5)",
        "accuracy 60.0 % 60.0 %",
        "95 % interval 23.1 % to 88.2 % 23.1 % to 88.2 %",
        "majority 60.0 % 60.0 %",
    ]
    assert "class pictures guessed precision recall F1" in lines
    assert "dog 2 2 50.0 % 50.0 % 50.0 %" in lines
    assert "o\\x0awl 0 0 \u2013 \u2013 \u2013" in lines
    assert lines[-1].startswith('test: note: the class "o\\x0awl" has no picture here')


def test_of_many_classes_the_worst_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    truth = np.arange(30)
    scores = np.eye(30)
    scores[7] = scores[8]
    names = tuple(map(str, truth))
    print_metrics([measure(Judged("val", "classes", names, names, truth, scores))])
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("class "))
    assert [line.split()[0] for line in lines[start + 1 : start + 4]] == ["7", "8", "0"]
    assert lines[-1] == "and 10 others"
