"""Debian's packages: fetched by apt-get, which a script stands in for here, and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from torrefy.errors import ZooError
from torrefy.zoo.archive import read_member
from torrefy.zoo.sources import Sources

URL = "debian:tiny-data#usr/share/tiny/a.bin"

pytestmark = pytest.mark.usefixtures("cache")


def test_two_files_of_a_package_are_one_download(
    apt: Any, source: Any, archives: Any, tmp_path: Path, cache: Path
) -> None:
    members = {"usr/share/tiny/a.bin": b"a" * 1000, "usr/share/tiny/b.bin": b"bb"}
    (tmp_path / "tiny.deb").write_bytes(archives.deb(members))
    apt(f"cp {tmp_path}/tiny.deb tiny-data_1.0_all.deb")
    with Sources("tiny") as held:
        path, _ = held.get([source(URL, b"a" * 1000)], "pictures")
        held.get([source(URL.replace("a.bin", "b.bin"), b"bb")], "labels")
    assert path.read_bytes() == b"a" * 1000
    assert (tmp_path / "asked").read_text() == "download -q tiny-data\n"
    assert not (cache / "tiny" / "archives").exists()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ('echo "E: Unable to locate package tiny-data" >&2; exit 100',
         "apt-get: Unable to locate package tiny-data. `apt-get update` may help."),
        ("exit 3", "apt-get: exit code 3. `apt-get update` may help."),
        ("true", "apt-get: it fetched no archive. `apt-get update` may help."),
    ],
)  # fmt: skip
def test_what_apt_get_says_is_told(apt: Any, source: Any, script: str, message: str) -> None:
    apt(script)
    with Sources("tiny") as held, pytest.raises(ZooError) as error:
        held.get([source(URL, b"a")], "pictures")
    assert str(error.value.problems[1]) == f"{URL}: {message}"


def test_a_machine_without_apt_get_is_told(
    source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with Sources("tiny") as held, pytest.raises(ZooError) as error:
        held.get([source(URL, b"a")], "pictures")
    assert str(error.value.problems[1]) == (
        f"{URL}: there is no apt-get here, which fetches Debian's packages"
    )


def test_a_missing_file_of_a_package_tells_the_nearest(tmp_path: Path, archives: Any) -> None:
    path = tmp_path / "t_1_all.deb"
    path.write_bytes(archives.deb({"usr/share/weights.bin": b""}))
    with pytest.raises(ZooError) as error:
        next(read_member(path, "usr/share/weight.bin"))
    assert str(error.value) == (
        't_1_all.deb holds no "usr/share/weight.bin". Did you mean "usr/share/weights.bin"?'
    )


def test_a_package_that_is_broken_is_told_by_its_name(tmp_path: Path, archives: Any) -> None:
    path = tmp_path / "t_1_all.deb"
    whole = archives.deb({"m": bytes(range(256)) * 64})
    backwards = b"!<arch>\n" + f"{'x':<16}{'':<32}{-60:<10}`\n".encode()
    for data in (b"", b"no package", whole[:-200], b"!<arch>\n", whole[:80], backwards):
        path.write_bytes(data)
        with pytest.raises(ZooError, match=r"t_1_all.deb can't be read: "):
            list(read_member(path, "m"))


def test_a_packing_that_python_has_not_is_told(tmp_path: Path, archives: Any) -> None:
    path = tmp_path / "t_1_all.deb"
    path.write_bytes(archives.deb({"m": b""}, "data.tar.zst"))
    with pytest.raises(ZooError) as error:
        next(read_member(path, "m"))
    assert str(error.value) == (
        "t_1_all.deb can't be read: its files are in data.tar.zst, which can't be unpacked"
    )
