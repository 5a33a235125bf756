"""LMDB read without its library: every record, and every damage refused."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.conftest import PAGE, lmdb_file

from torrefy.data.sources.datum import write_datum
from torrefy.data.sources.lmdb import LMDBSource
from torrefy.errors import DataError, RecordError, TorrefyError

GOLDEN = Path(__file__).parents[1] / "golden/data"


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as error:
        LMDBSource(path)
    return str(error.value).replace(f"{path.parent}/", "")


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(st.binary(min_size=1, max_size=60), st.integers(0, 9000), max_size=150))
def test_all_records_are_found(tmp_path_factory: pytest.TempPathFactory, sizes: dict) -> None:
    path = tmp_path_factory.mktemp("db") / "data.mdb"
    records = [(key, random.Random(size).randbytes(size)) for key, size in sorted(sizes.items())]
    path.write_bytes(lmdb_file(records))
    if not records:
        assert refusal(path) == "data.mdb: the database is empty"
        return
    source = LMDBSource(path)
    assert [(source.name(i), source.record(i)) for i in range(len(source))] == records


@pytest.mark.parametrize("reopened", [False, True])
def test_what_the_library_writes_is_read(tmp_path: Path, reopened: bool) -> None:
    lmdb = pytest.importorskip("lmdb")
    chance = random.Random(0)
    records = {b"%06d" % i: chance.randbytes(chance.choice((10, 300, 9000))) for i in range(900)}
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 26) as database:
        with database.begin(write=True) as transaction:
            for key, value in records.items():
                transaction.put(key, value)
        if reopened:
            with database.begin(write=True) as transaction:
                for key in list(records)[::3]:
                    transaction.delete(key)
                    del records[key]
    source = LMDBSource(tmp_path / "db")
    assert [(source.name(i), source.record(i)) for i in range(len(source))] == sorted(
        records.items()
    )


def test_a_source_can_be_sent_to_another_process(digits: Path) -> None:
    source = LMDBSource(digits)
    source.item(0)
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.item(3)[0], source.item(3)[0])


def test_what_is_no_database_is_refused_in_one_line(
    tmp_path: Path, lmdb: Callable[..., Path]
) -> None:
    lmdb([(b"k", b"v")], "train_lmdb")
    assert refusal(tmp_path / "train_lmbd") == (
        'train_lmbd: no such database. Did you mean "train_lmdb"?'
    )
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty") == "empty: there is no data.mdb in this folder"
    assert refusal(GOLDEN / "leveldb") == (
        "leveldb: there is no data.mdb in this folder. "
        "It is a LevelDB: give data_param { backend: LEVELDB }."
    )
    for data, told in (
        (b"", "f: the file is empty"),
        (b"x" * 100, "f: the database is cut off: it has 100 bytes"),
        (b"x" * 5000, "f: this is no LMDB, or one of a machine of another kind"),
    ):
        (tmp_path / "f").write_bytes(data)
        assert refusal(tmp_path / "f") == told


def test_a_database_that_is_cut_off_is_told(digits: Path) -> None:
    file = digits / "data.mdb"
    whole = file.read_bytes()
    file.write_bytes(whole[:-PAGE])
    assert refusal(digits) == (
        f"db: the database is cut off: it has {len(whole) - PAGE} bytes of {len(whole)}"
    )


def test_a_database_that_is_cut_off_while_it_is_read_does_no_harm(digits: Path) -> None:
    source = LMDBSource(digits)
    (digits / "data.mdb").write_bytes(b"")
    with pytest.raises(DataError, match=r"damaged: .* bytes more are expected than there are"):
        source.item(5)


def test_whatever_the_bytes_are_nothing_but_an_error_comes_of_it(tmp_path: Path) -> None:
    whole = (GOLDEN / "lmdb_gray/data.mdb").read_bytes()
    path = tmp_path / "data.mdb"
    outcomes = set()
    for seed in range(300):
        chance = random.Random(seed)
        data = bytearray(whole)
        for _ in range(chance.choice((1, 5, 20))):
            page = chance.randrange(len(data) // PAGE) * PAGE
            at = page + chance.randrange(chance.choice((40, 200, PAGE)))
            data[at] = chance.randrange(256)
        path.write_bytes(data[: chance.randrange(len(data))] if seed % 5 == 0 else data)
        try:
            source = LMDBSource(path)
            outcomes.add("opened")
            for i in range(len(source)):
                try:
                    source.item(i)
                except RecordError:
                    outcomes.add("record")
        except TorrefyError:
            outcomes.add("refused")
    assert outcomes == {"opened", "record", "refused"}


# --- Datum ---


def record_refusal(lmdb: Callable[..., Path], data: bytes) -> str:
    source = LMDBSource(lmdb([(b"00000007_cat", data)]))
    with pytest.raises(TorrefyError) as error:
        source.item(0)
    return str(error.value).replace(f"{Path(source.path).parent}/", "")


def test_floats_are_floats_and_a_missing_label_is_0(lmdb: Callable[..., Path]) -> None:
    values = np.random.default_rng(0).normal(size=(2, 1, 3)).astype(np.float32)
    picture, label = LMDBSource(lmdb([(b"k", write_datum(values, 0))])).item(0)
    np.testing.assert_array_equal(picture, values, strict=True)
    assert label == 0


def test_a_bad_datum_is_told_with_its_key(lmdb: Callable[..., Path]) -> None:
    datum = write_datum(np.zeros((3, 2, 2), np.uint8), 1)
    key = 'db (key "00000007_cat")'
    assert record_refusal(lmdb, b"\xff\xff") == f"{key}: this record is no Datum"
    assert record_refusal(lmdb, datum[:-3]) == f"{key}: this record is no Datum"
    few = datum.replace(b"\x08\x03", b"\x08\x04", 1)
    assert record_refusal(lmdb, few) == f"{key}: a Datum of 4x2x2 has 12 numbers"
    assert record_refusal(lmdb, b"\x28\x01") == f"{key}: a Datum of 0x0x0 has 0 numbers"
    encoded = write_datum(b"\x89PNG\r\n\x1a\nand no more", 1)
    assert record_refusal(lmdb, encoded) == (
        f"{key}: this is a PNG picture that is broken or cut short"
    )
    assert record_refusal(lmdb, write_datum(b"", 1)) == f"{key}: the file is empty"
