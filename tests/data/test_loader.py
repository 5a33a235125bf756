"""Batches: the same whatever makes them, resumable anywhere, and what is done about bad items."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torrefy.data.labels import LabelLimit
from torrefy.data.loader import Loader
from torrefy.data.open import open_loader
from torrefy.data.order import InOrder, Shuffled
from torrefy.data.sources.datum import write_datum
from torrefy.data.sources.hdf5 import HDF5Source
from torrefy.data.sources.image_list import list_source
from torrefy.data.sources.leveldb import LevelDBSource
from torrefy.data.sources.lmdb import LMDBSource
from torrefy.data.sources.memory import ArraySource
from torrefy.data.sources.source import Source
from torrefy.data.sources.window import Window, WindowSource, WindowTransformer
from torrefy.data.transform import Transformer
from torrefy.errors import DataError, PictureError, RecordError, TorrefyError
from torrefy.schema import parse_text


def numbers(count: int, shuffle: bool = False) -> ArraySource:
    return ArraySource(np.arange(count), shuffle=shuffle)


def taken(loader: Loader, batches: int) -> list[float]:
    return [x for _ in range(batches) for x in next(loader)["x"].tolist()]


def data_layer(folder: Path, more: str = "", transform: str = "") -> Any:
    text = (
        f'layer {{ name: "d" type: "Data" top: "data" top: "label" transform_param {{{transform}}}'
    )
    text += f'data_param {{ source: "{folder.name}" batch_size: 4 backend: LMDB {more} }} }}'
    return parse_text(text).message.layer[0]


# --- Order ---


@settings(deadline=None)
@given(
    count=st.integers(1, 20),
    batch=st.integers(1, 12),
    done=st.integers(0, 9),
    seed=st.integers(0, 2**64 - 1),
    shuffle=st.booleans(),
)
def test_a_resumed_loader_goes_on_with_what_would_have_come(
    count: int, batch: int, done: int, seed: int, shuffle: bool
) -> None:
    def loader(seed: int) -> Loader:
        return Loader(numbers(count, shuffle), batch_size=batch, tops=["x"], seed=seed, workers=0)

    undisturbed = loader(seed)
    before = taken(undisturbed, done)
    state = json.loads(json.dumps(undisturbed.state_dict()))
    after = taken(undisturbed, 5)
    resumed = loader(seed ^ 1)
    taken(resumed, 2)
    resumed.load_state_dict(state)
    assert taken(resumed, 5) == after
    seen = before + after
    for start in range(0, len(seen) - count + 1, count):
        assert sorted(seen[start : start + count]) == list(range(count))
    if not shuffle:
        assert seen == [i % count for i in range(len(seen))]


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    seed=st.integers(0, 2**64 - 1),
    skip=st.integers(0, 30),
)
def test_every_epoch_of_a_shuffled_order_has_every_item_once(
    sizes: list[int], seed: int, skip: int
) -> None:
    order, plain = Shuffled(sizes, seed, skip), Shuffled(sizes, seed)
    count = sum(sizes)
    for epoch in (0, 3, 1):
        epoch_of = [plain.index(epoch * count + i) for i in range(count)]
        assert sorted(epoch_of) == list(range(count))
    assert [order.index(i) for i in range(count)] == [plain.index(i + skip) for i in range(count)]
    assert InOrder(count, skip).index(0) == skip % count


def test_epochs_and_seeds_differ() -> None:
    order = Shuffled([50], 1)
    epochs = {tuple(order.index(50 * e + i) for i in range(50)) for e in range(20)}
    other = Shuffled([50], 2)
    assert len(epochs) == 20
    assert tuple(other.index(i) for i in range(50)) not in epochs


def test_rand_skip_passes_over_fewer_items_than_it_says(digits: Path) -> None:
    first = Counter(
        int(next(open_loader(data_layer(digits, "rand_skip: 5"), "train", digits.parent,
                             seed=seed, workers=0))["data"][0, 0, 0, 0])
        for seed in range(60)
    )  # fmt: skip
    assert sorted(first) == [0, 1, 2, 3, 4]


def test_processes_share_the_batches() -> None:
    def of(rank: int) -> list[float]:
        loader = Loader(numbers(7, True), batch_size=2, tops=["x"], workers=0, rank=rank, world=3)
        return taken(loader, 4)

    alone = taken(Loader(numbers(7, True), batch_size=6, tops=["x"], workers=0), 4)
    parts = [of(rank) for rank in range(3)]
    assert alone == [
        x for step in range(4) for part in parts for x in part[2 * step : 2 * step + 2]
    ]


# --- Workers ---


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(photos: Path, workers: int) -> None:
    def batches(workers: int) -> list[bytes]:
        loader = Loader(
            list_source(photos / "list.txt", f"{photos}/", shuffle=True),
            batch_size=4,
            tops=["data", "label"],
            transform=Transformer(crop=5, mirror=True, train=True, mean=[99.0], scale=0.1),
            seed=5,
            workers=workers,
        )
        made = [next(loader) for _ in range(6)]
        loader.load_state_dict({**loader.state_dict(), "position": 8})
        made.append(next(loader))
        loader.close()
        return [tensor.numpy().tobytes() for batch in made for tensor in batch.values()]

    state = torch.get_rng_state()
    assert batches(workers) == batches(0)
    assert torch.equal(torch.get_rng_state(), state)


def test_two_layers_draw_differently(digits: Path) -> None:
    source = list(range(20))

    def first(name: str) -> list[float]:
        loader = Loader(
            ArraySource(source, shuffle=True), batch_size=20, tops=["x"], name=name, workers=0
        )
        return taken(loader, 1)

    assert first("a") != first("b")


class Dying(Source):
    """Its second item ends the process."""

    def __len__(self) -> int:
        return 4

    def key(self, index: int) -> str:
        return str(index)

    def item(self, index: int) -> Any:
        if index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return (np.zeros(1),)


def test_a_worker_that_dies_is_told() -> None:
    loader = Loader(Dying(), batch_size=2, tops=["x"], workers=1, name="d")
    with pytest.raises(DataError) as error:
        next(loader)
    assert str(error.value) == (
        'layer "d": a process that makes batches ended before its time. '
        "It may have run out of memory: use fewer workers."
    )


STUCK = """
import os, time
from torrefy.data.loader import Loader
from torrefy.data.sources.source import Source

