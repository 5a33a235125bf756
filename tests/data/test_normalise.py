"""Statistics: computed in one pass as numpy does on the whole, kept in a file, applied to all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from torrefy.data.draws import Draws
from torrefy.data.normalise import compute
from torrefy.data.normalise.compute import compute_statistics
from torrefy.data.normalise.moments import Moments
from torrefy.data.normalise.normaliser import Normaliser
from torrefy.data.normalise.spectrum import IncrementalSpectrum
from torrefy.data.normalise.statistics import Statistics
from torrefy.data.open import open_loader, open_transform
from torrefy.data.sources.memory import ArraySource
from torrefy.errors import DataError, RecordError, TorrefyError
from torrefy.schema import parse_text

KINDS = ("MEAN", "CHANNEL_MEAN", "STANDARDISE", "STANDARDISE_PIXELS", "PCA", "ZCA")


def pictures(count: int = 60, shape: tuple[int, ...] = (3, 4, 5), seed: int = 0) -> Any:
    """Bytes whose neighbours are alike, as those of photographs are."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(count, *shape)).cumsum(axis=2).cumsum(axis=3)
    return np.clip(120 + 12 * noise, 0, 255).round().astype(np.uint8)


def rows(array: Any) -> Any:
    return array.reshape(len(array), -1).astype(np.float64)


def layer(text: str, param: str = "batch_size: 4") -> Any:
    text = (
        'layer { name: "d" type: "MemoryData" top: "data" top: "label" '
        f"memory_data_param {{ {param} channels: 3 height: 4 width: 5 }} "
        f"transform_param {{ {text} }} }}"
    )
    return parse_text(text).message.layer[0]


