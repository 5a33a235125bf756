"""Files of features by their endings: .npz, .h5, .parquet, and an LMDB for each blob."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torrefy.data.create import write_lmdb
from torrefy.data.parquet import pyarrow
from torrefy.data.sources.datum import DatumSource
from torrefy.data.sources.lmdb import LMDBSource
from torrefy.errors import DataError, Place, TorrefyError
from torrefy.features.table import Features, features_of, read_features, write_features
from torrefy.schema import new_message

CHUNK = 1024
"""Rows that are written at once."""


@dataclass(frozen=True)
class Format:
    """A format of features."""

    name: str
    ending: str
    """What a file's name ends in; empty: it is a folder, or of any name."""
    write: Callable[[Path, Features], None]
    read: Callable[[Path], Features]


def format_of(path: Path | str, name: str = "") -> Format:
    """The format of a name; empty: that which a file's ending, or what is there, says.

    Raises:
        DataError: there is none.
    """
    path = Path(path)
    if name:
        return FORMATS[name]
    if path.is_dir() or path.name.endswith("lmdb"):
        return FORMATS["lmdb"]
    found = [one for one in FORMATS.values() if one.ending and path.suffix == one.ending]
    if not found:
        endings = ", ".join(one.ending for one in FORMATS.values() if one.ending)
        raise DataError(
            f'no format of features ends in "{path.suffix}"',
            place=Place(str(path)),
            hint=f"Take {endings}, or a name that ends in lmdb.",
        )
    return found[0]


def write(path: Path | str, features: Features, name: str = "") -> list[Path]:
    """Write features, all or nothing.

    Args:
        path: the file; of an LMDB the folder, or, of several blobs, what the folders' names begin
            with: "feats_lmdb_fc6".
        features: the features.
        name: the format, "npz", "h5", "parquet" or "lmdb"; empty: by the ending.

    Returns:
        What was written.

    Raises:
        TorrefyError: it can't be.
    """
    kind = format_of(path, name)
    if kind.name == "lmdb" and len(features.arrays) > 1:
        paths = []
        for blob, array in features.arrays.items():
            one = Path(path).with_name(f"{Path(path).name}_{blob.replace('/', '_')}")
            kind.write(one, Features(**{**features.__dict__, "arrays": {blob: array}}))
            paths.append(one)
        return paths
    kind.write(Path(path), features)
    return [Path(path)]


def read(path: Path | str) -> Features:
    """Features of a file or LMDB that `write` wrote, or of another's.

    Raises:
        DataError: there is none, or it holds something else.
    """
    path = Path(path)
    if not path.exists():
        return read_features(path)  # which says so
    return format_of(path).read(path)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name to write to, which then takes the path's place."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise DataError(f"can't be written: {error.strerror}", place=Place(str(path))) from None
    finally:
        part.unlink(missing_ok=True)
        shutil.rmtree(part, ignore_errors=True)


# --- HDF5 ---


def _write_h5(path: Path, features: Features) -> None:
    import h5py

    text = h5py.string_dtype()
    with _beside(path) as part, h5py.File(part, "w") as file:
        for blob, array in features.arrays.items():
            made = file.create_dataset(blob, array.shape, array.dtype)
            for row in range(0, len(array), CHUNK):
                made[row : row + CHUNK] = array[row : row + CHUNK]
        file.create_dataset("path", data=[_plain(name) for name in features.paths], dtype=text)
        if features.labels is not None:
            file.create_dataset("label", data=features.labels)
            file.create_dataset("classes", data=[_plain(n) for n in features.classes], dtype=text)
        for name, texts in (("group", features.groups), ("part", features.parts)):
            if texts:
                file.create_dataset(name, data=[_plain(one) for one in texts], dtype=text)
        file.attrs["origin"] = _origin(features)


def _read_h5(path: Path) -> Features:
    import h5py

    place = Place(str(path))
    held: dict[str, Any] = {}

    def visit(name: str, found: Any) -> None:
        if isinstance(found, h5py.Dataset):
            texts = h5py.check_string_dtype(found.dtype) is not None
            held[name] = np.asarray(found.asstr()[:], np.str_) if texts else found[:]

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
            if "origin" in file.attrs:
                held["origin"] = np.asarray(str(file.attrs["origin"]))
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, MemoryError) as error:
        raise DataError(f"this is no HDF5 of features: {error}", place=place) from None
    try:
        return features_of(held)
    except TorrefyError as error:
        raise error.within(place=place) from None


