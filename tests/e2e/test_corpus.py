"""Other people's nets: all that are Caffe's own compile, or say what only their data tell."""

from __future__ import annotations

import pytest
from benchmarks.corpus_nets import CORPUS, REFUSED, File, attempt, files, stock_types


def stock_files() -> list[File]:
    """The nets whose types and fields are all those of Caffe 1.0."""
    if not CORPUS.is_dir():
        return []
    stock = stock_types()
    return [file for file in files() if file.stock_text and file.types <= stock]


@pytest.mark.parametrize("file", stock_files(), ids=lambda f: f.name)
def test_a_net_compiles_in_its_own_phases(file: File) -> None:
    found = attempt(file)
    reason = REFUSED.get(file.name)
    if reason:
        assert any(reason in problem.message for problem in found.problems)
    else:
        assert found.problems == []
        assert found.tried
        assert all(p.place and p.place.line and p.hint for p in found.missing)


def test_the_nets_that_are_refused_are_few() -> None:
    count = sum(len(file.phases) for file in stock_files())
    if not count:
        pytest.skip("no ../shared here")
    assert len(REFUSED) < 0.01 * count
