"""The format of a file of weights is told by its suffix."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.weights.conftest import same

from torrefy.errors import PluginError, WeightsError
from torrefy.net.stored import (
    StoredLayer,
    StoredNet,
    WeightFormat,
    read_weights,
    weight_formats,
    write_weights,
)
from torrefy.plugins import added, hookimpl

NET = StoredNet("n", (StoredLayer("a", "ReLU", ()),))


class Formats:
    """A plugin with formats of its own."""

    def __init__(self, *formats: WeightFormat) -> None:
        self.formats = formats

    @hookimpl
    def torrefy_weight_formats(self) -> tuple[WeightFormat, ...]:
        return self.formats


@pytest.fixture
def plugged() -> Iterator[None]:
    """A plugin format with a suffix that ends as a built-in one does."""
    mine = WeightFormat("mine", (".my.caffemodel",), lambda path: NET, lambda path, net: None)
    with added(Formats(mine), "mine"):
        yield


def test_a_caffemodel_is_known_by_its_suffix_in_any_case(tmp_path: Path) -> None:
    path = tmp_path / "LENET.CaffeModel"
    write_weights(str(path), NET)
    assert read_weights(str(path)).layers == NET.layers


@pytest.mark.usefixtures("plugged")
def test_the_longest_suffix_wins(tmp_path: Path) -> None:
    assert read_weights(tmp_path / "net.my.caffemodel") is NET


def test_an_unknown_suffix_is_told_with_the_known_ones(tmp_path: Path) -> None:
    known = ", ".join(sorted(weight_formats()))
    for name, suffix, hint in (
        ("w.cafemodel", ".cafemodel", '. Did you mean ".caffemodel"?'),
        ("w.qqq", ".qqq", ""),
        ("w", "", ""),
    ):
        for call in (read_weights, lambda path: write_weights(path, NET)):
            with pytest.raises(WeightsError) as error:
                call(tmp_path / name)
            assert str(error.value) == (
                f'{tmp_path / name}: no format of weights has the suffix "{suffix}"; known are '
                f"{known}{hint}"
            )


def test_two_formats_with_one_suffix_are_both_named() -> None:
    rival = WeightFormat("rival", (".caffemodel",), lambda path: NET, lambda path, net: None)
    with added(Formats(rival), "rival"), pytest.raises(PluginError) as error:
        weight_formats()
    assert str(error.value) in {
        f'two formats of weights have the suffix ".caffemodel": {names}'
        for names in ("rival and caffemodel", "caffemodel and rival")
    }


BUILT_IN = (".caffemodel", ".h5", ".hdf5", ".safetensors")


def test_the_built_in_formats_are_these() -> None:
    assert tuple(sorted(weight_formats())) == BUILT_IN
    assert weight_formats()[".h5"] is weight_formats()[".hdf5"]


def test_a_snapshot_of_caffes_in_hdf5_is_known_by_its_suffix(tmp_path: Path) -> None:
    write_weights(tmp_path / "net_iter_10.caffemodel.h5", NET)
    assert (tmp_path / "net_iter_10.caffemodel.h5").read_bytes().startswith(b"\x89HDF")


names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0/."), min_size=1, max_size=8
)
blob_arrays = hnp.arrays(
    st.sampled_from(["<f4", "<f8", ">f4"]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    elements=st.floats(-1e6, 1e6, width=32),
)
nets = st.builds(
    StoredNet,
    names,
    st.lists(
        st.builds(
            StoredLayer,
            st.lists(names, min_size=1, max_size=3).map("/".join),
            names,
            st.lists(blob_arrays, max_size=3).map(tuple),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda layer: layer.name,
    )
    # "a/0" can't be a layer in HDF5 where "a" has blobs.
    .filter(lambda layers: not any(part.isdecimal() for x in layers for part in x.name.split("/")))
    .filter(lambda layers: any(x.blobs for x in layers))
    .map(tuple),
)


@settings(max_examples=100, deadline=None)
@given(nets, st.permutations([".caffemodel", ".h5", ".safetensors"]))
def test_any_net_goes_round_through_all_formats(net: StoredNet, formats: list[str]) -> None:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        pytest.skip("no /dev/shm")
    went = net
    for suffix in formats:
        path = folder / f"torrefy-{os.getpid()}{suffix}"
        try:
            write_weights(path, went)
            went = read_weights(path)
        finally:
            path.unlink(missing_ok=True)
    assert went.notes == ()
    same(went, net)


@pytest.mark.parametrize("suffix", BUILT_IN)
def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path, suffix: str) -> None:
    script = """
import resource, signal, sys
import numpy as np
import torrefy.net.program
from torrefy.errors import WeightsError
from torrefy.net.stored import StoredLayer, StoredNet, write_weights

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
blob = np.zeros(1 << 20, np.float32)
try:
    write_weights(sys.argv[1], StoredNet("n", (StoredLayer("a", "Bias", (blob,)),)))
except WeightsError as error:
    print(error)
"""
    path = tmp_path / f"w{suffix}"
    path.write_bytes(b"old")
    command = [sys.executable, "-c", script, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout == f"{path}: can't be written: File too large\n"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", BUILT_IN)
def test_where_nothing_can_be_written_is_told(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "no" / f"w{suffix}"
    with pytest.raises(WeightsError) as error:
        write_weights(path, NET)
    assert str(error.value) == f"{path}: can't be written: No such file or directory"


def test_the_caffemodel_format_needs_no_torch() -> None:
    script = "import sys, torrefy.weights.caffemodel; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
