"""Files of weights, read whole and written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

from torrefy.errors import Place, WeightsError, names_in, nearest_file
from torrefy.schema.source import kind_of

HEAD = 4096
"""How many bytes tell what a file is."""
PART = ".torrefy-*.part"
"""What files are called while they are written."""
STALE = 600.0
"""Seconds after which a half-written file is taken for that of a process that was killed."""


def read_whole(path: Path, what: str, suffix: str) -> memoryview:
    """A file's bytes, read-only, in memory of their own.

    Not a memory map: when someone cuts the file of a map short, touching it kills the process.

    Args:
        path: The file.
        what: What it should be, for messages: "a caffemodel".
        suffix: The ending of such files, for hints: ".caffemodel".

    Raises:
        WeightsError: no such file, not a file, empty, surely something else, too large for
            memory, or changed while it was read.
    """
    place = Place(str(path))
    try:
        with opened(path, what, suffix) as file:
            size = os.fstat(file.fileno()).st_size
            buffer = np.empty(size, np.uint8)
            filled = 0
            while filled < size and (count := file.readinto(buffer[filled:].data)):
                filled += count
            if filled < size:
                raise WeightsError("the file was cut short while it was read", place=place)
            buffer.setflags(write=False)
            return buffer.data
    except OSError as error:
        raise WeightsError(f"can't be read: {error.strerror}", place=place) from None
    except MemoryError:
        raise WeightsError(f"its {size} bytes don't fit into memory", place=place) from None


def opened(path: Path, what: str, suffix: str) -> FileIO:
    """A file, open at its first byte, that is not empty and not surely something else.

    Raises:
        WeightsError: as `read_whole`.
    """
    place = Place(str(path))
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            names = [name for name in names_in(path) if name.endswith(suffix)]
            hint = f"It holds {', '.join(names[:5])}." if names else ""
            raise WeightsError(f"this is a directory, not {what}", place=place, hint=hint)
        if not stat.S_ISREG(mode):
            raise WeightsError(f"this is a device or a pipe, not {what}", place=place)
        file = FileIO(path)
        try:
            head = file.read(HEAD)
            if not head:
                raise WeightsError("the file is empty", place=place)
            kind = kind_of(head)
            if kind and kind != what and not kind.startswith("a binary"):
                raise WeightsError(f"this is {kind}, not {what}", place=place)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file
    except FileNotFoundError:
        raise WeightsError("no such file", place=place, hint=nearest_file(path)) from None
    except OSError as error:
        raise WeightsError(f"can't be read: {error.strerror}", place=place) from None


def sweep(folder: Path) -> None:
    """Remove what processes that were killed left half-written in a folder: files, and folders."""
    for part in folder.glob(PART):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > STALE:
                if part.is_dir():
                    shutil.rmtree(part)
                else:
                    part.unlink()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` once everything is on the disk.

    Until then, and for good when anything fails, `path` stays as it was. The file lies in the
    same folder; a link is followed, not replaced; an existing file's permissions are kept.

    Raises:
        WeightsError: it can't be written.
    """
    place = Place(str(path))
    temporary: Path | None = None
    try:
        target = path.resolve()
        exists = target.exists()
        if exists and not target.is_file():
            raise WeightsError("this is no file that could be replaced", place=place)
        temporary = target.with_name(PART.replace("*", secrets.token_hex(8)))
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if exists:
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except OSError as error:
        raise WeightsError(f"can't be written: {error.strerror or error}", place=place) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