class Stuck(Source):
    def __len__(self): return 4
    def key(self, index): return str(index)
    def item(self, index):
        print(os.getpid(), flush=True)
        time.sleep(1000)

next(Loader(Stuck(), batch_size=1, tops=["x"], workers=1))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="a signal of Unix")
def test_workers_end_with_a_process_that_is_killed_though_they_are_reading() -> None:
    process = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert int(process.stdout.readline()) != process.pid
    process.kill()
    process.communicate(timeout=20)  # until the last process that could write has ended


# --- Bad items ---


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_picture_stops_or_is_passed_over_and_counted(photos: Path, workers: int) -> None:
    (photos / "p 1.png").write_bytes(b"")
    (photos / "p 2.png").unlink()

    def loader(bad: str) -> Loader:
        return Loader(
            list_source(photos / "list.txt", f"{photos}/"),
            batch_size=3, tops=["data", "x"], workers=workers, bad=bad, name="d",
        )  # fmt: skip

    strict = loader("fail")
    for _ in range(2):  # it stays where it is
        with pytest.raises(PictureError) as error:
            next(strict)
        assert str(error.value) == (
            f'{photos}/list.txt:2:1: layer "d": {photos}/p 1.png: the file is empty'
        )
    lenient = loader("skip")
    assert taken(lenient, 4) == [0, 3, 3, 3, 4, 5] * 2
    assert lenient.skipped == 4
    places = [f"{photos}/list.txt:{line}:1" for line in (2, 3)]
    assert sorted(lenient.bad) == places
    assert lenient.bad[places[0]] == f"{places[0]}: {photos}/p 1.png: the file is empty"
    assert lenient.bad[places[1]].startswith(f"{places[1]}: {photos}/p 2.png: no such file")
    assert lenient.state_dict()["skipped"] == 4
    strict.close()
    lenient.close()


def test_a_source_of_nothing_but_bad_items_is_told(photos: Path) -> None:
    for path in photos.glob("*.png"):
        path.write_bytes(b"")
    loader = Loader(
        list_source(photos / "list.txt", f"{photos}/"),
        batch_size=3, tops=["data"], workers=0, bad="skip",
    )  # fmt: skip
    with pytest.raises(DataError) as error:
        next(loader)
    assert str(error.value) == (
        f"none of 6 items in a row can be used; the first: {photos}/list.txt:1:1: "
        f"{photos}/p 0.png: the file is empty"
    )


def test_a_label_outside_the_classes_is_told_with_its_record(digits: Path) -> None:
    loader = open_loader(data_layer(digits), "train", digits.parent, workers=0)
    next(loader)
    loader.expect_labels(8)
    next(loader)
    with pytest.raises(RecordError) as error:
        next(loader)
    assert str(error.value) == (
        f'{digits} (key "00000008"): layer "d": the label is 8, but there are 8 classes, '
        "from 0 to 7"
    )
    loader.expect_labels(8, ignore_label=8)
    with pytest.raises(RecordError, match="the label is 9"):
        next(loader)


