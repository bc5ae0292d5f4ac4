"""Files that appear whole or not at all: their modes, links, and what killed processes leave."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serpent.errors import SerpentError, UsageError
from serpent.files import check_writable_target, locked, remove_abandoned, written_aside

ENDLESS_WRITER = """
import sys, time
from pathlib import Path
from serpent.files import written_aside
with written_aside(Path(sys.argv[1])) as aside:
    aside.write_bytes(b"half")
    print(aside, flush=True)
    time.sleep(600)
"""


def write(path: Path, content: bytes = b"new") -> None:
    with written_aside(path) as aside:
        aside.write_bytes(content)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    flushed: list[tuple[bytes, bool]] = []

    def flush(handle: int) -> None:
        flushed.append((Path(f"/proc/self/fd/{handle}").read_bytes(), path.exists()))

    def fail(_handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", flush)
    write(path)
    assert flushed == [(b"new", False)]
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(SerpentError, match=r"cannot write .*a\.png: Input/output error"):
        write(path, b"newer")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("kept", [0o600, 0o444, 0o666, 0o4755])
def test_a_file_that_is_replaced_hands_on_its_mode_and_owner(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    owner = (1234, 5678) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(path, *owner)
    path.chmod(kept)
    write(path)
    found = path.stat()
    assert (path.read_bytes(), mode(path), (found.st_uid, found.st_gid)) == (b"new", kept, owner)


@pytest.mark.usefixtures("umask")
def test_an_owner_that_the_system_refuses_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    path.chmod(0o600)
    monkeypatch.setattr(os, "chown", refusing)
    write(path)
    assert (path.read_bytes(), mode(path)) == (b"new", 0o600)


@pytest.mark.usefixtures("umask")
def test_a_new_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    assert mode(tmp_path / "a.png") == 0o640


def test_no_other_thread_loses_its_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(_: int) -> int:
        raise AssertionError("the umask is the whole process's, and is only told by setting it")

    monkeypatch.setattr(os, "umask", asked)
    write(tmp_path / "a.png")
    write(tmp_path / "a.png")


def test_a_link_stays_and_what_it_names_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "near").mkdir()
    original, link, chain = tmp_path / "far" / "a.png", tmp_path / "near" / "b.png", tmp_path / "c.png"
    original.write_bytes(b"old")
    original.chmod(0o600)
    link.symlink_to("../far/a.png")
    chain.symlink_to(link)
    check_writable_target(chain, overwrite=True)
    write(chain)
    assert (original.read_bytes(), mode(original)) == (b"new", 0o600)
    assert (link.readlink(), chain.readlink()) == (Path("../far/a.png"), link)
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["a.png", "b.png", "c.png"]


def test_a_link_to_what_is_not_there_yet(tmp_path: Path) -> None:
    link = tmp_path / "link.png"
    link.symlink_to("far/a.png")
    with pytest.raises(UsageError, match=r"the folder .*/far does not exist"):
        check_writable_target(link, overwrite=True)
    (tmp_path / "far").mkdir()
    check_writable_target(link, overwrite=True)
    write(link)
    assert (link.is_symlink(), (tmp_path / "far" / "a.png").read_bytes()) == (True, b"new")


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    own = tmp_path / ".photo-original.png"  # hidden and with a hyphen, as temporary files are, and somebody's
    own.write_bytes(b"mine")
    command = [sys.executable, "-c", ENDLESS_WRITER, str(tmp_path / "photo.png")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        aside = Path(writer.stdout.readline().strip())
        remove_abandoned(tmp_path)
        assert aside.read_bytes() == b"half"
        writer.kill()
    assert aside.exists()
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == [own]


def test_a_file_removed_before_it_is_locked_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Path] = []
    flock = fcntl.flock

    def late(lock: int, kind: int) -> None:
        if not taken:
            taken.extend(tmp_path.iterdir())
            taken[0].unlink()
        flock(lock, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    with written_aside(tmp_path / "a.png") as aside:
        assert aside.exists()
        assert [aside] != taken
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_without_locks_files_are_written_and_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with written_aside(tmp_path / "a.png") as aside:
        remove_abandoned(tmp_path)
        assert aside.exists()
    remove_abandoned(tmp_path / "absent")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_lock_keeps_others_out_and_those_who_look_do_not(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(FileNotFoundError):
        locked(path, shared=True)
    with locked(path):
        for shared in (False, True):
            with pytest.raises(BlockingIOError):
                locked(path, shared=shared)
    with locked(path, shared=True), locked(path, shared=True):
        pass
    locked(path).close()


def test_without_locks_nobody_is_kept_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    for name, value in (("fcntl.flock", unsupported), ("serpent.files.fcntl", None)):
        monkeypatch.setattr(name, value)
        with locked(tmp_path / "lock"), locked(tmp_path / "lock", shared=True):
            pass


def test_a_system_without_fcntl_and_owners_writes_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serpent.files.fcntl", None)
    monkeypatch.delattr(os, "chown")
    write(tmp_path / "a.png", b"old")
    write(tmp_path / "a.png")
    remove_abandoned(tmp_path)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.png", b"new")]
