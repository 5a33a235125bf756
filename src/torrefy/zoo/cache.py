"""The cache: files kept on disk, each recognised by its hash."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from torrefy.errors import ZooError

VARIABLE = "TORREFY_CACHE"
"""The environment variable that names another folder than the platform's."""

log = logging.getLogger("torrefy.zoo")


@dataclass(frozen=True)
class Digest:
    """How a file is recognised: "sha256" or "sha1", in small hexadecimal digits."""

    algorithm: str
    value: str


def cache_folder() -> Path:
    """Where fetched files are kept: TORREFY_CACHE, else the platform's cache folder for a user."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    return platformdirs.user_cache_path("torrefy", appauthor=False)


def hash_of(path: Path, algorithm: str) -> str | None:
    """A kept file's hash, or None when there is no such file.

    The file is read only when its size or time differ from those that stand with the last hash
    in the stamp beside it.
    """
    try:
        status = path.stat()
        seen = {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    except OSError:
        return None
    stamp = _read_stamp(path)
    if stamp.get("seen") == seen and algorithm in stamp:
        return str(stamp[algorithm])
    found = read_hash(path, algorithm)
    _write_stamp(path, {"seen": seen, algorithm: found})
    return found


def read_hash(path: Path, algorithm: str) -> str:
    """A file's hash, from reading all of it."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise ZooError(f"{path}: can't be read: {error.strerror}") from error


def keep(path: Path, chunks: Iterator[bytes], limit: int, digest: Digest | None = None) -> None:
    """Write a file whole or not at all: nothing is kept that is too long or has another hash.

    The caller holds the lock of the folder (`locked`), so that what a killed process left
    behind is just written over.

    Raises:
        ZooError: too long, another hash, or the folder can't be written to.
    """
    part = path.with_name(f".{path.name}.part")
    hasher = hashlib.new(digest.algorithm if digest else "sha256")
    size = 0
    try:
        with _writing(path.parent), part.open("wb") as file:
            for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise ZooError(f"more than the {limit} bytes expected; nothing was kept")
                hasher.update(chunk)
                file.write(chunk)
        if digest and hasher.hexdigest() != digest.value:
            raise ZooError(f"{wrong_hash(digest, hasher.hexdigest())}; nothing was kept")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    hash_of(path, hasher.name)


def wrong_hash(expected: Digest, found: str) -> str:
    """The message about a file that is not the one expected."""
    return f"wrong {expected.algorithm}: expected {expected.value}, found {found}"


@contextlib.contextmanager
def locked(folder: Path) -> Generator[None]:
    """Hold a folder of the cache, made where needed, against other processes."""
    import filelock

    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            log.info("waiting for another process that fetches into %s", folder)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _writing(folder: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise ZooError(
            f"the cache {folder} can't be written to: {error.strerror or error}",
            hint=f"The environment variable {VARIABLE} names another folder.",
        ) from error


def _stamp_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.json")


def _read_stamp(path: Path) -> dict[str, object]:
    try:
        stamp = json.loads(_stamp_path(path).read_bytes())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _write_stamp(path: Path, stamp: dict[str, object]) -> None:
    """A stamp only saves reading the file again, so a cache that is read-only goes without."""
    target = _stamp_path(path)
    part = target.with_name(f"{target.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        try:
            part.write_text(json.dumps(stamp), encoding="utf-8")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
