"""Files of weights in numbers, and how two of them differ."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from torrefy.net.stored import StoredLayer, StoredNet
from torrefy.weights import compare as compare_module
from torrefy.weights.compare import compare, core_shape, summarize


def one(*blobs: object, names: tuple[str, ...] = ()) -> StoredNet:
    """A file of one layer."""
    arrays = tuple(np.asarray(blob, np.float32) for blob in blobs)
    return StoredNet("n", (StoredLayer("a", "Scale", arrays, names=names),))


def test_mean_smallest_and_largest_are_those_of_the_finite_numbers() -> None:
    (row,) = summarize(one([[1, -3, np.nan], [np.inf, -np.inf, 2]]))
    assert (row.layer, row.type, row.blob, row.shape) == ("a", "Scale", 0, (2, 3))
    assert (row.dtype, row.count, row.nan, row.inf) == ("float32", 6, 1, 2)
    assert (row.mean_abs, row.min, row.max) == (2, -3, 2)


def test_without_a_finite_number_there_is_no_mean() -> None:
    for blob in ([], [np.nan, np.inf]):
        (row,) = summarize(one(blob))
        assert (row.mean_abs, row.min, row.max) == (None, None, None)


@given(
    hnp.arrays(
        st.sampled_from(["<f2", ">f4", "<f8"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6),
    )
)
def test_a_summary_is_what_numpy_says(blob: np.ndarray) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare_module, "_PIECE", 7)
        (row,) = summarize(StoredNet("n", (StoredLayer("a", "", (blob,)),)))
    wide = blob.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    assert (row.nan, row.inf) == (np.isnan(wide).sum(), np.isinf(wide).sum())
    if finite.size:
        assert (row.min, row.max) == (finite.min(), finite.max())
        with np.errstate(over="ignore"):
            assert row.mean_abs == pytest.approx(np.abs(finite).mean())


def test_the_largest_differences_are_found() -> None:
    found = compare(one([1, 2, 0], [5]), one([1, 1.5, 0], [5]))
    first, second = found.blobs
    assert (first.absolute, first.relative) == (0.5, 0.25)
    assert (second.absolute, second.relative) == (0, 0)
    assert found.differing() == [first]
    assert not found.same()
    assert found.same(tolerance=0.5)
    assert not found.same(tolerance=0.4)


def test_nans_and_infinities_are_the_same_only_as_themselves() -> None:
    nan, inf = np.nan, np.inf
    found = compare(one([nan, inf, -inf, nan, inf, 1]), one([nan, inf, inf, 1, 1, 1]))
    (blob,) = found.blobs
    assert (blob.absolute, blob.unlike) == (0, 3)
    assert not found.same(tolerance=math.inf)
    assert compare(one([nan, -inf]), one([nan, -inf])).same()


def test_other_shapes_are_told_unless_only_leading_ones_differ() -> None:
    found = compare(one([[1, 2]], [1, 2]), one([1, 2], [1, 2, 3]))
    assert found.differing() == [found.blobs[1]]
    assert found.blobs[1].shapes == ((2,), (3,))
    assert found.blobs[1].absolute is None
    assert not found.same(tolerance=math.inf)


def test_layers_and_blobs_of_one_file_only_are_told() -> None:
    mine = StoredNet(
        "n",
        (
            StoredLayer("a", "", (np.zeros(1),)),
            StoredLayer("b", "", (np.zeros(1), np.ones(1))),
            StoredLayer("relu", "ReLU", ()),
        ),
    )
    theirs = StoredNet(
        "m",
        (
            StoredLayer("b", "", (np.ones(1), np.ones(1)), names=("1", "2")),
            StoredLayer("c", "", (np.zeros(1),)),
        ),
    )
    found = compare(mine, theirs)
    assert found.only == (("a",), ("c",))
    assert found.lacking == (("b", 0, 0), ("b", 2, 1))
    assert [(blob.blob, blob.absolute) for blob in found.blobs] == [(1, 0)]
    assert not found.same()


def test_layers_of_one_name_are_compared_in_their_order() -> None:
    twice = StoredNet("n", (StoredLayer("a", "", (np.zeros(1),)),) * 2)
    once = StoredNet("n", twice.layers[:1])
    assert compare(twice, twice).same()
    assert compare(twice, once).only == (("a#2",), ())


def test_differences_that_overflow_are_infinite() -> None:
    huge = StoredNet("n", (StoredLayer("a", "", (np.array([1e308]),)),))
    other = StoredNet("n", (StoredLayer("a", "", (np.array([-1e308]),)),))
    assert compare(huge, other).blobs[0].absolute == math.inf


def test_a_core_shape_has_no_leading_ones() -> None:
    assert core_shape((1, 1, 3, 1)) == (3, 1)
    assert core_shape((1, 1)) == ()