def refusal(function: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(TorrefyError) as error:
        function(*arguments, **options)
    return str(error.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Statistics of 60 pictures of 3x4x5, with all components."""
    path = tmp_path / "stats.safetensors"
    compute_statistics(ArraySource(pictures()), whiten=True).write(path)
    return path


@settings(deadline=None, max_examples=40)
@given(
    cuts=st.lists(st.integers(0, 30), max_size=6),
    offset=st.sampled_from([0.0, 1e6, -3e3]),
    seed=st.integers(0, 9),
)
def test_moments_of_any_chunks_are_those_of_the_whole(
    cuts: list[int], offset: float, seed: int
) -> None:
    whole = np.random.default_rng(seed).normal(size=(30, 2, 2, 3)) + offset
    parts = np.split(rows(whole), sorted(cuts))
    streamed, merged = (Moments((2, 2, 3), covariance=True) for _ in range(2))
    for part in parts:
        streamed.add(part)
        one = Moments((2, 2, 3), covariance=True)
        one.add(part)
        merged.merge(one)
    for found in (streamed, merged):
        assert found.count == 30
        np.testing.assert_allclose(found.mean, whole.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found.variance, whole.var(axis=0), rtol=1e-8)
        np.testing.assert_allclose(found.channel_mean, whole.mean(axis=(0, 2, 3)), rtol=1e-12)
        np.testing.assert_allclose(found.channel_variance, whole.var(axis=(0, 2, 3)), rtol=1e-8)
        expected = np.cov(rows(whole), rowvar=False, bias=True)
        np.testing.assert_allclose(found.covariance.numpy(), expected, rtol=1e-6, atol=1e-8)


def test_moments_of_other_shapes_are_not_merged() -> None:
    one = Moments((1, 2, 2))
    for other in (Moments((1, 4, 1)), Moments((1, 2, 2), covariance=True)):
        assert refusal(one.merge, other) == "moments of other shapes or kinds can't be merged"
    assert refusal(lambda: one.covariance) == "the covariance was not asked for"


@pytest.mark.parametrize("kind", ["bytes", "floats"])
@pytest.mark.parametrize("chunk", [1, 8 * 60 * 7, 1 << 26])
def test_a_source_in_any_chunks_gives_what_numpy_gives(
    kind: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "CHUNK", chunk)
    whole = pictures(101)
    if kind == "floats":
        whole = (whole / 7).astype(np.float32)
    told: list[int] = []
    found = compute_statistics(ArraySource(whole), whiten=True, told=told.append)
    assert (found.count, found.shape, found.method) == (101, (3, 4, 5), "exact")
    assert told == [32, 64, 96, 101]
    exact = whole.astype(np.float64)
    np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.std, exact.std(axis=0), rtol=1e-10)
    np.testing.assert_allclose(found.channel_mean, exact.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(found.channel_std, exact.std(axis=(0, 2, 3)), rtol=1e-10)
    values = np.linalg.eigvalsh(np.cov(rows(whole), rowvar=False, bias=True))[::-1]
    assert found.eigenvalues is not None
    np.testing.assert_allclose(found.eigenvalues, values, atol=1e-9 * values[0])
    assert found.explained == pytest.approx(1)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), epsilon=st.sampled_from([1e-5, 1e-3, 1.0]))
def test_zca_is_the_textbooks_and_whitens(seed: int, epsilon: float) -> None:
    whole = pictures(200, (2, 3, 4), seed)
    found = compute_statistics(ArraySource(whole), whiten=True, epsilon=epsilon)
    centred = rows(whole) - rows(whole).mean(axis=0)
    covariance = centred.T @ centred / len(centred)
    u, s, _ = np.linalg.svd(covariance)
    textbook = centred @ (u @ np.diag((s + epsilon) ** -0.5) @ u.T)
    floats = whole.astype(np.float32)
    whitened = Normaliser(found, "ZCA")(floats)
    assert whitened.shape == whole.shape
    np.testing.assert_allclose(rows(whitened), textbook, atol=1e-4)
    coordinates = Normaliser(found, "PCA")(floats)
    assert coordinates.shape == (200, 24, 1, 1)
    shrunk = s / (s + epsilon)  # 1, but for epsilon
    for made in (rows(coordinates), rows(whitened) @ u):
        np.testing.assert_allclose(made.T @ made / len(made), np.diag(shrunk), atol=1e-4)
    if epsilon == 1e-5:
        identity = rows(whitened).T @ rows(whitened) / len(whole)
        np.testing.assert_allclose(identity, np.eye(24), atol=1e-4)


def test_means_and_deviations_are_what_they_say() -> None:
    whole = pictures().astype(np.float32)
    found = compute_statistics(ArraySource(whole))
    made = {kind: Normaliser(found, kind)(whole) for kind in KINDS[:4]}
    axes = (0, 2, 3)
    np.testing.assert_allclose(made["MEAN"], whole - whole.mean(axis=0), atol=1e-4)
    channel = whole - whole.mean(axis=axes, keepdims=True)
    np.testing.assert_allclose(made["CHANNEL_MEAN"], channel, atol=1e-4)
    np.testing.assert_allclose(made["STANDARDISE"].std(axis=axes), 1, rtol=1e-5)
    np.testing.assert_allclose(made["STANDARDISE_PIXELS"].std(axis=0), 1, rtol=1e-4)
    np.testing.assert_allclose(made["STANDARDISE_PIXELS"].mean(axis=0), 0, atol=1e-5)
    assert refusal(Normaliser, found, "ZCA") == (
        "the statistics have no components. Make them with --whiten."
    )


@pytest.mark.parametrize("value", [7, 0.1])
def test_a_pixel_that_never_changes_becomes_0(value: float) -> None:
    whole = pictures().astype(np.float32)
    whole[:, 0] = value
    found = compute_statistics(ArraySource(whole), whiten=True, epsilon=0)
    for kind in ("STANDARDISE", "STANDARDISE_PIXELS"):
        assert not np.abs(Normaliser(found, kind)(whole)[:, 0]).max() > 1e-5
    assert np.isfinite(Normaliser(found, "PCA")(whole)).all()


def test_large_pictures_components_are_nearly_the_exact_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = pictures(400)
    exact = compute_statistics(ArraySource(whole), whiten=True)
    monkeypatch.setattr(compute, "MOST_EXACT", 10)
    monkeypatch.setattr(compute, "CHUNK", 8 * 60 * 50)
    found = compute_statistics(ArraySource(whole), whiten=True, components=20)
    assert found.method == "incremental: scikit-learn's IncrementalPCA"
    assert found.eigenvalues is not None
    assert exact.eigenvalues is not None
    assert found.components is not None
    assert exact.components is not None
    assert found.components.shape == (20, 3, 4, 5)
    np.testing.assert_allclose(found.eigenvalues[:5], exact.eigenvalues[:5], rtol=2e-3)
    likeness = np.abs((found.components[:3] * exact.components[:3]).sum(axis=(1, 2, 3)))
    np.testing.assert_allclose(likeness, 1, atol=1e-3)
    assert 0.9 < found.explained < 1
    # The factors of ZCA do what its matrix does.
    normaliser = Normaliser(found, "ZCA")
    assert [matrix.shape for matrix in normaliser.matrices] == [(60, 20), (20, 60)]
    floats = whole[:9].astype(np.float32)
    by_matrix = (rows(floats) - found.mean.ravel()) @ found.zca()
    np.testing.assert_allclose(rows(normaliser(floats)), by_matrix, atol=1e-4)


def test_what_can_not_be_computed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    source = ArraySource(pictures(9))

    def told(**options: Any) -> str:
        return refusal(compute_statistics, source, whiten=True, **options)

    assert told(components=61) == "61 components are asked for, but a picture has 60 values"
    assert told(epsilon=-1) == "epsilon must be 0 or more, found -1"
    monkeypatch.setattr(compute, "MOST_EXACT", 10)
    assert told(components=10) == "10 components are asked for, but there are 9 pictures"
    assert refusal(IncrementalSpectrum, 1 << 20, 1000) == (
        "1000 components of 1,048,576 values would take 67.1 GB. Ask for 64 at most, or make the "
        "pictures smaller."
    )
    spoiled = np.zeros((3, 1, 2, 2), np.float32)
    spoiled[1, 0, 1, 1] = np.nan
    assert refusal(compute_statistics, ArraySource(spoiled)) == (
        "<arrays> (row 1): the picture holds values that are no finite numbers"
    )
    assert refusal(compute_statistics, ArraySource(np.zeros((3, 4)))) == (
        "<arrays> (row 0): its items are no pictures"
    )


def test_pictures_of_other_sizes_are_told_by_name(photos: Path) -> None:
    from PIL import Image

    from torrefy.data.open import open_path

    Image.new("RGB", (8, 7)).save(photos / "p 4.png")
    source = open_path(photos / "list.txt", root=f"{photos}/")
    assert refusal(compute_statistics, source, workers=1) == (
        f"{photos}/p 4.png: the picture is 3x7x8, and the first one 3x7x9; statistics take "
        "pictures of one size. Take them from a layer with crop_size, or resize the pictures."
    )


def test_a_sample_is_drawn_by_its_seed() -> None:
    whole = pictures(50)
    made = [compute_statistics(ArraySource(whole), sample=20, seed=seed).mean for seed in (1, 1, 2)]
    np.testing.assert_array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
    all_of = compute_statistics(ArraySource(whole), sample=99)
    assert all_of.count == 50


def test_a_file_gives_back_what_was_written(file: Path) -> None:
    found = Statistics.read(file)
    again = compute_statistics(ArraySource(pictures()), whiten=True)
    for name, value in vars(again).items():
        np.testing.assert_array_equal(getattr(found, name), value)
    assert sorted(load_file(file)) == [
        "channel_mean", "channel_std", "components", "eigenvalues", "mean", "std",
    ]  # fmt: skip


def test_a_file_that_is_missing_damaged_or_another_is_refused(file: Path, tmp_path: Path) -> None:
    def told(path: Path) -> str:
        return refusal(Statistics.read, path).removeprefix(f"{path}: ")

    assert told(tmp_path / "stat.safetensors") == 'no such file. Did you mean "stats.safetensors"?'
    whole = file.read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole[:-9])
    assert told(cut).startswith("cut off, damaged, or not a safetensors file: ")
    cut.write_bytes(b"layer {}\n" * 20)
    assert told(cut) == "cut off, damaged, or not a safetensors file: header too large"
    save_file({"conv1.weight": np.zeros((2, 2), np.float32)}, cut)
    assert told(cut) == "this file has no statistics. `torrefy data stats` writes such files."
    tensors = load_file(file)
    facts = {"version": 1, "count": 60, "epsilon": 1e-5, "method": "exact", "seed": 0}
    facts |= {"transform": "", "source": ""}

    def damaged(change: dict[str, Any], **more: Any) -> str:
        changed = {k: v for k, v in {**tensors, **change}.items() if v is not None}
        metadata = {"torrefy.statistics": json.dumps({**facts, **more})}
        save_file({k: np.ascontiguousarray(v) for k, v in changed.items()}, cut, metadata)
        text = told(cut)
        assert text.startswith("the statistics are damaged: ")
        return text.removeprefix("the statistics are damaged: ").split(". `torrefy")[0]

    assert damaged({}, count=0) == "a count below 1, or an epsilon below 0"
    assert damaged({}, epsilon=None) == '"epsilon" is missing or of another type'
    assert damaged({}, more=1) == '"more" is missing or of another type'
    assert damaged({}, version=2) == "its version is not 1"
    shape = "is missing, of another shape, or unknown"
    assert damaged({"mean": np.zeros(3)}) == 'there is no "mean" of CxHxW'
    assert damaged({"components": tensors["components"][:, :2]}) == f'"components" {shape}'
    assert damaged({"eigenvalues": None}) == f'"eigenvalues" {shape}'
    assert damaged({"std": -tensors["std"]}) == '"std" holds values below 0'
    assert damaged({"mean": tensors["mean"] * np.nan}) == (
        '"mean" holds values that are no finite numbers'
    )


@pytest.mark.parametrize("phase", ["train", "test"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_normalises_its_batches_in_both_phases(file: Path, kind: str, phase: str) -> None:
    spec = layer(f'statistics: "{file.name}" normalise: {kind}')
    whole = pictures()
    arrays = [whole, np.arange(60)]
    loader = open_loader(spec, phase, file.parent, arrays=arrays)
    found = next(loader)
    expected = Normaliser(Statistics.read(file), kind)(whole.astype(np.float32))
    np.testing.assert_array_equal(found["data"].numpy(), expected[:4])
    assert found["label"].tolist() == [0, 1, 2, 3]
    # By itself, and in a batch of another size, an item comes out the same to the bit.
    transform = open_transform(spec, phase, file.parent)
    assert transform is not None
    one = transform((whole[2], np.float32(2)), Draws(0, 0))
    np.testing.assert_array_equal(one[0], expected[2])


def test_workers_give_the_same_batches(file: Path) -> None:
    spec = layer(f'statistics: "{file}" normalise: PCA')
    arrays = [pictures(), np.arange(60)]
    batches = []
    for workers in (0, 1):
        loader = open_loader(spec, "train", arrays=arrays, workers=workers)
        batches.append([next(loader)["data"].numpy().copy() for _ in range(3)])
        loader.close()
    np.testing.assert_array_equal(*batches)
    assert batches[0][0].shape == (4, 60, 1, 1)


def test_statistics_and_layer_must_agree(file: Path, digits: Path) -> None:
    def told(text: str) -> str:
        return refusal(open_transform, layer(text), "train", file.parent)

    place = f'{file}: layer "d": '
    assert told("normalise: ZCA") == (
        'layer "d": normalise is given without statistics. Give the file that `torrefy data '
        "stats` wrote."
    )
    assert told('statistics: "stat.safetensors"') == (
        f'{file.parent}/stat.safetensors: layer "d": no such file. Did you mean '
        '"stats.safetensors"?'
    )
    hint = "Make them from the layer: torrefy data stats train_val.prototxt."
    assert told('statistics: "stats.safetensors" scale: 0.5 mean_value: 1') == (
        f"{place}the statistics are of pictures with no scale or mean, but the layer has "
        f'"scale: 0.5 mean_value: 1.0". {hint}'
    )
    compute_statistics(ArraySource(pictures()), about=("scale: 0.5", "")).write(file)
    assert told('statistics: "stats.safetensors"') == (
        f'{place}the statistics are of pictures with "scale: 0.5", but the layer has no scale or '
        f"mean. {hint}"
    )
    assert told('statistics: "stats.safetensors" normalise: ZCA scale: 0.5') == (
        f"{place}the statistics have no components. Make them with --whiten."
    )


def test_pictures_of_another_shape_are_refused_by_their_key(file: Path, digits: Path) -> None:
    text = (
        'layer { name: "d" type: "Data" top: "data" top: "label" '
        'data_param { source: "%s" backend: LMDB batch_size: 4 } '
        'transform_param { statistics: "%s" normalise: %s } }'
    )
    for kind, wanted in (("ZCA", "3x4x5"), ("MEAN", "3x4x5"), ("STANDARDISE", "3 channels")):
        spec = parse_text(text % (digits, file, kind)).message.layer[0]
        loader = open_loader(spec, "test", workers=0)
        with pytest.raises(RecordError) as error:
            next(loader)
        assert str(error.value) == (
            f'{digits} (key "00000000"): layer "d": the picture is 1x4x5, but the statistics are '
            f"of {wanted}"
        )


def test_the_channels_statistics_are_good_for_any_size(file: Path) -> None:
    normaliser = Normaliser(Statistics.read(file), "STANDARDISE")
    normaliser.check((3, 9, 9))
    made = normaliser(np.full((2, 3, 9, 9), 100, np.float32))
    assert made.shape == (2, 3, 9, 9)


def test_doubtful_whitening_is_noted() -> None:
    def notes(count: int, **options: Any) -> list[str]:
        whole = pictures(count)
        return list(compute_statistics(ArraySource(whole), whiten=True, **options).notes())

    assert notes(200) == []
    assert notes(30, components=20) == []
    assert notes(30) == [
        "30 pictures tell no more than 29 directions: in the others of 60 new pictures are "
        "multiplied by up to 316. Give more pictures, fewer --components, or a larger --epsilon."
    ]
    assert list(compute_statistics(ArraySource(pictures(3))).notes()) == []


def test_an_empty_source_is_refused() -> None:
    class Empty(ArraySource):
        def __len__(self) -> int:
            return 0

    with pytest.raises(DataError, match="there is no picture to take statistics of"):
        compute_statistics(Empty(np.zeros((1, 1, 1, 1))))
