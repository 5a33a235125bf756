"""pip's settings: which package indexes a user wants asked, and how."""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from torrefy.errors import Place, ZooError

SECTIONS = ("global", "download")
"""Those that `pip download` reads."""


@dataclass(frozen=True)
class PipSettings:
    """The part of pip's settings that fetching needs; empty where pip's default holds."""

    index_url: str = ""
    extra_index_url: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    trusted_host: tuple[str, ...] = ()
    cert: str = ""
    client_cert: str = ""
    proxy: str = ""
    timeout: float = 15.0


def read_pip_settings(environ: Mapping[str, str] = os.environ) -> PipSettings:
    """Read pip's configuration files and PIP_* variables as pip documents them, without pip.

    The files for all users, the user, the virtual environment and PIP_CONFIG_FILE are read in
    this order, the sections [global] and [download]; a later one wins, the environment's
    variables over all. Proxies (HTTPS_PROXY and the like) and passwords (.netrc, keyring) are
    the client's own business.

    Raises:
        ZooError: a file can't be read, or a setting has a wrong value.
    """
    values: dict[str, tuple[str, str]] = {}
    for section in SECTIONS:
        for path in _files(environ):
            values.update({key: (text, str(path)) for key, text in _read(path, section)})
    for name, text in environ.items():
        if name.startswith("PIP_") and text:
            values[_key(name[4:])] = (text, f"${name}")

    def one(key: str) -> str:
        return values.get(key, ("", ""))[0].strip()

    def several(key: str) -> tuple[str, ...]:
        return tuple(one(key).split())

    timeout = "timeout" if "timeout" in values else "default-timeout"
    try:
        seconds = float(one(timeout) or PipSettings.timeout)
    except ValueError:
        found, place = values[timeout]
        raise ZooError(
            f"pip's {timeout} takes a number, found {found!r}", place=Place(place)
        ) from None
    return PipSettings(
        index_url=one("index-url"),
        extra_index_url=several("extra-index-url"),
        find_links=several("find-links"),
        no_index=one("no-index").lower() in ("y", "yes", "t", "true", "on", "1"),
        trusted_host=several("trusted-host"),
        cert=one("cert"),
        client_cert=one("client-cert"),
        proxy=one("proxy"),
        timeout=seconds,
    )


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    """The configuration files of pip, the one that wins last."""
    named = environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return
    name = "pip.ini" if sys.platform == "win32" else "pip.conf"
    for folder in platformdirs.site_config_dir("pip", appauthor=False, multipath=True).split(
        os.pathsep
    ):
        yield Path(folder, name)
    if sys.platform not in ("win32", "darwin"):
        yield Path("/etc", name)
    if not (named and Path(named).exists()):  # as pip: the named file stands in for the user's
        home = Path.home()
        yield home / ("pip" if sys.platform == "win32" else ".pip") / name
        if sys.platform == "darwin":
            yield home / ".config" / "pip" / name
        yield Path(platformdirs.user_config_dir("pip", appauthor=False, roaming=True), name)
    yield Path(sys.prefix, name)
    if named:
        yield Path(named)


def _read(path: Path, section: str) -> Iterator[tuple[str, str]]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except configparser.Error as error:
        raise ZooError(
            f"pip's settings can't be read: {error.message}", place=Place(str(path))
        ) from error
    except (OSError, UnicodeDecodeError):
        return  # pip passes over what it may not read
    if parser.has_section(section):
        for name, text in parser.items(section):
            yield _key(name), text


def _key(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("--")
