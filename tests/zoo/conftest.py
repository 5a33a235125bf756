"""A package index of tiny archives on this machine, a cache of its own, and a zoo to test with."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import struct
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from torrefy.plugins import added, hookimpl
from torrefy.schema import parse_text


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, by TORREFY_CACHE."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TORREFY_CACHE", str(folder))
    return folder


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of pip's, whatever this machine has."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


def wheel(members: dict[str, bytes]) -> bytes:
    """A wheel's bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def sdist(top: str, members: dict[str, bytes]) -> bytes:
    """A source archive's bytes: everything in one folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def deb(members: dict[str, bytes], inside: str = "data.tar.xz") -> bytes:
    """A Debian package's bytes: an ar archive with a tar archive in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    made = b"!<arch>\n"
    for name, data in (("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"),
                       (inside, buffer.getvalue())):  # fmt: skip
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
        made += head + data + b"\n" * (len(data) % 2)
    return made


def idx(array: np.ndarray[Any, Any]) -> bytes:
    """An array of bytes as an idx file."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`apt(script)` puts an apt-get on the path that does what the script says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")

    def make(script: str) -> None:
        program = folder / "apt-get"
        program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n{script}\n')
        program.chmod(0o755)

    return make


@dataclass
class Shelf:
    """An index on this machine: a folder that a web server on the loopback shows."""

    folder: Path
    port: int = 0
    asked: list[str] = field(default_factory=list)
    """The paths asked for, in order."""
    cut: bool = False
    """Whether files break off in the middle."""
    gate: threading.Event = field(default_factory=threading.Event)
    """Files stop in the middle until it is set."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def add(self, project: str, name: str, data: bytes, digest: str | None = None) -> None:
        """Put an archive of a project on the shelf; the page gives its hash, or the one given."""
        folder = self.folder / project
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest() if digest is None else digest
        page = folder / "index.html"
        known = page.read_text() if page.exists() else "<!DOCTYPE html>\n"
        page.write_text(f'{known}<a href="{name}#sha256={digest}">{name}</a><br>\n')

    def archives_asked(self) -> list[str]:
        return [path for path in self.asked if not path.endswith("/")]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a Shelf; archives slowly or cut off where that is wanted."""

    def __init__(self, *args: Any, shelf: Shelf, **kwargs: Any) -> None:
        self.shelf = shelf
        super().__init__(*args, directory=str(shelf.folder), **kwargs)

    def do_GET(self) -> None:
        self.shelf.asked.append(self.path)
        super().do_GET()

    def copyfile(self, source: Any, outputfile: Any) -> None:
        data = source.read()
        if self.path.endswith("/"):
            outputfile.write(data)
            return
        outputfile.write(data[: len(data) // 2])
        outputfile.flush()
        if self.shelf.cut:
            self.close_connection = True
            return
        self.shelf.gate.wait(30)
        try:
            outputfile.write(data[len(data) // 2 :])
        except OSError:
            pass  # the other side was killed, as some tests want

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def shelf(tmp_path: Path, no_pip: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    """An index on the loopback, which pip's settings name as the only one."""
    made = Shelf(tmp_path / "simple")
    made.folder.mkdir()
    made.gate.set()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, shelf=made))
    server.daemon_threads = True
    made.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("PIP_INDEX_URL", made.url)
    yield made
    made.gate.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def archives() -> SimpleNamespace:
    """How to make them: `archives.wheel(members)`, `.sdist(top, members)`, `.deb`, `.idx`."""
    return SimpleNamespace(wheel=wheel, sdist=sdist, deb=deb, idx=idx)


@pytest.fixture(scope="session")
def source() -> Callable[..., Any]:
    """A Source message for a URL and the data that it should give."""

    def make(url: str, data: bytes, **fields: Any) -> Any:
        message = parse_text(f'url: "{url}"', "torrefy.Source").message
        message.sha256 = hashlib.sha256(data).hexdigest()
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    return make


CARD = """name: "tiny"
title: "Tiny"
input {
  width: 8
  height: 8
  mean: [1, 2, 3]
}
classes: 2
label: "cat"
label: "dog"
weights {
  url: "pypi:tiny==1.0#tiny/weights.caffemodel"
  sha256: "HASH"
}
"""
"""The lines of the card that tests change."""


@dataclass
class Zoo:
    """A plugin's zoo with the model `tiny`."""

    folder: Path
    card: Path

    @hookimpl
    def torrefy_zoo_paths(self) -> list[Path]:
        return [self.folder]

    def change(self, old: str, new: str) -> None:
        """Write the card with one text in the place of another."""
        text = self.card.read_text()
        assert old in text
        self.card.write_text(text.replace(old, new))


@pytest.fixture
def zoo(tmp_path: Path) -> Iterator[Zoo]:
    """A zoo of one model, registered as a plugin's; its weights hash as b"weights"."""
    folder = tmp_path / "zoo"
    model = folder / "tiny"
    model.mkdir(parents=True)
    (model / "net.prototxt").write_text('name: "tiny"\n')
    made = Zoo(folder, model / "card.prototxt")
    made.card.write_text(CARD.replace("HASH", hashlib.sha256(b"weights").hexdigest()))
    with added(made, "made"):
        yield made
