"""Sources: a card's files, beside it, from the cache or from the first place that has them."""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from torrefy.errors import Problem, ZooError, did_you_mean
from torrefy.zoo.archive import read_member, read_members
from torrefy.zoo.cache import (
    VARIABLE,
    Digest,
    cache_folder,
    hash_of,
    keep,
    locked,
    read_hash,
    wrong_hash,
)
from torrefy.zoo.debian import download_package
from torrefy.zoo.index import Index, digest_of_link

if TYPE_CHECKING:
    from unearth import Link

MOST_BYTES = 4 << 30
"""No file, and no archive that holds one, is longer."""
DIGITS = {"sha256": 64, "sha1": 40}
"""The hashes that a source can have, and how many hexadecimal digits they are."""

_DEBIAN = re.compile(r"debian:(?P<package>[a-z0-9][a-z0-9+.-]+)#(?P<path>[^/\s][^#]*[^/])")
_PYPI = re.compile(
    r"pypi:(?P<project>[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)"
    r"==(?P<version>[\w.!+-]+)#(?P<member>[^/\s][^#]*[^/])"
)


@dataclass(frozen=True)
class WebFile:
    """A file on a web server."""

    url: str


@dataclass(frozen=True)
class Member:
    """A file inside an archive of a Python package's release."""

    project: str
    version: str
    path: str


@dataclass(frozen=True)
class DebianMember:
    """A file inside a package of Debian's."""

    package: str
    path: str


@dataclass(frozen=True)
class Beside:
    """A file that lies beside the card."""

    path: str


SCHEMES = ("https", "pypi", "debian", "file")


def parse_url(url: str) -> WebFile | Member | DebianMember | Beside:
    """What a source's URL means.

    Raises:
        ZooError: none of SCHEMES, or not well formed.
    """
    scheme = url.partition(":")[0]
    if scheme == "file":
        path = url.removeprefix("file:")
        if not re.fullmatch(r"\w[\w.+-]*", path):
            raise ZooError(f'"{url}" is no file beside the card', hint='Write "file:name".')
        return Beside(path)
    if scheme == "debian":
        match = _DEBIAN.fullmatch(url)
        if match is None or ".." in match["path"].split("/"):
            raise ZooError(
                f'"{url}" is no package\'s file', hint='Write "debian:package#usr/share/file".'
            )
        return DebianMember(match["package"], match["path"])
    if scheme == "pypi":
        match = _PYPI.fullmatch(url)
        if match is None or ".." in match["member"].split("/"):
            raise ZooError(
                f'"{url}" is no package\'s file',
                hint='Write "pypi:name==version#member/of/the/archive".',
            )
        return Member(match["project"], match["version"], match["member"])
    if scheme == "https":
        try:
            parts = urlsplit(url)
            whole = bool(parts.hostname and PurePosixPath(parts.path).name) and url.isprintable()
        except ValueError:
            whole = False
        if not whole or " " in url:
            raise ZooError(f'"{url}" names no file', hint='Write "https://host/path/file".')
        return WebFile(url)
    raise ZooError(
        f'a source is a "https:", "pypi:", "debian:" or "file:" URL, found "{url}"',
        hint=did_you_mean(scheme, SCHEMES),
    )


def digest_of_source(source: Any) -> Digest:
    """A Source message's hash, the stronger one where it has both."""
    algorithm = "sha256" if source.sha256 else "sha1"
    return Digest(algorithm, getattr(source, algorithm).lower())


def kept_name(source: Any) -> str:
    """What a source's file is called in the cache: its own name and the start of its hash."""
    where = parse_url(source.url)
    path = urlsplit(where.url).path if isinstance(where, WebFile) else where.path
    name = PurePosixPath(re.sub(r"[^\w./+-]", "_", path))
    return f"{name.stem}-{digest_of_source(source).value[:8]}{name.suffix}"


def _member_path(source: Any) -> str:
    """A source's path in its package."""
    where = parse_url(source.url)
    if not isinstance(where, (Member, DebianMember)):
        raise ZooError(f'"{source.url}" lies in no package')
    return where.path


