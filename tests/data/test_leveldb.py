"""LevelDB read without its library: tables, logs, compression, and every damage refused."""

from __future__ import annotations

import pickle
import random
import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrefy.data.sources.leveldb import LevelDBSource
from torrefy.data.sources.snappy import uncompress
from torrefy.errors import DataError, TorrefyError

GOLDEN = Path(__file__).parents[1] / "golden/data"
WRITTEN = Path(__file__).parent / "leveldb"
"""Written by LevelDB 1.22: keys 0 to 119 in a compressed table; in the log keys 60 to 159 anew,
and every tenth deleted."""


def value(i: int) -> bytes:
    return (b"%d " % i) * (i % 50 * 2) + random.Random(i).randbytes(i % 7 * 3)


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as error:
        LevelDBSource(path)
    return str(error.value).replace(f"{path.parent}/", "")


def test_the_newest_of_table_and_log_is_read_and_what_is_deleted_is_gone() -> None:
    source = LevelDBSource(WRITTEN)
    found = {source.name(i): source.record(i) for i in range(len(source))}
    expected = {b"%04d" % i: value(i + 1000 if i >= 60 else i) for i in range(160) if i % 10}
    assert found == expected
    assert list(found) == sorted(found)


def log(*records: bytes) -> bytes:
    """LevelDB's log: records in pieces that don't cross blocks of 32 KiB."""
    made = bytearray()
    for record in records:
        first, rest = True, record
        while True:
            left = 32768 - len(made) % 32768
            if left < 7:
                made += b"\0" * left
                continue
            piece, rest = rest[: left - 7], rest[left - 7 :]
            kind = (2 if first else 3) if rest else (1 if first else 4)
            made += struct.pack("<IHB", 0, len(piece), kind) + piece
            first = False
            if not rest:
                break
    return bytes(made)


def varint(number: int) -> bytes:
    made = b""
    while number > 127:
        made, number = made + bytes([number & 127 | 128]), number >> 7
    return made + bytes([number])


@pytest.fixture
def unflushed(tmp_path: Path) -> tuple[Path, dict[bytes, bytes]]:
    """A database that was never opened again: all of it is in the log, in one batch."""
    chance = random.Random(0)
    records = {b"%03d" % i: chance.randbytes(chance.choice((0, 100, 40000))) for i in range(40)}
    batch = struct.pack("<QI", 1, len(records))
    for key, held in records.items():
        batch += b"\x01" + varint(len(key)) + key + varint(len(held)) + held
    folder = tmp_path / "db"
    folder.mkdir()
    (folder / "CURRENT").write_bytes(b"MANIFEST-000002\n")
    (folder / "MANIFEST-000002").write_bytes(log(b"\x02\x03\x09\x00\x03\x04\x04\x00"))
    (folder / "000003.log").write_bytes(log(batch))
    (folder / "000001.log").write_bytes(b"of before, and not to be read")
    return folder, records


def test_values_in_many_pieces_of_a_log_are_put_together(
    unflushed: tuple[Path, dict[bytes, bytes]],
) -> None:
    folder, records = unflushed
    source = pickle.loads(pickle.dumps(LevelDBSource(folder)))
    assert {source.name(i): source.record(i) for i in range(len(source))} == records


def test_a_batch_that_was_not_written_to_its_end_is_not_there(
    unflushed: tuple[Path, dict[bytes, bytes]],
) -> None:
    folder, _ = unflushed
    file = folder / "000003.log"
    file.write_bytes(file.read_bytes()[:-1])
    assert refusal(folder) == "db: the database is empty"


def test_what_is_no_leveldb_is_refused_in_one_line(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "leveldb", tmp_path / "train_leveldb")
    assert refusal(tmp_path / "train_levledb") == (
        'train_levledb: no such database. Did you mean "train_leveldb"?'
    )
    assert refusal(GOLDEN / "lmdb_gray") == (
        "lmdb_gray: this folder is no LevelDB. It is an LMDB: give data_param { backend: LMDB }."
    )
    assert refusal(GOLDEN / "list.txt") == "list.txt: this is a file; a LevelDB is a folder"
    table = tmp_path / "train_leveldb/000005.ldb"
    whole = table.read_bytes()
    table.write_bytes(whole[:9000])
    assert refusal(table.parent) == (
        "train_leveldb: 000005.ldb is cut off or damaged: it has no end"
    )
    table.unlink()
    assert refusal(table.parent) == "train_leveldb: the file 000005.ldb is missing"
    (table.parent / "CURRENT").write_bytes(b"../../etc/passwd\n")
    assert refusal(table.parent) == "train_leveldb: damaged: CURRENT names no manifest"


def test_whatever_the_bytes_are_nothing_but_an_error_comes_of_it(tmp_path: Path) -> None:
    folder = shutil.copytree(WRITTEN, tmp_path / "db")
    files = [p for p in sorted(folder.iterdir()) if p.stat().st_size]
    whole = {path: path.read_bytes() for path in files}
    outcomes = set()
    for seed in range(300):
        chance = random.Random(seed)
        for path, data in whole.items():
            path.write_bytes(data)
        path = chance.choice(files)
        data = bytearray(whole[path])
        for _ in range(chance.choice((1, 3, 20))):
            near = len(data) - chance.randrange(min(len(data), 300)) - 1
            data[chance.choice((near, chance.randrange(len(data))))] = chance.randrange(256)
        path.write_bytes(data[: chance.randrange(len(data))] if seed % 4 == 0 else data)
        try:
            source = LevelDBSource(folder)
            for i in range(len(source)):
                source.record(i)
            outcomes.add("read")
        except TorrefyError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


# --- Snappy ---


def test_literals_and_copies_are_undone() -> None:
    assert uncompress(b"\x00") == b""
    assert uncompress(b"\x03\x08abc") == b"abc"
    assert uncompress(b"\x0a\x08abc\x0d\x03") == b"abcabcabca"  # a copy of itself, 1 byte of offset
    assert uncompress(b"\x06\x08abc\x0a\x03\x00") == b"abcabc"  # 2 bytes
    assert uncompress(b"\x06\x08abc\x0b\x03\x00\x00\x00") == b"abcabc"  # 4 bytes
    assert uncompress(b"\xc8\x01\xf0\xc7" + b"x" * 200) == b"x" * 200  # a length of its own


@given(st.binary(max_size=60))
def test_whatever_is_uncompressed_ends(data: bytes) -> None:
    try:
        assert len(uncompress(data)) <= 64 * len(data)
    except ValueError:
        pass
