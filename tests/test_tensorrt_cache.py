"""The cache folder: whole entries, one writer at a time, nothing believed that is damaged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serpent.runtime import tensorrt_cache as cache

WRITER = """
import sys
from serpent.runtime import tensorrt_cache as cache
for _ in range(40):
    assert cache.store("entry", sys.argv[1].encode() * 20000)
    found = cache.load("entry")
    assert found is not None and len(found) == 20000 and len(set(found)) == 1, found and len(found)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "serpent"


def test_what_was_stored_is_loaded_from_a_folder_of_the_users_own(folder: Path) -> None:
    assert cache.load("entry") is None
    assert cache.store("entry", b"content")
    assert cache.load("entry") == b"content"
    assert cache.store("entry", b"")
    assert cache.load("entry") == b""
    assert folder.stat().st_mode & 0o077 == 0


def test_a_relative_folder_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.cache_folder() == Path.home() / ".cache" / "serpent"


def test_a_user_without_a_home_has_no_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 5)  # that of no account
    assert cache.load("entry") is None
    assert not cache.store("entry", b"content")


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:10], lambda data: data + b"x", lambda _: b""]
)
def test_a_damaged_entry_counts_as_none(folder: Path, damage: object) -> None:
    cache.store("entry", b"content")
    path = folder / "entry"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert cache.load("entry") is None


def test_names_depend_on_every_part() -> None:
    names = {cache.entry_name(*parts) for parts in (("a", "b", "c"), ("a", "bc"), ("a", "c", "b"), ("x", "b", "c"))}
    assert len(names) == 4


def test_several_processes_may_write_at_once(folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WRITER]
    writers = [subprocess.Popen([*command, letter], env=environment, stderr=subprocess.PIPE) for letter in "abc"]
    assert [(writer.wait(), writer.communicate()[1]) for writer in writers] == [(0, b"")] * 3
    assert sorted(path.name for path in folder.iterdir()) == ["entry", "entry.lock"]


def test_a_folder_that_cannot_be_written_is_no_error(folder: Path) -> None:
    folder.parent.joinpath("serpent").write_text("a file")
    assert not cache.store("entry", b"content")
    assert cache.load("entry") is None