class Sources:
    """One model's files: those in the cache are checked and used, the others fetched.

    A context manager: at its end connections are closed and fetched archives removed.
    """

    def __init__(self, model: str, beside: Path | None = None, *, kind: str = "") -> None:
        """Take the model's name, and the folder of its card where that has files of its own.

        `kind` is a folder of the cache for what is no model.
        """
        self.model = model
        self.folder = cache_folder() / kind / model
        self._beside = beside or self.folder
        self._index = Index()
        self._archives: dict[str, Path] = {}
        self._until_end = contextlib.ExitStack()
        self._held = False

    def __enter__(self) -> Sources:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._index.close()
        self._until_end.close()

    def hold(self) -> None:
        """Hold the model's folder against other processes until the end."""
        if not self._held:
            self._until_end.enter_context(locked(self.folder))
            self._until_end.callback(shutil.rmtree, self._archive_folder, ignore_errors=True)
            self._held = True

    def get(self, sources: Sequence[Any], what: str) -> tuple[Path, Any]:
        """The file of the first of the Source messages that can be had, and that message.

        `what` is what errors call the file ("weights").

        Raises:
            ZooError: none can be had; it lists each and why.
        """
        kept = self._kept(sources)
        if kept is None:
            self.hold()  # another process may have fetched it while this one waited
            kept = self._kept(sources) or self._fetch(sources, what)
        return kept

    def get_all(
        self, sources: Sequence[Any], what: str, told: Callable[[int], None] | None = None
    ) -> list[Path]:
        """The files of sources that lie in one package, which is read once for all.

        Args:
            sources: all "debian:", or all "pypi:" of one release.
            what: what errors call the files.
            told: called with how many there are now.

        Raises:
            ZooError: one can't be had; all of those and why are told.
        """
        missing = [source for source in sources if self._kept([source]) is None]
        if missing:
            self.hold()
            missing = [source for source in missing if self._kept([source]) is None]
        if missing:
            self._fetch_all(missing, what, len(sources) - len(missing), told)
        return [self.path(source) for source in sources]

    def path(self, source: Any) -> Path:
        """Where a source is kept, whether it is there or not: in the cache, or beside the card."""
        where = parse_url(source.url)
        if isinstance(where, Beside):
            return self._beside / where.path
        return self.folder / kept_name(source)

    def _kept(self, sources: Sequence[Any]) -> tuple[Path, Any] | None:
        for source in sources:
            path = self.path(source)
            digest = digest_of_source(source)
            if self._hash(source, digest.algorithm) == digest.value:
                return path, source
        return None

    def _fetch(self, sources: Sequence[Any], what: str) -> tuple[Path, Any]:
        reasons = []
        paths = []
        for source in sources:
            path, digest = self.path(source), digest_of_source(source)
            found = self._hash(source, digest.algorithm)
            if found is not None:
                reasons.append(f"{path}: {wrong_hash(digest, found)}")
            try:
                keep(path, self._chunks(source), source.bytes or MOST_BYTES, digest)
            except ZooError as error:
                reasons.append(f"{source.url}: {error}")
                paths.append(f"{path} ({digest.algorithm} {digest.value})")
            else:
                return path, source
        raise ZooError(
            [
                Problem(
                    f"the {what} of {self.model} can't be had",
                    hint=f"Without a network, put the file there by hand: {' or '.join(paths)}; "
                    f"or let {VARIABLE} name a cache that has it.",
                ),
                *map(Problem, reasons),
            ]
        )

    def _fetch_all(
        self, sources: Sequence[Any], what: str, done: int, told: Callable[[int], None] | None
    ) -> None:
        wanted = {_member_path(source): source for source in sources}
        reasons: list[str] = []
        archive = None
        try:
            for archive in self._package(parse_url(sources[0].url)):
                for name, chunks in read_members(archive, wanted):
                    source = wanted.pop(name)
                    digest = digest_of_source(source)
                    try:
                        keep(self.path(source), chunks, source.bytes or MOST_BYTES, digest)
                    except ZooError as error:
                        reasons.append(f"{source.url}: {error}")
                    done += 1
                    if told:
                        told(done)
                if len(wanted) < len(sources):
                    break  # this is the archive that has them
        except ZooError as error:
            reasons.append(f"{sources[0].url}: {error}")
        else:
            where = archive.name if archive else "the package"
            reasons += [f'{where} holds no "{name}"' for name in wanted]
        if reasons:
            more = [f"and {len(reasons) - 10} more"] if len(reasons) > 10 else []
            raise ZooError(
                [
                    Problem(
                        f"the {what} of {self.model} can't be had",
                        hint=f"Without a network, let {VARIABLE} name a cache that has them.",
                    ),
                    *map(Problem, reasons[:10] + more),
                ]
            )

    def _package(self, where: WebFile | Member | DebianMember | Beside) -> Iterator[Path]:
        """The archives on disk that a package's files may lie in."""
        if isinstance(where, DebianMember):
            yield self._debian_archive(where.package)
        elif isinstance(where, Member):
            yield from map(self._archive, self._index.archives(where.project, where.version))

    def _hash(self, source: Any, algorithm: str) -> str | None:
        """The hash of what is kept. Beside a card no stamp is left: it may be in a package."""
        path = self.path(source)
        if not isinstance(parse_url(source.url), Beside):
            return hash_of(path, algorithm)
        return read_hash(path, algorithm) if path.is_file() else None

    def _chunks(self, source: Any) -> Iterator[bytes]:
        match parse_url(source.url):
            case WebFile(url):
                return self._index.read(url, PurePosixPath(urlsplit(url).path).name)
            case Member() as member:
                return self._member(member)
            case DebianMember(package, path):
                return read_member(self._debian_archive(package), path)
            case Beside(path):
                raise ZooError(f"it is not fetched: {path} belongs beside the card")

    def _debian_archive(self, package: str) -> Path:
        """A package on disk: apt-get has checked it by Debian's own signatures."""
        name = f"debian:{package}"
        if name not in self._archives:
            self._archive_folder.mkdir(exist_ok=True)
            self._archives = {name: download_package(package, self._archive_folder)}
        return self._archives[name]

    def _member(self, where: Member) -> Iterator[bytes]:
        reasons = []
        try:
            for link in self._index.archives(where.project, where.version):
                try:
                    chunks = read_member(self._archive(link), where.path)
                    return itertools.chain([next(chunks, b"")], chunks)
                except ZooError as error:
                    reasons.append(str(error))
        except ZooError as error:
            reasons.append(str(error))
        raise ZooError("; ".join(reasons))

    def _archive(self, link: Link) -> Path:
        """An archive on disk, checked by the index's own hash where it has one."""
        digest = digest_of_link(link)
        if link.is_file:
            path = link.file_path
            if digest and (found := read_hash(path, digest.algorithm)) != digest.value:
                raise ZooError(f"{link.filename}: {wrong_hash(digest, found)}")
            return path
        path = self._archive_folder / link.filename
        if self._archives.get(link.url) != path:
            left = digest and hash_of(path, digest.algorithm) == digest.value
            if not left:  # by a process that was killed
                path.parent.mkdir(exist_ok=True)
                keep(path, self._index.read(link.url, link.filename), MOST_BYTES, digest)
            self._archives = {link.url: path}
        return path

    @property
    def _archive_folder(self) -> Path:
        return self.folder / "archives"
