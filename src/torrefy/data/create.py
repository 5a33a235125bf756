"""Databases written: pictures of a list or a folder to an LMDB that Caffe reads."""

from __future__ import annotations

import io
import itertools
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from torrefy.data.draws import permutation
from torrefy.data.sources.datum import write_datum
from torrefy.data.sources.image_list import PictureSource
from torrefy.errors import DataError, PictureError, Place, RecordError

COMMIT = 1000
"""Records that are written at once."""
_FIRST_SIZE = 1 << 26
MOST_KEY = 511
"""Bytes of a key; LMDB's own limit."""


@dataclass
class Created:
    """What was written."""

    records: int = 0
    bad: dict[str, str] = field(default_factory=dict)
    """Where pictures are named that were passed over, and what is wrong with each."""


def create_lmdb(
    target: Path | str,
    source: PictureSource,
    *,
    names: Iterable[str] | None = None,
    encoded: bool = False,
    shuffle: int | None = None,
    same_size: bool = False,
    bad: str = "fail",
    told: Callable[[int], None] | None = None,
) -> Created:
    """Write an LMDB of Datum messages, as Caffe's convert_imageset: all of it or nothing.

    Keys are a number of eight digits, "_" and the picture's name, in the order of writing.

    Args:
        target: the folder to be made.
        source: the pictures and labels, resized and in the colours that it says.
        names: what the pictures are called in the keys; None: their files.
        encoded: keep pictures as files: their own bytes where they are not resized or made grey,
            else PNG. Smaller, and slower to read.
        shuffle: the seed of another order than the source's; None: its order.
        same_size: refuse pictures of another size than the first.
        bad: "fail": a picture that can't be read is an error. "skip": it is left out and told.
        told: called with the number of pictures done.

    Raises:
        DataError: the target exists or can't be written; no picture is left.
        PictureError, RecordError: a picture can't be read, or has another size; a label is no
            whole number of 32 bits.
    """
    called = list(names) if names is not None else list(source.files)
    order = range(len(source)) if shuffle is None else permutation(len(source), shuffle).tolist()
    created = Created()

    def records() -> Iterator[tuple[bytes, bytes]]:
        shape: tuple[int, ...] | None = None
        for done, index in enumerate(order, 1):
            try:
                record, found = _record(source, index, encoded)
                if same_size and shape not in (None, found):
                    raise RecordError(
                        f"the picture is {found[1]}x{found[0]}, and the first one "
                        f"{(shape or found)[1]}x{(shape or found)[0]}",
                        place=source.place(index),
                    )
            except (PictureError, RecordError) as error:
                if bad != "skip":
                    raise
                created.bad[str(source.place(index))] = str(error)
            else:
                shape = shape or found
                key = f"{created.records:08d}_{called[index]}"
                created.records += 1
                yield os.fsencode(key)[:MOST_KEY], record
            if told is not None:
                told(done)

    if not write_lmdb(target, records()):
        raise DataError("no picture can be read: nothing is written", place=Place(str(target)))
    return created


def write_lmdb(target: Path | str, records: Iterable[tuple[bytes, bytes]]) -> int:
    """Write an LMDB, all of it or nothing.

    Args:
        target: the folder to be made.
        records: keys and values, in the order of the keys. What is raised while they are made
            leaves nothing behind.

    Returns:
        How many there were. Without any nothing is written.

    Raises:
        DataError: the target exists or can't be written.
    """
    import lmdb

    target = Path(target)
    place = Place(str(target))
    if target.exists():
        raise DataError("this exists; it is not overwritten", place=place)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    count = 0
    try:
        part.mkdir()
        with lmdb.open(str(part), map_size=_FIRST_SIZE, lock=False, sync=False) as database:
            left = iter(records)
            while waiting := list(itertools.islice(left, COMMIT)):
                _commit(database, waiting)
                count += len(waiting)
            database.sync(True)
        if count:
            (part / "lock.mdb").unlink(missing_ok=True)
            part.rename(target)
    except lmdb.Error as error:
        full = "Input/output error" in str(error)  # what LMDB says of a full disk
        hint = "Is the disk full?" if full else ""
        raise DataError(f"can't be written: {error}", place=place, hint=hint) from None
    except OSError as error:
        raise DataError(f"can't be written: {error.strerror}", place=place) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return count


def _commit(database: object, records: list[tuple[bytes, bytes]]) -> None:
    """Write records, in a map that is doubled until they fit."""
    import lmdb

    store: lmdb.Environment = database  # type: ignore[assignment]
    while True:
        try:
            with store.begin(write=True) as transaction:
                for key, value in records:
                    transaction.put(key, value, append=True)
            return
        except lmdb.MapFullError:
            store.set_mapsize(2 * store.info()["map_size"])


def _record(source: PictureSource, index: int, encoded: bool) -> tuple[bytes, tuple[int, ...]]:
    """A picture's Datum, and its height and width."""
    label = float(source.labels[index])
    if label != int(label) or not -(1 << 31) <= label < 1 << 31:
        raise RecordError(
            f"the label {label:g} is no whole number of 32 bits", place=source.place(index)
        )
    file = source.files[index]
    picture: NDArray[np.uint8] = source.read(index)
    whole = source.size is None and source.colour != "GRAY"
    picture = source.resized(picture)
    kept: NDArray[np.uint8] | bytes = picture.transpose(2, 0, 1)
    if encoded:
        kept = Path(file).read_bytes() if whole else _png(picture)
    return write_datum(kept, int(label)), picture.shape[:2]


def _png(picture: NDArray[np.uint8]) -> bytes:
    """H×W×C bytes in BGR or grey as a PNG."""
    pixels = picture[..., 0] if picture.shape[2] == 1 else picture[..., ::-1]
    with io.BytesIO() as file:
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
        return file.getvalue()