# --- Parquet ---


def _write_parquet(path: Path, features: Features) -> None:
    arrow, parquet = pyarrow()
    names = list(features.arrays)
    meta = {"torrefy": _origin(features), "classes": json.dumps(features.classes)}
    writer: Any = None
    with _beside(path) as part:
        try:
            for row in range(0, max(len(features), 1), CHUNK):
                rows = slice(row, row + CHUNK)
                columns: dict[str, Any] = {
                    "path": arrow.array([_plain(name) for name in features.paths[rows]])
                }
                if features.labels is not None:
                    columns["label"] = arrow.array(features.labels[rows])
                for name, texts in (("group", features.groups), ("part", features.parts)):
                    if texts:
                        columns[name] = arrow.array([_plain(one) for one in texts[rows]])
                for name in names:
                    flat = np.ascontiguousarray(features.arrays[name][rows])
                    flat = flat.reshape(len(flat), -1)
                    values = arrow.array(flat.ravel())
                    columns[name] = arrow.FixedSizeListArray.from_arrays(values, flat.shape[1])
                table = arrow.table(columns).replace_schema_metadata(meta)
                writer = writer or parquet.ParquetWriter(part, table.schema)
                writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()


def _read_parquet(path: Path) -> Features:
    arrow, parquet = pyarrow()
    place = Place(str(path))
    held: dict[str, Any] = {}
    try:
        table = parquet.read_table(path)
        for name in table.column_names:
            column = table.column(name).combine_chunks()
            if arrow.types.is_fixed_size_list(column.type):
                width = column.type.list_size
                held[name] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
            elif arrow.types.is_string(column.type):
                held[name] = np.asarray(column.to_pylist(), np.str_)
            else:
                held[name] = column.to_numpy(zero_copy_only=False)
        meta = table.schema.metadata or {}
        if b"torrefy" in meta:
            held["origin"] = np.asarray(meta[b"torrefy"].decode())
        if b"classes" in meta and "label" in held:
            held["classes"] = np.asarray(json.loads(meta[b"classes"]), np.str_)
    except (OSError, ValueError, arrow.ArrowException) as error:
        told = str(error).splitlines()[0]
        raise DataError(f"this is no Parquet file of features: {told}", place=place) from None
    try:
        return features_of(held)
    except TorrefyError as error:
        raise error.within(place=place) from None


# --- LMDB ---


def _write_lmdb(path: Path, features: Features) -> None:
    """Datum messages with float_data, as Caffe's extract_features writes; names in the keys."""
    (array,) = features.arrays.values()

    def records() -> Iterator[tuple[bytes, bytes]]:
        for i, name in enumerate(features.paths):
            datum = new_message("caffe.Datum")
            row = np.asarray(array[i], np.float32)
            shape = (*row.shape, 1, 1, 1)[:3]
            datum.channels, datum.height, datum.width = shape
            datum.float_data.extend(row.ravel().tolist())
            if features.labels is not None:
                datum.label = int(features.labels[i])
            key = f"{i:08d}_{_plain(name)}".encode()
            yield key[:511], datum.SerializeToString()

    write_lmdb(path, records())


def _read_lmdb(path: Path) -> Features:
    source: DatumSource = LMDBSource(path)
    rows, labels, names = [], [], []
    for i in range(len(source)):
        values, label = source.item(i)
        rows.append(np.asarray(values, np.float32).reshape(-1))
        labels.append(int(label))
        names.append(source.name(i).decode("utf-8", "replace").split("_", 1)[-1])
    if len({len(row) for row in rows}) != 1:
        raise DataError("the records have different lengths", place=Place(str(path)))
    return Features(
        {path.name: np.stack(rows)},
        tuple(names),
        np.asarray(labels, np.int64),
        tuple(str(i) for i in range(max(labels) + 1)),
    )


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _origin(features: Features) -> str:
    origin = {**features.origin, "arrays": list(features.arrays)}
    return json.dumps(origin, ensure_ascii=False)


FORMATS = {
    one.name: one
    for one in (
        Format("npz", ".npz", write_features, read_features),
        Format("h5", ".h5", _write_h5, _read_h5),
        Format("parquet", ".parquet", _write_parquet, _read_parquet),
        Format("lmdb", "", _write_lmdb, _read_lmdb),
    )
}
"""The formats by name."""