@pytest.mark.parametrize(
    ("datum", "transform", "told"),
    [
        (
            np.zeros((3, 4, 5), np.uint8),
            "mean_value: 1 mean_value: 2",
            "the picture has 3 channels, but mean_value is given 2 times",
        ),
        (
            np.zeros((1, 4, 5), np.uint8),
            "crop_size: 6",
            "the picture is 5x4, smaller than crop_size 6",
        ),
    ],
)
def test_a_record_that_does_not_fit_is_told_with_its_key(
    lmdb: Callable[..., Path], datum: np.ndarray, transform: str, told: str
) -> None:
    folder = lmdb([(b"007", write_datum(datum, 0))])
    loader = open_loader(data_layer(folder, transform=transform), "test", folder.parent, workers=0)
    with pytest.raises(RecordError) as error:
        next(loader)
    assert str(error.value) == f'{folder} (key "007"): layer "d": {told}'


def test_pictures_of_several_sizes_make_no_batch(lmdb: Callable[..., Path]) -> None:
    sizes = [(1, 4, 5), (3, 4, 5)]
    folder = lmdb([(b"%d" % i, write_datum(np.zeros(s, "u1"), 0)) for i, s in enumerate(sizes)])
    loader = open_loader(data_layer(folder), "test", folder.parent, workers=0)
    with pytest.raises(DataError) as error:
        next(loader)
    assert str(error.value) == (
        f'{folder} (key "1"): layer "d": the items of a batch differ in their shapes: "data" is '
        f'3x4x5 here, and 1x4x5 in {folder} (key "0"). Crop or resize them, or take batches of 1.'
    )


def test_more_tops_than_parts_are_told() -> None:
    loader = Loader(numbers(3), batch_size=1, tops=["x", "y"], workers=0)
    with pytest.raises(DataError, match="there are 2 tops, but an item has 1 part"):
        next(loader)


def test_data_that_have_changed_are_not_resumed() -> None:
    state = Loader(numbers(3), batch_size=1, tops=["x"], workers=0).state_dict()
    with pytest.raises(DataError) as error:
        Loader(numbers(4), batch_size=1, tops=["x"], workers=0, name="d").load_state_dict(state)
    assert str(error.value) == (
        'layer "d": the data have changed: there are 4 items, and there were 3 when the state '
        "was kept"
    )


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"rank": 2, "world": 2}, {"bad": "ignore"}])
def test_arguments_that_can_not_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TorrefyError):
        Loader(numbers(3), **{"batch_size": 1, "tops": ["x"], **options})


def test_workers_are_taken_where_they_pay(photos: Path, digits: Path) -> None:
    def workers(source: Source) -> int:
        return Loader(source, batch_size=1, tops=["x"]).workers

    assert workers(numbers(3)) == 0
    assert workers(LMDBSource(digits)) == 0
    pictures = list_source(photos / "list.txt", f"{photos}/")
    assert pictures.heavy
    assert LMDBSource(Path(__file__).parents[1] / "golden/data/lmdb_encoded").heavy
    assert workers(pictures) <= 4


def test_all_that_a_worker_needs_can_be_sent_to_it(photos: Path, digits: Path) -> None:
    golden = Path(__file__).parents[1] / "golden/data"
    window = Window(f"{photos}/p 0.png", 1, 0, 0, 4, 4)
    sources = [
        (list_source(photos / "list.txt", f"{photos}/"), Transformer(crop=4, mean=[1.0])),
        (LMDBSource(digits), Transformer(mirror=True)),
        (LevelDBSource(golden / "leveldb"), Transformer()),
        (HDF5Source([str(golden / "part0.h5")], ["data", "label"]), None),
        (WindowSource([window], [window], 0.5), WindowTransformer(crop=4)),
        (numbers(4, True), None),
    ]
    for source, transform in sources:
        loader = Loader(source, batch_size=2, tops=["x"], transform=transform, workers=0)
        first = next(loader)["x"]
        sent = pickle.loads(pickle.dumps(loader._making))
        assert torch.equal(sent[0].tensors["x"], first)


def test_labels_are_looked_for_where_they_are() -> None:
    def loader(**options: Any) -> Loader:
        source = ArraySource(np.arange(5), np.arange(5) * 10)
        return Loader(source, batch_size=5, tops=["label", "data"], workers=0, **options)

    fine = loader(labels={"label": LabelLimit(5, None), "other": LabelLimit(1, None)})
    assert next(fine)["data"].tolist() == [0, 10, 20, 30, 40]
    fine.expect_labels(4, top="label")
    with pytest.raises(RecordError, match="the label is 4, but there are 4 classes, from 0 to 3"):
        next(fine)
    fine.expect_labels(None, top="label")
    next(fine)


def test_an_interrupt_is_for_the_process_that_trains(photos: Path) -> None:
    loader = Loader(
        list_source(photos / "list.txt", f"{photos}/"), batch_size=2, tops=["data"], workers=2
    )
    running: Any
    running = loader._batches = loader._start()  # they may not have begun yet
    for worker in running._workers:
        os.kill(worker.pid, signal.SIGINT)
    for _ in range(12):
        next(loader)
    loader.close()
