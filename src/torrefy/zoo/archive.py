"""One member read out of a package's archive; nothing is unpacked to disk."""

from __future__ import annotations

import contextlib
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO

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
    try:
        with _open_member(archive, member) as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except _BROKEN as error:
        raise ZooError(f"{archive.name} can't be read: {error}") from error


@contextlib.contextmanager
def _open_member(archive: Path, member: str) -> Generator[IO[bytes]]:
    wheel = archive.suffix == ".whl"
    names: list[str] = []
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                if _is_file(info):
                    names.append(info.filename if wheel else _below_top(info.filename))
                    if names[-1] == member:
                        with zipped.open(info) as file:
                            yield file
                        return
    else:
        debian = archive.suffix == ".deb"
        with _open_debian(archive) if debian else tarfile.open(archive) as tarred:
            for entry in tarred:
                if entry.offset_data > MOST_BYTES:
                    raise ZooError(f"{archive.name} unpacks to more than {MOST_BYTES >> 30} GiB")
                if entry.isreg():
                    name = entry.name
                    names.append(name.removeprefix("./") if debian else _below_top(name))
                    content = tarred.extractfile(entry) if names[-1] == member else None
                    if content is not None:
                        with content as file:
                            yield file
                        return
    raise ZooError(f'{archive.name} holds no "{member}"', hint=did_you_mean(member, names))


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
