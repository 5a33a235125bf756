"""pip's settings, read from its files and variables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torrefy.errors import ZooError
from torrefy.zoo.pip_settings import PipSettings, read_pip_settings


def test_without_settings_it_is_all_pips_default() -> None:
    assert read_pip_settings({"PIP_CONFIG_FILE": os.devnull}) == PipSettings()


def test_a_named_file_gives_its_sections_global_and_download(tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\n"
        "index-url = https://index.example/simple\n"
        "extra_index_url =\n    file:///a/simple\n    file:///b/simple\n"
        "timeout = 7\n"
        "proxy = https://proxy.example:3128\n"
        "[download]\n"
        "no-index = true\n"
        "--find-links = /wheels\n"
        "[install]\n"
        "trusted-host = host.example\n"
    )
    settings = read_pip_settings({"PIP_CONFIG_FILE": str(file), "PIP_TRUSTED_HOST": ""})
    assert settings.index_url == "https://index.example/simple"
    assert settings.extra_index_url == ("file:///a/simple", "file:///b/simple")
    assert settings.find_links == ("/wheels",)
    assert settings.no_index
    assert settings.timeout == 7
    assert settings.proxy == "https://proxy.example:3128"
    assert settings.trusted_host == ()


def test_variables_win_over_files(tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text("[global]\nindex-url = https://file.example\ncert = /file.pem\n")
    settings = read_pip_settings(
        {
            "PIP_CONFIG_FILE": str(file),
            "PIP_INDEX_URL": "https://variable.example",
            "PIP_FIND_LINKS": "/a /b",
            "PIP_TRUSTED_HOST": "one two:8080",
            "PIP_DEFAULT_TIMEOUT": "180",
        }
    )
    assert settings.index_url == "https://variable.example"
    assert settings.cert == "/file.pem"
    assert settings.find_links == ("/a", "/b")
    assert settings.trusted_host == ("one", "two:8080")
    assert settings.timeout == 180


@pytest.mark.skipif(os.name == "nt", reason="other folders")
def test_the_users_file_is_read_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (tmp_path / ".config" / "pip").mkdir(parents=True)
    (tmp_path / ".config" / "pip" / "pip.conf").write_text("[download]\ncert = /user.pem\n")
    assert read_pip_settings({}).cert == "/user.pem"
    named = tmp_path / "named.conf"
    named.write_text("[download]\ncert = /named.pem\n")
    assert read_pip_settings({"PIP_CONFIG_FILE": str(named)}).cert == "/named.pem"


def test_a_file_that_is_no_settings_is_told_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text("index-url = x\n")
    with pytest.raises(ZooError) as error:
        read_pip_settings({"PIP_CONFIG_FILE": str(file)})
    assert str(error.value).startswith(f"{file}: pip's settings can't be read: File contains no")


def test_a_wrong_number_is_told_with_its_place() -> None:
    with pytest.raises(ZooError) as error:
        read_pip_settings({"PIP_CONFIG_FILE": os.devnull, "PIP_TIMEOUT": "soon"})
    assert str(error.value) == "$PIP_TIMEOUT: pip's timeout takes a number, found 'soon'"
