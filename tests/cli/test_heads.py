"""`torrefy heads` tells what heads there are, from their classes."""

from __future__ import annotations

import json

from click.testing import CliRunner

from torrefy.cli import main
from torrefy.schema.head import head_types


def test_every_head_is_listed() -> None:
    done = CliRunner().invoke(main, ["heads", "--json"])
    assert done.exit_code == 0
    told = json.loads(done.stdout)["heads"]
    assert [one["type"] for one in told] == list(head_types())
    assert all(field["doc"] for one in told for field in one["fields"])
    listed = CliRunner().invoke(main, ["heads"]).stdout
    assert "Linear" in listed
    assert "classes" in listed


def test_a_page_has_the_fields_and_an_example() -> None:
    done = CliRunner().invoke(main, ["heads", "margin"])
    assert done.stdout.startswith(
        "Margin, for classes\n\nCosines to a learned vector of each class"
    )
    assert "  scale 30.0: what cosines are multiplied by before the softmax" in done.stdout
    assert 'head { type: "Margin"' in done.stdout


def test_an_unknown_head_is_told() -> None:
    done = CliRunner().invoke(main, ["heads", "Marjin"])
    assert (done.exit_code, done.stderr) == (
        1, 'error: there is no head "Marjin". Did you mean "Margin"?\n',
    )  # fmt: skip
