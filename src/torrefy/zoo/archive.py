"""Members read out of a package's archive; nothing is unpacked to disk."""

from __future__ import annotations

import contextlib
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import IO, cast

from torrefy.errors import ZooError, did_you_mean

CHUNK = 1 << 20
MOST_BYTES = 8 << 30
"""An archive that unpacks to more than this before its member is not read on."""

_BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError,
    RuntimeError, ValueError,
)  # fmt: skip
"""What the two libraries raise for archives that are cut off, encrypted or made up."""


def read_member(archive: Path, member: str) -> Iterator[bytes]:
    """A member's bytes, chunk by chunk. Links and folders are no members.

    A wheel's member, or a Debian package's, is named by its whole path, a source archive's by the
    path below the one folder that all of it stands in.

    Raises:
        ZooError: no such member (the nearest name is told), or the archive can't be read.
    """
    names: list[str] = []
    for _, chunks in read_members(archive, [member], names):
        yield from chunks
        return
    raise ZooError(f'{archive.name} holds no "{member}"', hint=did_you_mean(member, names))


def read_members(
    archive: Path, members: Collection[str], names: list[str] | None = None
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The members of those names that there are, each once: its name, and its bytes in chunks.

    The archive is read once, so that a member's chunks are to be had until the next is asked for.

    Args:
        archive: the file.
        members: names as for `read_member`.
        names: the names of all members that are passed on the way are added to it.

    Raises:
        ZooError: the archive can't be read.
    """
    left = set(members)
    try:
        for name, opened in _files(archive):
            if names is not None:
                names.append(name)
            if name in left:
                left.remove(name)
                yield name, _chunks(archive, opened)
                if not left:
                    return
    except _BROKEN as error:
        raise _unreadable(archive, error) from error


def _chunks(archive: Path, opened: Callable[[], IO[bytes]]) -> Iterator[bytes]:
    try:
        with opened() as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except _BROKEN as error:
        raise _unreadable(archive, error) from error


def _unreadable(archive: Path, error: Exception) -> ZooError:
    return ZooError(f"{archive.name} can't be read: {error}")


def _files(archive: Path) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    """Each file's name and what opens it, in the archive's order."""
    if archive.suffix in (".whl", ".zip"):
        wheel = archive.suffix == ".whl"
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                if _is_file(info):
                    name = info.filename if wheel else _below_top(info.filename)
                    yield name, partial(zipped.open, info)
        return
    debian = archive.suffix == ".deb"
    with _open_debian(archive) if debian else tarfile.open(archive) as tarred:
        for entry in tarred:
            if entry.offset_data > MOST_BYTES:
                raise ZooError(f"{archive.name} unpacks to more than {MOST_BYTES >> 30} GiB")
            if entry.isreg():
                name = entry.name
                inside = name.removeprefix("./") if debian else _below_top(name)
                yield inside, partial(_open_entry, tarred, entry)


def _open_entry(tarred: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    return cast(IO[bytes], tarred.extractfile(entry))  # None only of what is no file


@contextlib.contextmanager
def _open_debian(archive: Path) -> Generator[tarfile.TarFile]:
    """The files of a Debian package: an ar archive with a tar archive in it, data.tar.xz or so."""
    with archive.open("rb") as file:
        if file.read(8) != b"!<arch>\n":
            raise tarfile.ReadError("this is no Debian package")
        while len(head := file.read(60)) == 60:
            name, size = head[:16].decode("ascii").strip(" /"), int(head[48:58])
            if size < 0:
                raise tarfile.ReadError(f"{name} has {size} bytes")
            if name.startswith("data.tar"):
                if Path(name).suffix not in (".tar", ".gz", ".xz", ".bz2"):
                    raise tarfile.ReadError(f"its files are in {name}, which can't be unpacked")
                with tarfile.open(fileobj=file, mode="r|*") as tarred:
                    yield tarred
                return
            file.seek(size + size % 2, 1)
    raise tarfile.ReadError("this Debian package has no data.tar")


def _is_file(info: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(info.external_attr >> 16)
    return not info.is_dir() and kind in (0, stat.S_IFREG)


def _below_top(name: str) -> str:
    return name.removeprefix("./").partition("/")[2]
